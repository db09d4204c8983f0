// What the SDKs for JavaScript see: openai, @anthropic-ai/sdk and ai with @ai-sdk/openai-compatible against a running
// ds4-server.
//
// Usage: checks.mjs FOLDER URL SCRIPTED_URL. The packages lie in FOLDER; the second server's model calls tools as
// script.json says. Every member of `checks` is one.

import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const [folder, url, scripted] = process.argv.slice(2);
const require = createRequire(pathToFileURL(`${folder}/`));
const load = (name) => import(pathToFileURL(require.resolve(name)));
const { default: OpenAI } = await load("openai");
const { default: Anthropic } = await load("@anthropic-ai/sdk");
const { generateText, jsonSchema, streamText, tool } = await load("ai");
const { createOpenAICompatible } = await load("@ai-sdk/openai-compatible");

const openai = (base) => new OpenAI({ baseURL: `${base}/v1`, apiKey: "any", maxRetries: 0 });
const anthropic = (base) => new Anthropic({ baseURL: base, apiKey: "any", maxRetries: 0 });
const ai = (base) => createOpenAICompatible({ name: "ds4", baseURL: `${base}/v1`, apiKey: "any", includeUsage: true });
const user = (content) => [{ role: "user", content }];
const schema = {
  type: "object",
  properties: { path: { type: "string" }, lines: { type: "integer" } },
  required: ["path"],
};
const greedy = { model: "deepseek-v4-flash", temperature: 0 };
const chat = { ...greedy, messages: user("What is 7 + 8?"), reasoning_effort: "none" };
const message = { ...greedy, max_tokens: 100, messages: user("What is 7 + 8?"), thinking: { type: "disabled" } };
const response = { ...greedy, input: "What is 7 + 8?", reasoning: { effort: "none" } };
const path = 'a "b"\n.txt';
const both = [{ path: "a.txt" }, { path: "b.txt", lines: 3 }];

const checks = {
  async openai_lists_models() {
    const models = await openai(url).models.list();
    assert.equal(models.data.length, 1);
  },
  async openai_chats() {
    const answer = await openai(url).chat.completions.create(chat);
    assert.equal(answer.choices[0].message.content, "15");
  },
  async openai_streams() {
    const stream = openai(url).chat.completions.stream({ ...chat, stream_options: { include_usage: true } });
    const answer = await stream.finalChatCompletion();
    assert.equal(answer.choices[0].message.content, "15");
    assert(answer.usage.completion_tokens > 0);
  },
  async openai_calls_a_tool_and_goes_on() {
    const tools = [{ type: "function", function: { name: "read", parameters: schema } }];
    const messages = user("Read it.");
    const client = openai(scripted);
    const called = (await client.chat.completions.create({ model: "m", messages, tools })).choices[0].message;
    assert.deepEqual(JSON.parse(called.tool_calls[0].function.arguments), { path });
    messages.push(called, { role: "tool", tool_call_id: called.tool_calls[0].id, content: "hello" });
    const answer = await client.chat.completions.create({ model: "m", messages, tools });
    assert.equal(answer.choices[0].message.content, "It says hello.");
  },
  async openai_responds() {
    const answer = await openai(url).responses.create(response);
    assert.deepEqual([answer.output_text, answer.status], ["15", "completed"]);
  },
  async openai_streams_a_response() {
    const answer = await openai(url).responses.stream(response).finalResponse();
    assert.equal(answer.output_text, "15");
    assert(answer.usage.output_tokens > 0);
  },
  async openai_streams_a_response_with_two_calls() {
    const tools = [{ type: "function", name: "read", parameters: schema, strict: false }];
    const asked = { model: "m", input: "Read both.", tools, reasoning: { summary: "auto" } };
    const { output } = await openai(scripted).responses.stream(asked).finalResponse();
    const types = output.map((item) => item.type);
    assert.deepEqual(types, ["reasoning", "message", "function_call", "function_call"]);
    assert.deepEqual(output.slice(2).map((item) => JSON.parse(item.arguments)), both);
  },
  async openai_goes_on_from_a_response() {
    const first = await openai(url).responses.create({ ...response, input: "Reply with exactly: green falcon" });
    const next = await openai(url).responses.create({ ...response, previous_response_id: first.id });
    assert.equal(next.output_text, "15");
  },
  async openai_leaves_a_stream_half_way() {
    const stream = await openai(url).chat.completions.create({ ...chat, stream: true });
    for await (const _ of stream) break;
    await checks.openai_chats();
  },
  async anthropic_lists_models() {
    const models = await anthropic(url).models.list();
    assert.equal(models.data.length, 1);
  },
  async anthropic_writes() {
    const answer = await anthropic(url).messages.create(message);
    assert.deepEqual(answer.content.map((block) => block.text), ["15"]);
  },
  async anthropic_streams() {
    const stream = anthropic(url).messages.stream(message);
    assert.equal(await stream.finalText(), "15");
    assert.equal((await stream.finalMessage()).stop_reason, "end_turn");
  },
  async anthropic_streams_two_uses() {
    const tools = [{ name: "read", input_schema: schema }];
    const asked = { model: "m", max_tokens: 1000, messages: user("Read both."), tools };
    const { content, stop_reason } = await anthropic(scripted).messages.stream(asked).finalMessage();
    assert.equal(stop_reason, "tool_use");
    assert.deepEqual(content.map((block) => block.type), ["thinking", "text", "tool_use", "tool_use"]);
    assert.deepEqual(content.slice(2).map((block) => block.input), both);
  },
  async anthropic_counts_tokens() {
    const { model, messages, thinking } = message;
    const counted = await anthropic(url).messages.countTokens({ model, messages, thinking });
    assert(counted.input_tokens > 3);
  },
  async anthropic_leaves_a_stream_half_way() {
    const stream = anthropic(url).messages.stream(message);
    stream.on("error", () => {});
    for await (const _ of stream) break;
    await checks.anthropic_writes();
  },
  async ai_generates() {
    const providerOptions = { ds4: { reasoningEffort: "none" } };
    const model = ai(url)("deepseek-v4-flash");
    const answer = await generateText({ model, prompt: "What is 7 + 8?", temperature: 0, maxRetries: 0, providerOptions });
    assert.equal(answer.text, "15");
  },
  async ai_streams_reasoning_and_a_tool() {
    const read = tool({ inputSchema: jsonSchema(schema), execute: async () => "hello" });
    const calls = [];
    const stopWhen = ({ steps }) => steps.length === 2;
    const model = ai(scripted)("m");
    const stream = streamText({ model, prompt: "Read it.", tools: { read }, stopWhen, maxRetries: 0 });
    for await (const part of stream.fullStream) {
      assert.notEqual(part.type, "error", String(part.error));
      if (part.type === "tool-call") calls.push(part.input);
    }
    assert.deepEqual(calls, [{ path }]);
    assert.equal(await stream.text, "It says hello.");
  },
};

let failed = 0;
for (const [name, check] of Object.entries(checks)) {
  try {
    await check();
    console.log(`ok      npm ${name}`);
  } catch (error) {
    failed += 1;
    console.log(`FAILED  npm ${name}: ${error?.stack ?? error}`);
  }
}
console.log(`npm clients: ${Object.keys(checks).length - failed} checks passed, ${failed} failed`);
process.exit(failed ? 1 : 0);
