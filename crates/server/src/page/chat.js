// One answer on its way: sends the conversation, takes the events in, and can be stopped.

import { Refused, body, events } from "./api.js";
import { whole } from "./dom.js";

/** How often a text that grows is kept, in ms. */
const KEEP_EVERY = 2000;

export class Run {
  #abort = new AbortController();
  #begun = performance.now();
  #kept = performance.now();

  /** Answers the last turn of `talk`; calls `changed` for all news and `keep` when there is something to keep. */
  constructor(talk, tools, { changed, keep }) {
    this.talk = talk;
    this.changed = changed;
    this.keep = keep;
    this.body = body(talk.messages, tools);
    this.message = { role: "assistant", content: "", reasoning: "", calls: [] };
    /** What goes on while nothing is written. */
    this.status = "Sent";
    talk.messages.push(this.message);
  }

  /** Seconds since it was sent. */
  get seconds() {
    return (performance.now() - this.#begun) / 1000;
  }

  get thinks() {
    const { reasoning, content, calls } = this.message;
    return Boolean(reasoning) && !content && !calls.length;
  }

  stop() {
    this.#abort.abort();
  }

  /** Runs to its end, whatever that is; the message says what it was. */
  async go() {
    try {
      for await (const event of events(this.body, this.#abort.signal)) this.#take(event);
    } catch (error) {
      if (this.#abort.signal.aborted) this.message.stopped = true;
      else Object.assign(this.message, { error: words(error), status: error.status ?? 0 });
    }
    this.#abort.abort(); // closes what is still open
    this.#time("seconds");
    this.keep();
  }

  #take({ comment, data }) {
    if (comment) this.status = said(comment) ?? this.status;
    const [choice] = data?.choices ?? [];
    if (choice) this.#delta(choice);
    if (data?.usage) {
      const { prompt_tokens: prompt, completion_tokens: generated, prompt_tokens_details: more } = data.usage;
      Object.assign(this.#facts, { prompt, generated, cached: more?.cached_tokens ?? 0 });
    }
    if (performance.now() - this.#kept > KEEP_EVERY) {
      this.#kept = performance.now();
      this.keep();
    }
    this.changed();
  }

  #delta({ delta = {}, finish_reason: finish }) {
    const { message } = this;
    const text = delta.content ?? "";
    const calls = delta.tool_calls ?? [];
    if (delta.reasoning_content || text || calls.length) this.#time("first");
    if (text || calls.length) this.#time("thought");
    message.reasoning += delta.reasoning_content ?? "";
    message.content += text;
    for (const { index, id, function: f } of calls) {
      message.calls[index] ??= { id: "", name: "", arguments: "" };
      const call = message.calls[index];
      call.id ||= id ?? "";
      call.name ||= f?.name ?? "";
      call.arguments += f?.arguments ?? "";
    }
    if (finish) message.finish = finish;
  }

  get #facts() {
    return (this.message.facts ??= {});
  }

  /** Notes when something happened first. */
  #time(what) {
    this.#facts[what] ??= this.seconds;
  }
}

/** What a comment of the server means. */
function said(comment) {
  const [, before] = /^queued, (\d+) before/.exec(comment) ?? [];
  if (before) return `In the queue, ${before} before this`;
  const [, done, total] = /^prefill (\d+)\/(\d+)/.exec(comment) ?? [];
  if (total) return `Reading: ${whole(done)} of ${whole(total)} tokens`;
  return comment.startsWith("prefill") ? "Reading" : null;
}

/** What went wrong, in the server's words where it has any. */
function words(error) {
  if (error instanceof Refused) return error.message;
  return error instanceof TypeError ? "The server does not answer, or the connection broke." : error.message;
}
