// The conversation as it is seen: each turn with its thinking, text, calls and what can be done with it.

import { button, make, setText, time, whole } from "./dom.js";
import { show } from "./markdown.js";

/** How answers end that did not end by themselves. */
const ENDS = {
  length: "Cut off here: the answer is as long as it may be.",
  error: "The model broke off inside a tool call.",
};

/** The turns of one conversation. `acts`: `retry(message)`, `edit(message, text)`, `results(message, texts)`. */
export class Transcript {
  #views = [];

  constructor(root, acts) {
    this.root = root;
    this.acts = acts;
  }

  /** Shows these messages, one of which `run` may be writing. What is there already stays. */
  show(messages, run) {
    const wanted = [...messages];
    const last = messages.at(-1);
    if (last?.calls?.length && !run && last.finish === "tool_calls") wanted.push(last); // asks for results
    let same = 0;
    while (same < wanted.length && this.#views[same]?.message === wanted[same]) same += 1;
    this.#views.splice(same).forEach((view) => view.element.remove());
    for (const message of wanted.slice(same)) {
      const again = this.#views.some((view) => view.message === message);
      const view = again ? results(message, this.acts) : VIEWS[message.role](message, this.acts, messages);
      this.#views.push(view);
      this.root.append(view.element);
    }
    for (const view of this.#views) view.update?.(run?.message === view.message ? run : null);
  }

  /** Shows what is new in the message that `run` writes. */
  refresh(run) {
    this.#views.findLast((view) => view.message === run.message)?.update(run);
  }
}

const VIEWS = { user, assistant, tool };

/** What the person said. */
function user(message, acts) {
  const said = make("div.said", message.content);
  const buttons = make("div.acts", copy(() => message.content), button(".plain", "Edit", () => edit(element, message, acts)));
  const element = make("article.turn.user", { ariaLabel: "You" }, said, buttons);
  return { message, element };
}

/** What the person says that a tool gave back. */
function tool(message, acts, messages) {
  const call = messages.flatMap(({ calls = [] }) => calls).findLast(({ id }) => id === message.id);
  const buttons = make("div.acts", button(".plain", "Edit", () => edit(element, message, acts)));
  const text = make("pre", { tabIndex: 0 }, message.content || "(nothing)");
  const head = make("h4", "Result of ", make("code", message.name), make("span.small", short(call?.arguments ?? "")));
  const element = make("article.turn.tool", { ariaLabel: `Result of ${message.name}` }, make("div.call", head, text), buttons);
  return { message, element };
}

/** Lets the person change a turn and go on from there. */
function edit(element, message, acts) {
  const before = [...element.childNodes];
  const text = make("textarea", { value: message.content, rows: Math.min(12, message.content.split("\n").length + 1), ariaLabel: "Changed message" });
  const back = () => {
    element.replaceChildren(...before);
    element.classList.remove("editing");
    element.querySelector(".acts button:last-child").focus();
  };
  const send = () => (text.value.trim() || message.role === "tool") && acts.edit(message, text.value);
  const form = make("div.edit", text, make("p.small", "What came after it is dropped."),
    make("div.row", button(".plain", "Cancel", back), button(".send", "Send again", send)));
  text.addEventListener("keydown", (event) => {
    if (event.key === "Escape") back();
    else if (event.key === "Enter" && !event.shiftKey && !event.isComposing) send();
    else return;
    event.preventDefault();
    event.stopPropagation();
  });
  element.classList.add("editing");
  element.replaceChildren(form);
  text.focus();
}

function copy(text) {
  if (!navigator.clipboard) return null;
  const copy = button(".plain", "Copy", async () => {
    await navigator.clipboard.writeText(text());
    copy.textContent = "Copied";
    setTimeout(() => (copy.textContent = "Copy"), 1500);
  });
  return copy;
}

/** What the model said. */
function assistant(message, acts) {
  const thinking = thoughts();
  const text = make("div.text");
  const calls = make("div.calls");
  const progress = make("p.progress", make("i"), make("span"));
  const note = make("p.note");
  const error = make("p.error", { role: "alert" });
  const facts = make("span.facts-line");
  const retry = button(".plain", "Retry", () => acts.retry(message));
  const copies = copy(() => message.content);
  const buttons = make("div.acts", copies, retry, facts);
  const element = make("article.turn.assistant", { ariaLabel: "Answer" }, thinking.element, text, calls, progress, note, error, buttons);
  const update = (run) => {
    thinking.update(message, run);
    show(text, message.content);
    message.calls?.forEach((call, i) => {
      if (!calls.children[i]) calls.append(callView());
      updateCall(calls.children[i], call, Boolean(run));
    });
    const silent = run && !message.content && !message.calls.length && !message.reasoning;
    progress.hidden = !silent;
    if (silent) setText(progress.lastChild, run.status);
    element.ariaBusy = String(Boolean(run));
    note.hidden = !(message.stopped || ENDS[message.finish]);
    setText(note, message.stopped ? "Stopped." : (ENDS[message.finish] ?? ""));
    error.hidden = !message.error;
    setText(error, message.error ?? "");
    buttons.hidden = Boolean(run);
    if (copies) copies.hidden = !message.content;
    setText(facts, inNumbers(message));
  };
  return { message, element, update };
}

/** The part that thinks: open while it does, then closed, unless the person wants it otherwise. */
function thoughts() {
  const summary = make("summary");
  const text = document.createTextNode("");
  const box = make("div", text);
  const element = make("details.thinking", summary, box);
  let chosen = false;
  summary.addEventListener("click", () => (chosen = true));
  const update = ({ reasoning = "", facts }, run) => {
    element.hidden = !reasoning;
    const live = Boolean(run?.thinks);
    element.classList.toggle("live", live);
    const took = facts?.thought ?? facts?.seconds;
    setText(summary, live ? "Thinking…" : took === undefined ? "Thought" : `Thought for ${time(took - (facts.first ?? 0))}`);
    if (!chosen && element.open !== live) element.open = live;
    const atEnd = box.scrollHeight - box.scrollTop - box.clientHeight < 40;
    if (reasoning.startsWith(text.data)) text.appendData(reasoning.slice(text.length));
    else text.data = reasoning;
    if (live && atEnd) box.scrollTop = box.scrollHeight;
  };
  return { element, update };
}

function callView() {
  return make("div.call", make("h4", "Calls ", make("code")), make("pre", { tabIndex: 0, ariaLabel: "Arguments" }));
}

function updateCall(element, { name, arguments: text }, comes) {
  setText(element.querySelector("code"), name);
  setText(element.querySelector("pre"), comes ? text : pretty(text));
}

/** JSON with line breaks; what is none stays as it is. */
function pretty(text) {
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text;
  }
}

/** Enough of the arguments to tell calls apart. */
const short = (text) => (text.length > 60 ? `${text.slice(0, 60)}…` : text);

/** What an answer took. */
function inNumbers({ facts }) {
  if (!facts?.generated) return "";
  const { prompt, cached, generated, first, seconds } = facts;
  const parts = [`${whole(generated)} tokens`];
  if (generated > 1 && seconds - first > 0.05) parts.push(`${((generated - 1) / (seconds - first)).toFixed(1)} a second`);
  parts.push(`prompt ${whole(prompt)}${cached ? `, ${whole(cached)} from the cache` : ""}`, `first after ${time(first ?? seconds)}`);
  return parts.join(" · ");
}

/** The form for what the tools give back. */
function results(message, acts) {
  const texts = message.calls.map(({ name }) => make("textarea.code", { rows: 2, placeholder: "What it gives back", ariaLabel: `Result of ${name}` }));
  const send = () => acts.results(message, texts.map((text) => text.value));
  for (const text of texts) {
    text.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      const empty = texts.find((other) => !other.value);
      if (empty) empty.focus();
      else send();
    });
  }
  const heads = message.calls.map((call) => make("h4", "Result of ", make("code", call.name), make("span.small", short(call.arguments))));
  const forms = texts.map((text, i) => make("div.call", heads[i], text));
  const one = message.calls.length === 1;
  const row = make("div.row", button(".send", one ? "Send the result" : "Send the results", send));
  const element = make("section.turn.results", { ariaLabel: "Results of the tools" }, ...forms, row);
  return { message, element };
}
