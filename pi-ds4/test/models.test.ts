import assert from "node:assert/strict";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { upArguments } from "../src/command.ts";
import { expectedServer, provider } from "../src/models.ts";
import { loadSettings } from "../src/settings.ts";
import { folder } from "./helpers.ts";

const settings = (t: TestContext, env: Record<string, string> = {}) => loadSettings({ DS4_DIR: folder(t), ...env });
const registered = (t: TestContext, env: Record<string, string> = {}) => {
  const all = settings(t, env);
  return provider(all, expectedServer(all));
};

test("the default profile has three models and all levels of thinking", (t) => {
  const { models, baseUrl, api, apiKey } = registered(t);
  assert.deepEqual(
    models.map((model) => model.id),
    ["deepseek-v4-flash", "deepseek-v4-flash-q2-imatrix", "deepseek-v4-flash-q4-imatrix"],
  );
  assert.equal(baseUrl, "http://127.0.0.1:8000/v1");
  assert.equal(api, "openai-completions");
  assert.equal(apiKey, "dsv4-local");
  for (const model of models) {
    assert.deepEqual(model.thinkingLevelMap, { minimal: "low", low: "low", medium: "medium", high: "high", xhigh: "xhigh" });
    assert.deepEqual(model.cost, { input: 0, output: 0, cacheRead: 0, cacheWrite: 0 });
    assert.deepEqual([model.reasoning, model.input, model.contextWindow, model.maxTokens], [true, ["text"], 100_000, 384_000]);
    assert.deepEqual(model.compat, {
      supportsStore: false,
      supportsDeveloperRole: false,
      supportsReasoningEffort: true,
      supportsUsageInStreaming: true,
      maxTokensField: "max_tokens",
      supportsStrictMode: false,
      thinkingFormat: "deepseek",
      requiresReasoningContentOnAssistantMessages: true,
    });
  }
});

test("the other profile has one model, which thinks not, hard, or as hard as possible", (t) => {
  const { models } = registered(t, { DS4_PROFILE: "audreyt", DS4_CONTEXT_KB: "400" });
  assert.deepEqual(models.map((model) => [model.id, model.contextWindow]), [["deepseek-v4-flash", 400_000]]);
  const hidden = { minimal: null, low: null, medium: null, xhigh: null };
  assert.deepEqual(models[0]?.thinkingLevelMap, { off: "none", high: "high", max: "max", ...hidden });
});

test("Anthropic's address has no /v1, and its models another flag", (t) => {
  const { baseUrl, models } = registered(t, { DS4_PROTOCOL: "messages", DS4_PORT: "9000" });
  assert.equal(baseUrl, "http://127.0.0.1:9000");
  assert.equal(models[0]?.compat["supportsEagerToolInputStreaming"], false);
});

test("a server that is known says where it is and how much it holds", (t) => {
  const { baseUrl, models } = provider(settings(t), { url: "http://127.0.0.1:81", context: 32_768 });
  assert.equal(baseUrl, "http://127.0.0.1:81/v1");
  assert.deepEqual(models.map((model) => model.contextWindow), [32_768, 32_768, 32_768]);
});

test("a key is taken as it is, not as a variable or a command", (t) => {
  assert.equal(registered(t, { DS4_API_KEY: "!a$b" }).apiKey, "$!a$$b");
});

test("the program is called with the documented arguments", (t) => {
  const all = settings(t);
  const flags = ["--ctx", "100000", "--kv-disk-dir", join(all.stateDir, "kv"), "--kv-disk-space-mb", "8192"];
  const head = ["up", "--json", "--for-pid", "77", "--port", "8000", "--timeout", "600"];
  assert.deepEqual(upArguments(all, "deepseek-v4-flash", 77), [...head, "--model", "auto", "--", ...flags]);
  const q4 = upArguments(all, "deepseek-v4-flash-q4-imatrix", 77);
  assert.deepEqual(q4, [...head, "--model", "q4-imatrix", "--", ...flags]);
});

test("context, disk space, model and steering change the arguments", (t) => {
  const all = settings(t, {
    DS4_CONTEXT_KB: "250",
    DS4_KV_DISK_SPACE_MB: "4096",
    DS4_MODEL: "mini",
    DS4_READY_TIMEOUT_MS: "1500",
    DS4_RUNTIME_DIR: "/src/ds4",
    DS4_DIR_STEERING_FILE: "out/d.f32",
    DS4_DIR_STEERING_FFN: "-0.75",
  });
  const text = upArguments(all, "deepseek-v4-flash", 1).join(" ");
  assert.match(text, /--timeout 2 --model mini -- --ctx 250000 .*--kv-disk-space-mb 4096 /);
  assert.ok(
    text.endsWith(
      "--dir-steering-file /src/ds4/out/d.f32 --dir-steering-ffn -0.75 --dir-steering-attn 0 --dir-steering-policy final-answer",
    ),
  );
});
