import assert from "node:assert/strict";
import { mkdirSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { release, status } from "../src/lease.ts";
import { findProgram } from "../src/program.ts";
import { loadSettings } from "../src/settings.ts";
import { executable, fakeProgram, folder } from "./helpers.ts";

const SCRIPT = "#!/bin/sh\n";

test("the program is found on the path, in ~/.cargo/bin, or built in support/", (t) => {
  const [dir, home, path] = [folder(t), folder(t), folder(t)];
  const before = process.env["HOME"];
  process.env["HOME"] = home;
  t.after(() => (process.env["HOME"] = before));
  const settings = loadSettings({ DS4_DIR: dir });
  assert.throws(() => findProgram(settings, path), /no program ds4 on the path, in ~\/\.cargo\/bin or built in .*support; install it with `cargo install/);
  const build = join(dir, "checkout", "target", "release");
  mkdirSync(build, { recursive: true });
  symlinkSync(join(dir, "checkout"), join(dir, "support"));
  executable(join(build, "ds4"), SCRIPT);
  assert.equal(findProgram(settings, path), join(dir, "support", "target", "release", "ds4"));
  mkdirSync(join(home, ".cargo", "bin"), { recursive: true });
  const installed = executable(join(home, ".cargo", "bin", "ds4"), SCRIPT);
  assert.equal(findProgram(settings, undefined), installed);
  const first = executable(join(path, "ds4"), SCRIPT);
  assert.equal(findProgram(settings, `/nowhere:${path}`), first);
});

test("a setting names the program, which must be one", (t) => {
  const dir = folder(t);
  const find = (env: Record<string, string>) => findProgram(loadSettings({ DS4_DIR: dir, ...env }), dir);
  const mine = executable(join(dir, "mine"), SCRIPT);
  writeFileSync(join(dir, "text"), "");
  assert.equal(find({ DS4_SERVER_BINARY: mine }), mine);
  assert.equal(find({ DS4_BINARY: "mine" }), mine);
  assert.equal(find({ DS4_BINARY: mine }), mine);
  assert.throws(() => find({ DS4_SERVER_BINARY: join(dir, "text") }), /DS4_SERVER_BINARY=.*text is not a file that can be executed/);
  assert.throws(() => find({ DS4_SERVER_BINARY: dir }), /is not a file that can be executed/);
  assert.throws(() => find({ DS4_BINARY: "other" }), /DS4_BINARY=other is not on the path/);
});

test("for a ds4-server the ds4 beside it is taken", (t) => {
  const dir = folder(t);
  const server = executable(join(dir, "ds4-server"), SCRIPT);
  const settings = loadSettings({ DS4_DIR: dir, DS4_SERVER_BINARY: server });
  assert.throws(() => findProgram(settings, ""), /no program ds4 beside it, which starts and stops servers/);
  const program = executable(join(dir, "ds4"), SCRIPT);
  assert.equal(findProgram(settings, ""), program);
});

test("DS4_RUNTIME_DIR is a checkout, and built", (t) => {
  const dir = folder(t);
  const settings = loadSettings({ DS4_DIR: dir, DS4_RUNTIME_DIR: dir });
  assert.throws(() => findProgram(settings, ""), /DS4_RUNTIME_DIR=.* is not a ds4 checkout/);
  writeFileSync(join(dir, "Cargo.toml"), "");
  mkdirSync(join(dir, "crates", "cli"), { recursive: true });
  assert.throws(() => findProgram(settings, ""), /is not built: run `cargo build --release` there/);
  mkdirSync(join(dir, "target", "debug"), { recursive: true });
  const program = executable(join(dir, "target", "debug", "ds4"), SCRIPT);
  assert.equal(findProgram(settings, ""), program);
});

test("a lease is released by pid", async (t) => {
  const { program, calls } = fakeProgram(folder(t), "");
  assert.equal(await release(program, 77), true);
  assert.deepEqual(calls(), ["lease --pid 77 --release"]);
  assert.equal(await release("/nowhere/ds4", 77), false);
});

test("the status is that of the program, running or not", async (t) => {
  const answer = { state: "running", url: "http://h/", pid: 5, model: "mini", context: 9, leases: [{ pid: 1 }], log: "/l" };
  const running = fakeProgram(folder(t), `echo '${JSON.stringify(answer)}'`);
  assert.deepEqual(await status(running.program), { ...answer, url: "http://h", leases: 1 });
  assert.deepEqual(running.calls(), ["status --json"]);
  const slow = fakeProgram(folder(t), `sleep 3.2; echo '${JSON.stringify(answer)}'`);
  assert.equal((await status(slow.program))?.state, "running", "the program waits for the server itself");
  const stopped = fakeProgram(folder(t), `echo '{"state":"stopped","url":null,"leases":[]}'; exit 3`);
  assert.equal((await status(stopped.program))?.state, "stopped");
  for (const script of ["exit 1", "echo text", `echo '{"state":"running"}'; exit 1`]) {
    assert.equal(await status(fakeProgram(folder(t), script).program), undefined, script);
  }
});
