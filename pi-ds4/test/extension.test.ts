import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { extension } from "../src/extension.ts";
import type { Context, Pi, Provider } from "../src/pi.ts";
import { fakeProgram, folder } from "./helpers.ts";

const TERMINAL = { matches: () => false, width: (text: string) => text.length, cut: (text: string) => text };

/** A Pi that keeps what it is told and can fire its events, and a program `ds4`. */
function stage(t: TestContext, settings: object, script: string) {
  const dir = folder(t);
  const { program, calls } = fakeProgram(dir, script);
  writeFileSync(join(dir, "settings.json"), JSON.stringify({ binary: program, ...settings }));
  const before = process.env["DS4_DIR"];
  process.env["DS4_DIR"] = dir;
  t.after(() => (before === undefined ? delete process.env["DS4_DIR"] : (process.env["DS4_DIR"] = before)));
  delete (globalThis as Record<symbol, unknown>)[Symbol.for("pi-ds4.starter")];

  const providers: Provider[] = [];
  const handlers = new Map<string, (event: object, context: Context) => unknown>();
  let command: Parameters<Pi["registerCommand"]>[1] | undefined;
  const pi = {
    on: (name: string, handler: never) => handlers.set(name, handler),
    registerProvider: (_: string, provider: Provider) => providers.push(provider),
    registerCommand: (_: string, options: typeof command) => (command = options),
  } as unknown as Pi;
  const said: string[] = [];
  let aborted = 0;
  const context = (more: object = {}) =>
    ({
      ui: { notify: (message: string, kind = "info") => said.push(`${kind}: ${message}`) },
      mode: "rpc",
      hasUI: true,
      model: { provider: "ds4", id: "deepseek-v4-flash" },
      signal: undefined,
      abort: () => void aborted++,
      ...more,
    }) as unknown as Context;
  const load = () => extension(pi, TERMINAL, "/skills");
  const fire = async (name: string, event: object = {}, more: object = {}) => handlers.get(name)?.(event, context(more));
  const type = async (args: string) => command?.handler(args, context());
  load();
  return { dir, calls, providers, said, fire, type, load, aborts: () => aborted };
}

const url = "http://127.0.0.1:81";

/** A program whose server starts at once. */
const UP = `case $1 in
  up) touch "$0.up"; echo '{"event":"ready","url":"${url}","pid":7,"model":"m","context":4096}';;
  status) test -e "$0.up" && echo '{"state":"running","pid":7}';;
esac`;

test("loading registers the models and starts nothing", (t) => {
  const { providers, calls } = stage(t, {}, "");
  assert.deepEqual(providers.map((provider) => provider.baseUrl), ["http://127.0.0.1:8000/v1"]);
  assert.deepEqual(calls(), []);
});

test("settings that cannot be are a reason not to load", (t) => {
  assert.throws(() => stage(t, { protocol: "grpc" }, ""), /Invalid DS4_PROTOCOL=grpc \(protocol in /);
});

test("a request of another provider is none of its business", async (t) => {
  const { fire, calls } = stage(t, {}, "");
  assert.equal(await fire("before_provider_request", { payload: {} }, { model: { provider: "other", id: "x" } }), undefined);
  assert.equal(await fire("before_provider_request", { payload: {} }, { model: undefined }), undefined);
  assert.deepEqual(calls(), []);
});

test("a request has its server, and Pi learns where it is and how much it holds", async (t) => {
  const { fire, calls, providers, said } = stage(t, { reproducible: true }, UP);
  assert.deepEqual(await fire("before_provider_request", { payload: { model: "m" } }), { model: "m", seed: 42 });
  assert.match(calls()[1] ?? "", new RegExp(`^up --json --for-pid ${process.pid} --port 8000 `));
  assert.deepEqual([providers.at(-1)?.baseUrl, providers.at(-1)?.models[0]?.contextWindow], [`${url}/v1`, 4096]);
  assert.deepEqual(said, ["info: preparing ds4-server", "info: ds4-server ready"]);
  await fire("before_provider_request", { payload: {} });
  assert.deepEqual([calls().filter((call) => call !== "status --json").length, providers.length], [1, 2]);
});

test("a start that fails is said and ends the request; where nothing is seen, it is an error", async (t) => {
  const { fire, said, aborts, calls } = stage(t, {}, `echo '{"event":"failed","message":"no room"}'; exit 1`);
  await fire("before_provider_request", { payload: {} });
  assert.deepEqual(said, ["info: preparing ds4-server", "error: ds4-server startup failed: no room"]);
  assert.equal(aborts(), 1);
  await assert.rejects(fire("before_provider_request", { payload: {} }, { hasUI: false, mode: "print" }), /^Error: no room$/);
  assert.equal(calls().filter((call) => call !== "status --json").length, 1);
});

test("a program that is not there is said with the way out", async (t) => {
  const { fire, said } = stage(t, { binary: "/nowhere/ds4" }, "");
  await fire("before_provider_request", { payload: {} });
  assert.match(said[0] ?? "", /startup failed: DS4_BINARY=\/nowhere\/ds4 is not a file that can be executed; install it with/);
});

test("what is ignored is said once", async (t) => {
  const { fire, said } = stage(t, { DS4_MT: "on" }, UP);
  for (const _ of [1, 2]) await fire("before_provider_request", { payload: {} });
  assert.deepEqual(said.filter((line) => line.startsWith("warning")), ["warning: DS4_MT is ignored: there are no Metal kernels yet"]);
});

test("the lease outlives reload and new sessions, and ends with Pi", async (t) => {
  const { fire, calls, load } = stage(t, {}, UP);
  await fire("before_provider_request", { payload: {} });
  for (const reason of ["reload", "new", "resume", "fork"]) {
    await fire("session_shutdown", { reason });
    load();
    await fire("session_start", { reason });
    await fire("before_provider_request", { payload: {} });
  }
  assert.deepEqual(calls().filter((call) => !call.startsWith("status")).length, 1);
  await fire("session_shutdown", { reason: "quit" });
  assert.equal(calls().at(-1), `lease --pid ${process.pid} --release`);
});

test("a Pi that never asked has nothing to give up", async (t) => {
  const { fire, calls } = stage(t, {}, "");
  await fire("session_shutdown", { reason: "quit" });
  assert.deepEqual(calls(), []);
});

test("at the beginning of a session Pi learns of a server that runs", async (t) => {
  const running = { state: "running", url: "http://127.0.0.1:81", model: "q2", context: 65536, leases: [{ pid: 1 }], log: "/l" };
  const { fire, providers, type, said } = stage(t, {}, `echo '${JSON.stringify(running)}'`);
  await fire("session_start", { reason: "startup" });
  assert.deepEqual([providers.at(-1)?.baseUrl, providers.at(-1)?.models[0]?.contextWindow], ["http://127.0.0.1:81/v1", 65536]);
  await type("status");
  assert.equal(said.at(-1), "info: ds4-server running, at http://127.0.0.1:81, model q2, context 65536, 1 in use, log /l");
});

test("without a terminal /ds4 says where the log is", async (t) => {
  const { type, said, dir } = stage(t, {}, "");
  await type("");
  assert.deepEqual(said, [`info: ds4 log: ${join(dir, "log")}`]);
});

test("the skill is offered", async (t) => {
  const { fire } = stage(t, {}, "");
  assert.deepEqual(await fire("resources_discover"), { skillPaths: ["/skills"] });
});
