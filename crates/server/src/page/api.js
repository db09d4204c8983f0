// What the page asks of the server: the same endpoints as any client.

import { settings } from "./store.js";

/** An answer that is no success, in the server's own words. */
export class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

async function ask(path, options = {}) {
  const headers = settings.key ? { authorization: `Bearer ${settings.key}` } : {};
  const response = await fetch(path, { ...options, headers: { ...options.headers, ...headers } });
  if (response.ok) return response;
  const text = await response.text();
  let message = text.trim().slice(0, 2000) || `the server answers ${response.status}`;
  try {
    message = JSON.parse(text).error.message || message;
  } catch {
    // not an error of ours: something between this page and the server
  }
  throw new Refused(response.status, message);
}

/** What goes on. */
export const stats = async () => (await ask("/v1/stats", { signal: AbortSignal.timeout(10_000) })).json();

/** The body of a request for the next turn. */
export function body(messages, tools) {
  const { think, system, temperature, seed, max } = settings;
  const sent = messages.filter((m) => m.role !== "assistant" || m.content || m.reasoning || m.calls?.length).map(message);
  if (system.trim()) sent.unshift({ role: "system", content: system });
  const body = { messages: sent, stream: true, stream_options: { include_usage: true } };
  if (think === "off") body.thinking = { type: "disabled" };
  if (think === "max") body.reasoning_effort = "max";
  if (temperature !== "") body.temperature = Number(temperature);
  if (seed !== "") body.seed = Number(seed);
  if (max !== "") body.max_tokens = Number(max);
  if (tools.length) body.tools = tools;
  return body;
}

/** A turn as the API wants it. */
function message({ role, content, reasoning, calls, id }) {
  if (role === "tool") return { role, tool_call_id: id, content };
  const message = { role, content };
  if (reasoning) message.reasoning_content = reasoning;
  if (calls?.length) {
    message.tool_calls = calls.map(({ id, name, arguments: text }) => ({ id, type: "function", function: { name, arguments: text } }));
  }
  return message;
}

/** Sends a body; yields `{comment}` and `{data}` as they come, and throws what goes wrong. */
export async function* events(body, signal) {
  const headers = { "content-type": "application/json" };
  const response = await ask("/v1/chat/completions", { method: "POST", headers, body: JSON.stringify(body), signal });
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) throw new Error("The connection ended before the answer did.");
    const parts = (rest + value).split("\n\n");
    rest = parts.pop();
    for (const part of parts) {
      const event = parse(part);
      if (event.data === "[DONE]") return;
      if (event.comment) yield event;
      else if (event.data) yield { data: checked(JSON.parse(event.data)) };
    }
  }
}

/** The fields of an event. */
function parse(text) {
  const event = {};
  for (const line of text.split("\n")) {
    if (line.startsWith(": ")) event.comment = line.slice(2);
    else if (line.startsWith("data: ")) event.data = line.slice(6);
  }
  return event;
}

function checked(data) {
  if (data.error) throw new Error(data.error.message);
  return data;
}

/** The tools of a text: OpenAI's form, or only the functions. Throws what is wrong with it, for people. */
export function tools(text) {
  if (!text.trim()) return [];
  let list;
  try {
    list = JSON.parse(text);
  } catch (error) {
    throw new Error(`Tools: this is not JSON (${error.message}).`);
  }
  if (!Array.isArray(list)) throw new Error("Tools: a list is needed, in [ ].");
  return list.map((tool, i) => {
    const f = tool?.function ?? tool;
    if (typeof f?.name !== "string" || !f.name) throw new Error(`Tools: number ${i + 1} has no name.`);
    const parameters = f.parameters ?? f.input_schema ?? { type: "object", properties: {} };
    return { type: "function", function: { name: f.name, description: f.description ?? "", parameters } };
  });
}
