import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { kvBudget } from "../src/profiles.ts";
import { loadSettings, type Settings } from "../src/settings.ts";
import { folder } from "./helpers.ts";

/** Settings from an environment and a settings.json in a folder of their own. */
function load(t: TestContext, env: Record<string, string>, file?: unknown): Settings {
  const dir = folder(t);
  if (file !== undefined) writeFileSync(join(dir, "settings.json"), typeof file === "string" ? file : JSON.stringify(file));
  return loadSettings({ DS4_DIR: dir, ...env });
}

test("without a file or a variable everything is as documented", (t) => {
  const { profile, ignored, stateDir, ...rest } = load(t, {});
  assert.deepEqual(rest, {
    api: "openai-completions",
    apiKey: "dsv4-local",
    model: undefined,
    port: 8000,
    readyTimeoutMs: 600_000,
    program: undefined,
    runtimeDir: undefined,
    contextTokens: 100_000,
    kvDiskSpaceMb: 8192,
    seed: undefined,
    steering: undefined,
  });
  assert.equal(profile.name, "mitsuhiko");
  assert.deepEqual(ignored, []);
  assert.equal(loadSettings({ DS4_DIR: "" }).stateDir, join(homedir(), ".pi", "ds4"));
});

test("settings.json may spell a setting in four ways", (t) => {
  for (const key of ["DS4_MODEL_QUANT", "modelQuant", "ds4_model_quant", "model_quant"]) {
    assert.equal(load(t, {}, { [key]: "q4" }).model, "q4", key);
  }
});

test("of several spellings the variable's name comes first, and null is nothing", (t) => {
  assert.equal(load(t, {}, { api_key: "d", ds4_api_key: "c", apiKey: "b", DS4_API_KEY: "a" }).apiKey, "a");
  assert.equal(load(t, {}, { DS4_API_KEY: null, apiKey: "b" }).apiKey, "b");
  assert.equal(load(t, {}, { apiKey: null }).apiKey, "dsv4-local");
});

test("the environment wins, even if it is empty", (t) => {
  assert.equal(load(t, { DS4_API_KEY: "env" }, { apiKey: "file" }).apiKey, "env");
  assert.equal(load(t, { DS4_API_KEY: "" }, { apiKey: "file" }).apiKey, "dsv4-local");
  assert.equal(load(t, { DS4_CONTEXT_KB: "" }, { contextKb: 64 }).contextTokens, 100_000);
});

test("texts may be numbers or switches, and numbers texts of digits", (t) => {
  assert.equal(load(t, {}, { apiKey: 7 }).apiKey, "7");
  assert.equal(load(t, {}, { apiKey: true }).apiKey, "true");
  assert.equal(load(t, {}, { contextKb: "256" }).contextTokens, 256_000);
  assert.equal(load(t, {}, { contextKb: 1024 }).contextTokens, 1_024_000);
  assert.equal(load(t, {}, { contextKb: "" }).contextTokens, 100_000);
  assert.equal(load(t, { DS4_READY_TIMEOUT_MS: "1500" }).readyTimeoutMs, 1500);
});

test("what cannot be is named with the setting, the file and what would be right", (t) => {
  const cases: [Record<string, string>, unknown, RegExp][] = [
    [{ DS4_PROTOCOL: "grpc" }, {}, /^Error: Invalid DS4_PROTOCOL=grpc: one of openai, /],
    [{}, { protocol: "grpc" }, /Invalid DS4_PROTOCOL=grpc \(protocol in .*settings\.json\): one of/],
    [{ DS4_MODEL_QUANT: "q8" }, {}, /Invalid DS4_MODEL_QUANT=q8: one of q2, q2-imatrix, q4, q4-imatrix is wanted/],
    [{ DS4_READY_TIMEOUT_MS: "soon" }, {}, /Invalid DS4_READY_TIMEOUT_MS=soon: a whole number/],
    [{ DS4_CONTEXT_KB: "1.5" }, {}, /Invalid DS4_CONTEXT_KB=1\.5: a whole number from 1 to 1024/],
    [{ DS4_PORT: "0" }, {}, /Invalid DS4_PORT=0: a whole number from 1 to 65535/],
    [{}, { port: [1] }, /Invalid DS4_PORT=\[1\] \(port in .*\): a number is wanted/],
    [{}, { port: true }, /Invalid DS4_PORT=true/],
    [{ DS4_REPRODUCIBLE_SEED: "0" }, {}, /Invalid DS4_REPRODUCIBLE_SEED=0/],
    [{ DS4_REPRODUCIBLE_SEED: "9007199254740993" }, {}, /Invalid DS4_REPRODUCIBLE_SEED=9007199254740993/],
    [{ DS4_REPRODUCIBLE_SEED: "0x10" }, {}, /Invalid DS4_REPRODUCIBLE_SEED=0x10/],
    [{ DS4_REPRODUCIBLE: "maybe" }, {}, /Invalid DS4_REPRODUCIBLE=maybe: 1, true/],
    [{ DS4_PROFILE: "other" }, {}, /Invalid DS4_PROFILE=other: one of mitsuhiko, audreyt/],
    [{ DS4_DIR_STEERING_FFN: "big" }, {}, /Invalid DS4_DIR_STEERING_FFN=big: a number from -100 to 100/],
    [{ DS4_DIR_STEERING_POLICY: "now" }, {}, /Invalid DS4_DIR_STEERING_POLICY=now/],
    [{ DS4_DIR_STEERING_FFN: "1" }, {}, /steering needs DS4_DIR_STEERING_FILE/],
    [{ DS4_PROFILE: "audreyt", DS4_MODEL_QUANT: "q4" }, {}, /Invalid DS4_MODEL_QUANT=q4: the profile audreyt has q2/],
    [{}, { protcol: "openai" }, /settings\.json: "protcol" is no setting/],
    [{}, [], /Failed to read .*settings\.json: it must hold an object/],
    [{}, "null", /Failed to read .*settings\.json: it must hold an object/],
    [{}, "{", /Failed to read .*settings\.json: /],
  ];
  for (const [env, file, message] of cases) assert.throws(() => load(t, env, file), message);
});

test("every protocol's names are known, in any case", (t) => {
  const apis = {
    "openai-completions": ["openai", "openai-completions", "chat", "chat-completions", "OpenAI"],
    "openai-responses": ["responses", "openai-responses"],
    "anthropic-messages": ["anthropic", "anthropic-messages", "messages"],
  };
  for (const [api, names] of Object.entries(apis)) {
    for (const name of names) assert.equal(load(t, { DS4_PROTOCOL: name }).api, api, name);
  }
});

test("a profile changes defaults, and settings change them back", (t) => {
  const audreyt = load(t, {}, { profile: "audreyt" });
  assert.equal(audreyt.seed, 42);
  assert.equal(load(t, {}, { profile: "audreyt", reproducible: false }).seed, undefined);
  for (const off of ["0", "false", "No", "OFF"]) {
    assert.equal(load(t, { DS4_PROFILE: "audreyt", DS4_REPRODUCIBLE: off }).seed, undefined, off);
  }
  assert.equal(load(t, { DS4_PROFILE: "audreyt", DS4_REPRODUCIBLE: " " }).seed, 42);
  assert.equal(load(t, { DS4_REPRODUCIBLE: "1", DS4_REPRODUCIBLE_SEED: "7" }).seed, 7);
  assert.equal(load(t, { DS4_PROFILE: "audreyt", DS4_MODEL_QUANT: "q2" }).model, "q2");
  assert.equal(load(t, { DS4_KV_DISK_SPACE_MB: "100" }, { profile: "audreyt" }).kvDiskSpaceMb, 100);
  assert.deepEqual([64e9, 96e9, 128e9].map(kvBudget), [8192, 32768, 65536]);
});

test("DS4_MODEL names any model, before a quantisation", (t) => {
  assert.equal(load(t, { DS4_MODEL: "mini", DS4_MODEL_QUANT: "q4" }).model, "mini");
  assert.equal(load(t, { DS4_MODEL: "~/a.gguf" }).model, join(homedir(), "a.gguf"));
});

test("steering is off unless a scale says otherwise", (t) => {
  const file = { dirSteeringFile: "d.f32" };
  assert.equal(load(t, {}, file).steering, undefined);
  assert.equal(load(t, {}, { ...file, dirSteeringFfn: "0.0", dirSteeringAttn: 0 }).steering, undefined);
  assert.deepEqual(load(t, {}, { ...file, dirSteeringFfn: -0.75 }).steering, {
    file: "d.f32",
    ffn: -0.75,
    attn: 0,
    policy: "final-answer",
  });
});

test("settings of the earlier extensions that do nothing are known by name", (t) => {
  const settings = load(t, { DS4_MT: "auto", DS4_MPP: "" }, { supportRepo: "https://example.org", watchdog_script: null });
  assert.deepEqual(settings.ignored.sort(), ["DS4_MT", "DS4_SUPPORT_REPO"]);
});

test("a file with a byte order mark is read", (t) => {
  assert.equal(load(t, {}, '\uFEFF{"port": 1234}').port, 1234);
});
