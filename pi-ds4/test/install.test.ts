import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { existsSync, lstatSync, mkdirSync, readdirSync, readFileSync, readlinkSync, realpathSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { folder } from "./helpers.ts";

const ROOT = realpathSync(join(import.meta.dirname, "..", ".."));
const SCRIPT = join(ROOT, "install-pi-extension-local.sh");

/** A home, and a checkout of ds4 in it. */
function stage(t: TestContext) {
  const home = realpathSync(folder(t));
  const checkout = join(home, "a checkout");
  mkdirSync(join(checkout, "crates", "cli"), { recursive: true });
  writeFileSync(join(checkout, "Cargo.toml"), "");
  const run = (...args: string[]) => {
    const env = { PATH: process.env["PATH"], HOME: home };
    const { status, stdout, stderr } = spawnSync("sh", [SCRIPT, ...args], { env, encoding: "utf8" });
    return { status, stdout, stderr };
  };
  const state = join(home, ".pi", "ds4");
  return { home, checkout, run, state, support: join(state, "support"), extension: join(home, ".pi", "agent", "extensions", "pi-ds4") };
}

/** A support folder with models, as one of the earlier extensions left it. */
function old(support: string, files: Record<string, string>): void {
  mkdirSync(join(support, "gguf"), { recursive: true });
  for (const [name, text] of Object.entries(files)) writeFileSync(join(support, "gguf", name), text);
}

const backups = (state: string) => readdirSync(state).filter((name) => name.startsWith("support.backup."));

test("it links the extension and the checkout, again and again", (t) => {
  const { checkout, run, support, extension } = stage(t);
  for (const _ of [1, 2]) {
    const { status, stdout, stderr } = run(checkout);
    assert.equal(status, 0, stderr);
    assert.match(stdout, /Start pi again, or \/reload/);
    assert.equal(readlinkSync(extension), ROOT);
    assert.equal(readlinkSync(support), checkout);
  }
});

test("a link of an earlier installation elsewhere is replaced", (t) => {
  const { home, checkout, run, extension } = stage(t);
  mkdirSync(join(home, ".pi", "agent", "extensions"), { recursive: true });
  symlinkSync(join(home, "gone"), extension);
  assert.equal(run(checkout).status, 0);
  assert.equal(readlinkSync(extension), ROOT);
});

test("another support is refused, and nothing is changed", (t) => {
  const { checkout, run, state, support, extension } = stage(t);
  old(support, { "a.gguf": "a" });
  const { status, stderr } = run(checkout);
  assert.equal(status, 1);
  assert.match(stderr, /support is .*support, not .*a checkout; --force takes its models over/);
  assert.deepEqual([existsSync(extension), lstatSync(support).isDirectory(), backups(state)], [false, true, []]);
});

test("--force takes models and beginnings of them over, overwrites none, and moves the rest aside", (t) => {
  const { checkout, run, state, support } = stage(t);
  old(support, { "a.gguf": "a", "b c.gguf": "old", "d.gguf.part": "d", "d.gguf.origin": "o", "notes.txt": "n" });
  old(checkout, { "b c.gguf": "new" });
  const { status, stderr } = run("--force", checkout);
  assert.equal(status, 0, stderr);
  const models = Object.fromEntries(
    readdirSync(join(checkout, "gguf")).map((name) => [name, readFileSync(join(checkout, "gguf", name), "utf8")]),
  );
  assert.deepEqual(models, { "a.gguf": "a", "b c.gguf": "new", "d.gguf.part": "d", "d.gguf.origin": "o" });
  assert.equal(readlinkSync(support), checkout);
  const [backup = ""] = backups(state);
  assert.match(backup, /^support\.backup\.\d{14}$/);
  assert.deepEqual(readdirSync(join(state, backup, "gguf")).sort(), [
    "a.gguf",
    "b c.gguf",
    "d.gguf.origin",
    "d.gguf.part",
    "notes.txt",
  ]);
});

test("a model and where it came from stay together", (t) => {
  const { checkout, run, support } = stage(t);
  const theirs = ["a.gguf.part", "b.gguf", "c.gguf.part", "d.gguf.part", "e.gguf.part"];
  old(support, Object.fromEntries([...theirs, "a.gguf.origin", "b.gguf.origin", "c.gguf.origin", "d.gguf.origin"].map((name) => [name, "old"])));
  old(checkout, { "a.gguf.part": "new", "b.gguf.part": "new", "c.gguf": "new", "d.gguf.origin": "of nothing", "e.gguf.origin": "of nothing" });
  const { stdout } = run("--force", checkout);
  const after = Object.fromEntries(
    readdirSync(join(checkout, "gguf")).map((name) => [name, readFileSync(join(checkout, "gguf", name), "utf8")]),
  );
  const kept = { "a.gguf.part": "new", "b.gguf.part": "new", "c.gguf": "new" };
  assert.deepEqual(after, { ...kept, "d.gguf.part": "old", "d.gguf.origin": "old", "e.gguf.part": "old" });
  assert.match(stdout, /^left a\.gguf\.part: .*gguf\/a\.gguf is there, or its beginning$/m);
});

test("--force follows a link to another checkout, moves the link and leaves that checkout", (t) => {
  const { home, checkout, run, state, support } = stage(t);
  const other = join(home, "other");
  old(other, { "a.gguf": "a" });
  mkdirSync(state, { recursive: true });
  symlinkSync(other, support);
  assert.equal(run(checkout).status, 1);
  assert.equal(run(checkout, "--force").status, 0);
  assert.equal(readFileSync(join(checkout, "gguf", "a.gguf"), "utf8"), "a");
  assert.equal(readFileSync(join(other, "gguf", "a.gguf"), "utf8"), "a");
  assert.equal(readlinkSync(join(state, backups(state)[0] ?? "")), other);
});

test("a link to nowhere is another support, too", (t) => {
  const { home, checkout, run, state, support } = stage(t);
  mkdirSync(state, { recursive: true });
  symlinkSync(join(home, "gone"), support);
  assert.match(run(checkout).stderr, /support is a link to nowhere/);
  assert.equal(run(checkout, "--force").status, 0);
  assert.equal(readlinkSync(support), checkout);
});

test("what it is called with must make sense", (t) => {
  const { home, checkout, run } = stage(t);
  assert.match(run(join(home, "gone")).stderr, /gone is not a folder/);
  assert.match(run(home).stderr, /is not a ds4 checkout: no Cargo.toml and crates\/cli in it/);
  assert.deepEqual([run().status, run("--fast", checkout).status, run(checkout, checkout).status], [2, 2, 2]);
  const { status, stdout } = run("--help");
  assert.equal(status, 0);
  assert.match(stdout, /--force {3}if support is something else/);
});

test("an extension of that name that is no link is not touched", (t) => {
  const { checkout, run, support, extension } = stage(t);
  mkdirSync(extension, { recursive: true });
  assert.match(run(checkout).stderr, /pi-ds4 is another extension, not a link: move it away first/);
  assert.equal(existsSync(support), false);
});
