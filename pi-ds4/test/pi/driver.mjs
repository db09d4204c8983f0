/** Runs Pi with an empty home: once for a prompt, or as a process that is talked to. */

import { execFile, spawn, spawnSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { ROOT } from "./install.mjs";

const PATIENCE_MS = 120_000;
const MODEL = ["--model", "ds4/deepseek-v4-flash"];
const WITNESS = join(import.meta.dirname, "witness.js");

export const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** Waits until something is so; false if it never is. */
export async function until(what, patience = PATIENCE_MS) {
  for (const end = Date.now() + patience; Date.now() < end; await sleep(100)) if (await what()) return true;
  return false;
}

export function freePort() {
  return new Promise((resolve) => {
    const server = createServer().listen(0, "127.0.0.1", () => {
      const { port } = server.address();
      server.close(() => resolve(port));
    });
  });
}

/** A home with the extension in it, and settings of its own. */
export class Home {
  constructor(pi, program, settings) {
    this.pi = pi;
    this.program = program;
    this.path = mkdtempSync(join(tmpdir(), "pi-ds4-home-"));
    this.state = join(this.path, ".pi", "ds4");
    this.witness = join(this.path, "requests");
    const extensions = join(this.path, ".pi", "agent", "extensions");
    for (const folder of [this.state, extensions, join(this.path, "work")]) mkdirSync(folder, { recursive: true });
    symlinkSync(ROOT, join(extensions, "pi-ds4"));
    symlinkSync(WITNESS, join(extensions, "witness.js")); // loaded after it, so that it sees what it makes of a request
    // So that there is something to shorten in a conversation as short as those here.
    writeFileSync(join(extensions, "..", "settings.json"), JSON.stringify({ compaction: { keepRecentTokens: 50, reserveTokens: 50 } }));
    this.settings = { binary: program, model: "mini", ...settings };
    this.save();
  }

  save() {
    writeFileSync(join(this.state, "settings.json"), JSON.stringify(this.settings));
  }

  /** Another program instead of ds4, a script. */
  use(script) {
    this.settings.binary = join(this.path, "ds4");
    writeFileSync(this.settings.binary, script, { mode: 0o755 });
    this.save();
  }

  environment() {
    const keep = ["PATH", "LANG", "TERM"].filter((name) => process.env[name] !== undefined);
    const kept = Object.fromEntries(keep.map((name) => [name, process.env[name]]));
    // A lock of its own: other homes' servers may run beside.
    const own = { HOME: this.path, DS4_LOCK_FILE: join(this.path, "ds4.lock"), WITNESS: this.witness };
    return { ...kept, ...own, PI_OFFLINE: "1", NO_COLOR: "1" };
  }

  /** Options of a process in this home. */
  options() {
    return { cwd: join(this.path, "work"), env: this.environment() };
  }

  arguments(...more) {
    return [this.pi.cli, ...MODEL, ...more];
  }

  /** What `pi -p` prints, and how it ends. */
  print(prompt, ...more) {
    return new Promise((resolve) => {
      const options = { ...this.options(), timeout: PATIENCE_MS, encoding: "utf8" };
      const child = execFile(this.pi.node, this.arguments(...more, "-p", prompt), options, (error, stdout, stderr) => {
        resolve({ code: error ? error.code : 0, stdout: stdout.trim(), stderr: stderr.trim() });
      });
      child.stdin.end();
    });
  }

  /** What the program says. */
  status() {
    const { stdout } = spawnSync(this.program, ["status", "--json"], { ...this.options(), encoding: "utf8" });
    return JSON.parse(stdout);
  }

  /** Starts or switches the server, as another process of this home. */
  up(...args) {
    spawnSync(this.program, ["up", "--port", String(this.settings.port), ...args], this.options());
  }

  /** The file of the server's model; nothing for the built-in one. */
  model() {
    return JSON.parse(readFileSync(join(this.state, "server.json"), "utf8")).modelPath;
  }

  /** The requests that went out. */
  requests() {
    if (!existsSync(this.witness)) return [];
    return readFileSync(this.witness, "utf8").trim().split("\n").map((line) => JSON.parse(line));
  }

  remove() {
    spawnSync(this.program, ["down", "--force"], this.options());
    rmSync(this.path, { recursive: true, force: true, maxRetries: 5 });
  }
}

/** A Pi that is talked to: `--mode rpc`. */
export class Talk {
  constructor(home) {
    this.child = spawn(home.pi.node, home.arguments("--mode", "rpc"), { ...home.options(), stdio: ["pipe", "pipe", "pipe"] });
    this.records = [];
    this.errors = "";
    createInterface({ input: this.child.stdout }).on("line", (line) => this.records.push(JSON.parse(line)));
    this.child.stderr.on("data", (data) => (this.errors += data));
    this.ended = new Promise((resolve) => this.child.on("exit", resolve));
  }

  /** Notifications so far. */
  notes() {
    return this.records.filter((record) => record.method === "notify").map((record) => record.message);
  }

  /** Sends a command, and its response. */
  async command(command) {
    const id = `command-${this.records.length}`;
    this.child.stdin.write(`${JSON.stringify({ id, ...command })}\n`);
    const answer = () => this.records.find((record) => record.type === "response" && record.id === id);
    if (!(await until(answer))) throw new Error(`no response to ${command.type}; ${this.errors}`);
    return answer();
  }

  /** What the model answers; null if there is no answer. */
  async ask(message) {
    const settled = () => this.records.filter((record) => record.type === "agent_settled").length;
    const before = settled();
    await this.command({ type: "prompt", message });
    if (!(await until(() => settled() > before))) throw new Error(`no end of ${message}; ${this.errors}`);
    return (await this.command({ type: "get_last_assistant_text" })).data.text;
  }

  /** The orderly end. */
  async quit() {
    this.child.stdin.end();
    return this.ended;
  }
}

/** A Pi in a terminal of 100 columns and 30 rows, which `script` (util-linux) makes. */
export class Terminal {
  constructor(home) {
    const quoted = [home.pi.node, ...home.arguments()].map((word) => `'${word}'`).join(" ");
    const options = { ...home.options(), stdio: "pipe" };
    options.env.TERM = "xterm-256color";
    this.child = spawn("script", ["-qfec", `stty rows 30 cols 100; exec ${quoted}`, "/dev/null"], options);
    this.screen = "";
    this.child.stdout.on("data", (data) => (this.screen += data));
    this.ended = new Promise((resolve) => this.child.on("exit", resolve));
  }

  /** Whether a text comes to the screen from now on, or has come since the last action. */
  shows(text) {
    return until(() => this.screen.includes(text), 20_000);
  }

  /** Does something, and whether a text comes then. */
  async after(action, text) {
    this.screen = "";
    action();
    return this.shows(text);
  }

  presses(keys, text) {
    return this.after(() => this.child.stdin.write(keys), text);
  }

  /** A line, without its end; Pi may take a moment to be ready for the next key. */
  async types(line) {
    this.child.stdin.write(line);
    await sleep(1000);
  }

  async quit() {
    this.child.stdin.write("\u0003");
    await sleep(200);
    this.child.stdin.write("\u0003");
    return this.ended;
  }
}
