import assert from "node:assert/strict";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { Starter, type Wish } from "../src/start.ts";
import { Cancelled } from "../src/up.ts";
import { fakeProgram, folder, until } from "./helpers.ts";

/** Prints a line of JSON, as a shell script does. */
const say = (event: object) => `echo '${JSON.stringify(event)}'`;

const URL = "http://127.0.0.1:81";

/** A program that runs a script for `up` and says of the server what is in a file, and all that was notified. */
async function stage(t: TestContext, script: string) {
  const dir = folder(t);
  const { program, calls } = fakeProgram(dir, `if [ "$1" = status ]; then cat "$0.status"; exit; fi\n${script}`);
  const server = (status: object) => writeFileSync(`${program}.status`, JSON.stringify(status));
  server({ state: "stopped" });
  const said: string[] = [];
  const clock = { now: 0 };
  const wish = (more: Partial<Wish> & { args?: string[] } = {}): Wish => ({
    call: { program, args: ["up", ...(more.args ?? [])], log: "LOG" },
    notify: (message) => said.push(message),
    signal: undefined,
    ...more,
  });
  const ups = () => calls().filter((call) => call.startsWith("up"));
  return { dir, server, calls: ups, said, wish, clock, starter: new Starter(() => clock.now) };
}

/** `up` for which process 7 runs. */
const ready = `echo '{"state":"running","pid":7}' > "$0.status"; ${say({ event: "ready", url: `${URL}/`, pid: 7, model: "mini", context: 4096, adopted: false })}`;

test("the first request starts the server, the second costs nothing", async (t) => {
  const { starter, wish, said, calls } = await stage(t, `${say({ event: "progress", message: "pulling q2" })}; ${ready}`);
  const running = await starter.ensure(wish());
  assert.deepEqual([running.url, running.context, running.pid], [URL, 4096, 7]);
  assert.deepEqual(said, ["preparing ds4-server", "ds4-server ready"]);
  assert.equal(starter.leased, true);
  assert.equal((await starter.ensure(wish())).url, URL);
  assert.deepEqual(calls(), ["up"]);
  assert.equal(said.length, 2);
});

test("a server that is ready already is only asked for a lease, without a word", async (t) => {
  const { starter, wish, said, calls, server } = await stage(t, ready);
  server({ state: "running", pid: 7 });
  await starter.ensure(wish());
  assert.deepEqual([said, calls()], [[], ["up"]]);
});

test("a server that has gone, cannot be asked or is another process is asked for again", async (t) => {
  const { starter, wish, calls, server } = await stage(t, ready);
  await starter.ensure(wish());
  const others = [{ state: "stopped" }, { state: "starting", pid: 7 }, { state: "running", url: URL, model: "mini", pid: 8 }, { state: "running" }, {}];
  for (const other of others) {
    server(other);
    await starter.ensure(wish());
    await starter.ensure(wish());
  }
  assert.equal(calls().length, 1 + others.length);
});

test("all that ask at once wait for one start", async (t) => {
  const { starter, wish, calls } = await stage(t, `sleep 0.2; ${ready}`);
  const all = await Promise.all([1, 2, 3].map(() => starter.ensure(wish())));
  assert.equal(new Set(all).size, 1);
  assert.equal(calls().length, 1);
});

test("another model waits for the start that is under way, even if that fails, and switches then", async (t) => {
  const { starter, wish, calls, dir } = await stage(
    t,
    `case "$*" in *q4*) touch "$0.q4"; ${ready};; *) sleep 0.2; test -e "$0.q4" && touch "$0.both"; exit 1;; esac`,
  );
  const [first, second] = await Promise.allSettled([starter.ensure(wish()), starter.ensure(wish({ args: ["--model", "q4"] }))]);
  assert.deepEqual([first.status, second.status], ["rejected", "fulfilled"]);
  assert.deepEqual(calls(), ["up", "up --model q4"]);
  assert.equal(existsSync(join(dir, "ds4.both")), false);
});

test("a failure says why, and answers for itself until something changes", async (t) => {
  const { starter, wish, calls, clock } = await stage(t, `${say({ event: "failed", message: "no such model: q9" })}; exit 1`);
  const failure = /^Error: no such model: q9$/;
  await assert.rejects(starter.ensure(wish()), failure);
  await assert.rejects(starter.ensure(wish()), failure);
  assert.equal(calls().length, 1);
  await assert.rejects(starter.ensure(wish({ args: ["--model", "q2"] })), failure);
  assert.equal(calls().length, 2);
  await assert.rejects(starter.ensure(wish()), failure);
  assert.equal(calls().length, 3);
  starter.forget();
  await assert.rejects(starter.ensure(wish()), failure);
  assert.equal(calls().length, 4);
  clock.now += 60_000;
  await assert.rejects(starter.ensure(wish()), failure);
  assert.equal(calls().length, 5);
});

test("a program that dies without a word leaves its last complaint and where the log is", async (t) => {
  const { starter, wish } = await stage(t, "echo warming >&2; echo 'error: unexpected argument' >&2; exit 2");
  await assert.rejects(starter.ensure(wish()), /^Error: `ds4 up` ended with 2 before the server was ready: error: unexpected argument; see LOG$/);
  const killed = await stage(t, "kill -9 $$");
  await assert.rejects(killed.starter.ensure(killed.wish()), /`ds4 up` ended by SIGKILL before the server was ready; see LOG/);
  const silent = await stage(t, `${say({ event: "progress", message: "almost" })}; exit 0`);
  await assert.rejects(silent.starter.ensure(silent.wish()), /`ds4 up` ended with 0 before the server was ready; see LOG/);
});

test("a program that is not there is named", async (t) => {
  const { starter, wish, dir } = await stage(t, "");
  const call = { program: join(dir, "gone"), args: [], log: "LOG" };
  await assert.rejects(starter.ensure(wish({ call })), /gone cannot be run: spawn .* ENOENT/);
});

test("an event without a line break at the end counts", async (t) => {
  const { starter, wish } = await stage(t, ready.replace("; echo", "; printf %s"));
  assert.equal((await starter.ensure(wish())).model, "mini");
});

test("whoever keeps the pipe open does not keep Pi waiting", async (t) => {
  const lasting = 'sleep 60 & echo $! > "$0.pid"';
  const { starter, wish, dir } = await stage(t, `${lasting}; ${ready}`);
  await starter.ensure(wish());
  const failing = await stage(t, `${lasting}; exit 1`);
  await assert.rejects(failing.starter.ensure(failing.wish()), /ended with 1/);
  for (const folder of [dir, failing.dir]) process.kill(Number(readFileSync(join(folder, "ds4.pid"), "utf8")));
});

/** A start that lasts until it is asked to end, and keeps that it was. */
const SLOW = `trap 'touch "$0.ended"; exit 130' TERM; touch "$0.begun"; while :; do sleep 0.05; done`;

test("a request that is given up ends its start, which is no failure", async (t) => {
  const { starter, wish, calls, dir } = await stage(t, SLOW);
  const escape = new AbortController();
  const start = starter.ensure(wish({ signal: escape.signal }));
  await until(() => existsSync(join(dir, "ds4.begun")));
  escape.abort();
  await assert.rejects(start, Cancelled);
  await until(() => existsSync(join(dir, "ds4.ended")));
  const again = starter.ensure(wish());
  again.catch(() => {});
  await until(() => calls().length === 2);
  await starter.cancel();
  await assert.rejects(again, Cancelled);
});

test("a start that another still waits for goes on", async (t) => {
  const { starter, wish, calls } = await stage(t, `sleep 0.3; ${ready}`);
  const escape = new AbortController();
  const first = starter.ensure(wish({ signal: escape.signal }));
  const second = starter.ensure(wish());
  escape.abort();
  await assert.rejects(first, Cancelled);
  assert.equal((await second).model, "mini");
  assert.equal(calls().length, 1);
});

test("who waits for another model's start does not keep it going", async (t) => {
  const { starter, wish, calls, dir } = await stage(t, `case "$*" in *q4*) ${ready};; *) ${SLOW};; esac`);
  const escape = new AbortController();
  const first = starter.ensure(wish({ signal: escape.signal }));
  await until(() => existsSync(join(dir, "ds4.begun")));
  const second = starter.ensure(wish({ args: ["--model", "q4"] }));
  escape.abort();
  await assert.rejects(first, Cancelled);
  assert.equal((await second).pid, 7);
  assert.equal(existsSync(join(dir, "ds4.ended")), true);
  assert.deepEqual(calls(), ["up", "up --model q4"]);
});

test("the end of Pi ends a start", async (t) => {
  const { starter, wish, dir } = await stage(t, SLOW);
  const start = starter.ensure(wish());
  start.catch(() => {});
  await until(() => existsSync(join(dir, "ds4.begun")));
  await starter.cancel();
  await assert.rejects(start, Cancelled);
  assert.equal(existsSync(join(dir, "ds4.ended")), true);
  await starter.cancel();
});
