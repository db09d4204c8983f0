#!/usr/bin/env node
/**
 * A real Pi, from npm, with the extension, an empty home and the model that is built into ds4.
 *
 * Usage: node test/pi.mjs [DS4 [PART…]]: the program (../target/debug/ds4), and which parts of the list below. Needs npm, and the
 * internet the first time; the part `looks` needs `script`, of util-linux.
 */

import { appendFileSync, existsSync } from "node:fs";
import { resolve } from "node:path";
import { freePort, Home, Talk, Terminal, until } from "./pi/driver.mjs";
import { agreesWithTypes, installPi, ROOT } from "./pi/install.mjs";

const QUESTION = "What is 7 + 8?";
/** Longer than the watch over leases may take. */
const GONE_MS = 75_000;

let faults = 0;

function check(what, holds, seen) {
  if (!holds) faults += 1;
  console.log(`${holds ? "ok  " : "FAIL"} ${what}${holds || seen === undefined ? "" : `: ${JSON.stringify(seen)}`}`);
}

async function gone(home) {
  return until(() => home.status().state === "stopped" && home.status().leases.length === 0, GONE_MS);
}

const PARTS = {
  async types() {
    check("the code agrees with Pi's types", agreesWithTypes());
  },

  /** One prompt in each protocol: started, answered, gone. */
  async prints(stage) {
    for (const protocol of ["openai", "responses", "anthropic"]) {
      const home = await stage({ protocol, profile: "audreyt" });
      const { code, stdout, stderr } = await home.print(QUESTION, "--thinking", "off");
      check(`${protocol}: the model answers`, code === 0 && stdout === "15", { code, stdout, stderr });
      check(`${protocol}: what is done is told beside it`, stderr.startsWith("ds4: preparing ds4-server\n"), stderr);
      const [request = {}, ...others] = home.requests();
      const off = request.thinking?.type === "disabled" || request.reasoning?.effort === "none";
      check(`${protocol}: one request, with the seed, and without thinking`, request.seed === 42 && off && others.length === 0, [
        request.seed, request.thinking, request.reasoning, others.length,
      ]);
      check(`${protocol}: the server ends with Pi`, await gone(home), home.status());
    }
  },

  /** A long life: lazy start, reload, new session, a server that dies, and the end. */
  async lives(stage) {
    const home = await stage({});
    const pi = new Talk(home);
    await pi.command({ type: "get_state" });
    check("nothing is started before it is asked", home.status().state === "stopped");
    const answer = await pi.ask(QUESTION);
    check("the first request starts the server", answer?.endsWith("15"), answer);
    const [first, last] = [pi.notes()[0], pi.notes().at(-1)];
    check("it says so", first === "preparing ds4-server" && last === "ds4-server ready", pi.notes());
    const { pid } = home.status();
    const same = () => home.status().pid === pid && home.status().leases.some((lease) => lease.pid === pi.child.pid);
    const said = pi.notes().length;
    await pi.ask("hello");
    const thought = home.requests().at(-1).messages.find((message) => message.role === "assistant");
    check("what was thought goes back once, beside the text", thought?.reasoning_content && thought.content === "15", thought);
    await pi.command({ type: "prompt", message: "/reload-all" });
    check("a reload keeps the lease", same(), home.status());
    await pi.ask("hello");
    await pi.command({ type: "new_session" });
    await pi.ask("hello");
    check("so does a new session, and the server is the same", same(), home.status());
    check("without a word", pi.notes().length === said, pi.notes());
    await pi.command({ type: "prompt", message: "/ds4" });
    check("/ds4 says where the log is", pi.notes().at(-1) === `ds4 log: ${home.state}/log`, pi.notes());
    await pi.command({ type: "prompt", message: "/ds4 status" });
    check("/ds4 status says what runs", pi.notes().at(-1).startsWith("ds4-server running, at http://127.0.0.1:"), pi.notes());
    const mini = resolve(`${ROOT}/../mini/v4-mini.gguf`);
    home.up("--model", mini, "--for-pid", String(pi.child.pid));
    check("another process can switch to another file, whose name is the same", home.model() === mini, home.status());
    await pi.ask("hello");
    check("the next request switches back", home.model() === undefined && !same(), home.status());
    const second = home.status().pid;
    process.kill(second, "SIGKILL");
    const again = await pi.ask(QUESTION);
    check("a server that was killed is started again", again?.endsWith("15") && home.status().pid !== second, again);
    await pi.quit();
    check("the server ends with Pi", await gone(home), home.status());
    check("nothing was wrong on the way", pi.errors === "", pi.errors);
  },

  /** Two in one home, and a server that is somewhere else than the second one thinks. */
  async shares(stage) {
    const home = await stage({});
    const [one, two] = [new Talk(home), new Talk(home)];
    const answers = await Promise.all([one.ask(QUESTION), two.ask(QUESTION)]);
    check("two that start at once share a server", answers.every((answer) => answer?.endsWith("15")), answers);
    check("each has a lease", home.status().leases.length === 2, home.status());
    await one.quit();
    check("the end of one leaves the server to the other", (await two.ask(QUESTION))?.endsWith("15"));
    const third = await home.print(QUESTION);
    check("a third finds it", third.code === 0 && third.stdout.endsWith("15"), third);
    two.child.kill("SIGKILL");
    check("the server ends after the last was killed", await gone(home), home.status());
  },

  /** A model that cannot be: one try, a clear word, and an end. */
  async fails(stage) {
    const home = await stage({ model: "no-such-model" });
    const { code, stderr } = await home.print(QUESTION);
    check("a start that fails says which model", code !== 0 && stderr.includes("no-such-model"), { code, stderr });
    const pi = new Talk(home);
    for (const _ of [1, 2]) await pi.ask(QUESTION);
    const failures = pi.notes().filter((note) => note.startsWith("ds4-server startup failed: "));
    check("each prompt fails once, with the same words", failures.length === 2 && failures[0] === failures[1], pi.notes());
    check("the second does not try", pi.notes().filter((note) => note === "preparing ds4-server").length === 1, pi.notes());
    await pi.quit();
  },

  /** Esc while the server starts: the start ends, and nothing is wrong. */
  async givesUp(stage) {
    const home = await stage({});
    const script = `case $1 in up) trap 'touch "$HOME/ended"; exit 130' TERM; while :; do sleep 0.1; done;; *) exit 1;; esac`;
    home.use(`#!/bin/sh\n${script}\n`);
    const pi = new Talk(home);
    await pi.command({ type: "prompt", message: QUESTION });
    await until(() => pi.notes().includes("preparing ds4-server"));
    await pi.command({ type: "abort" });
    check("giving up ends the start", await until(() => existsSync(`${home.path}/ended`)));
    check("and is no failure", pi.notes().length === 1, pi.notes());
    await pi.quit();
  },

  /** The log in a terminal, by its keys. */
  async looks(stage) {
    const home = await stage({});
    appendFileSync(`${home.state}/log`, Array.from({ length: 100 }, (_, i) => `line ${i}\n`).join(""));
    const terminal = new Terminal(home);
    check("Pi is there", await terminal.shows("deepseek-v4-flash"), terminal.screen);
    await terminal.types("/ds4");
    check("/ds4 shows the end of the log", (await terminal.presses("\r", "ds4 log • live")) && (await terminal.shows("line 99")), terminal.screen);
    check("a key goes up", await terminal.presses("k", "1 lines up"), terminal.screen);
    check("and down", await terminal.presses("j", "ds4 log • live"), terminal.screen);
    check("the log is followed", await terminal.after(() => appendFileSync(`${home.state}/log`, "a new line\n"), "a new line"), terminal.screen);
    await terminal.presses("q", "");
    await terminal.types(QUESTION);
    check("and Pi goes on", await terminal.presses("\r", "ds4-server ready"), terminal.screen);
    await terminal.quit();
    check("the server ends with Pi", await gone(home), home.status());
  },

  /** A prompt that is too long is one that Pi knows how to shorten. */
  async overflows(stage) {
    for (const protocol of ["openai", "responses", "anthropic"]) {
      const home = await stage({ protocol, contextKb: 6 });
      const pi = new Talk(home);
      await pi.ask(QUESTION);
      await pi.ask(`Read this: ${"one two three four ".repeat(2000)}`);
      const reasons = pi.records.filter((record) => record.type === "compaction_start").map((record) => record.reason);
      const ends = pi.records.filter((record) => record.type === "turn_end").map(({ message }) => message.errorMessage ?? message.stopReason);
      check(`${protocol}: Pi sees that the context is full`, reasons.includes("overflow"), { reasons, ends, notes: pi.notes(), errors: pi.errors });
      await pi.quit();
    }
  },
};

const [program = `${ROOT}/../target/debug/ds4`, ...names] = process.argv.slice(2);
const pi = installPi();
for (const [name, part] of Object.entries(PARTS)) {
  if (names.length > 0 && !names.includes(name)) continue;
  const homes = [];
  const stage = async (settings) => {
    const home = new Home(pi, resolve(program), { port: await freePort(), ...settings });
    homes.push(home);
    return home;
  };
  try {
    await part(stage);
  } catch (error) {
    check(`${name}: ${error.stack}`, false);
  }
  homes.forEach((home) => home.remove());
}
console.log(faults === 0 ? "all is well" : `${faults} faults`);
process.exit(faults === 0 ? 0 : 1);
