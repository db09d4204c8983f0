// Ties the page together: which conversation is open, what runs, and what each button and key does.

import { tools } from "./api.js";
import { Run } from "./chat.js";
import { button, download, find, make, setText } from "./dom.js";
import { Panel, watch } from "./live.js";
import { openSettings, setUpSettings } from "./settings.js";
import { forget, isTalk, keep, keepSettings, newTalk, settings, talks } from "./store.js";
import { Transcript } from "./turns.js";

const STARTERS = ["What is 7 + 8?", "Reply with exactly: green falcon", "Tell me a story about a robot."];
const narrow = matchMedia("(max-width: 1150px)");

let list = talks();
let talk = newTalk();
/** Answers on their way, by conversation. */
const runs = new Map();
let server = null;
let frame = 0;

const transcript = new Transcript(find("turns"), {
  retry(message) {
    talk.messages.length = talk.messages.indexOf(message);
    answer();
  },
  edit(message, text) {
    runs.get(talk.id)?.stop();
    let at = talk.messages.indexOf(message);
    if (message.role === "tool") while (talk.messages[at + 1]?.role === "tool") at += 1; // the other results stay
    const changed = { ...message, content: text };
    talk.messages.length = at + 1;
    talk.messages[talk.messages.indexOf(message)] = changed;
    answer();
  },
  results(message, texts) {
    message.calls.forEach(({ id, name }, i) => talk.messages.push({ role: "tool", id, name, content: texts[i] }));
    answer();
  },
});

// --- The conversation that is open ---

function open(other) {
  talk = other;
  keepSettings({ open: other.id });
  rename(false);
  find("menu").open = false;
  render();
  find("scroll").scrollTop = find("scroll").scrollHeight;
  shut();
}

/** Lets the model answer what is there. */
function answer() {
  const here = talk;
  let offered;
  try {
    offered = tools(settings.tools);
  } catch (error) {
    openSettings(error.message, "tools");
    return;
  }
  here.changed = Date.now();
  const keepIt = () => save(here);
  const run = new Run(here, offered, { changed: () => soon(run), keep: keepIt });
  runs.set(here.id, run);
  if (!list.includes(here)) list.unshift(here);
  keepIt();
  render();
  toEnd();
  say("The model answers.");
  run.go().then(() => {
    if (runs.get(here.id) === run) runs.delete(here.id);
    const { error, status, stopped } = run.message;
    say(error ? "" : stopped ? "Stopped." : "The answer is complete.");
    if (status === 401) openSettings(error, "key");
    const follow = atEnd();
    render();
    if (follow) toEnd();
    if (here === talk && [document.body, find("prompt")].includes(document.activeElement)) find("turns").querySelector(".results textarea")?.focus();
    look();
  });
  look();
}

/** Keeps a conversation, unless it was deleted meanwhile. */
function save(some) {
  if (list.includes(some) && !keep(some)) {
    toast("This browser has no room to keep the conversation. Export it, or delete others.");
  }
}

function send() {
  const text = find("prompt").value;
  if (!text.trim() || runs.has(talk.id) || waitsForResults()) return;
  find("prompt").value = "";
  grow();
  talk.title ||= text.trim().split("\n")[0].slice(0, 60);
  talk.messages.push({ role: "user", content: text });
  answer();
}

const waitsForResults = () => talk.messages.at(-1)?.finish === "tool_calls";

/** Shows everything. */
function render() {
  const run = runs.get(talk.id);
  setText(find("title"), talk.title || "New conversation");
  document.title = talk.title ? `${talk.title} · ds4` : "ds4";
  find("empty").hidden = talk.messages.length > 0;
  find("menu").hidden = !list.includes(talk);
  transcript.show(talk.messages, run);
  find("send").hidden = Boolean(run);
  find("stop").hidden = !run;
  find("prompt").placeholder = waitsForResults() ? "Give the results above first" : "Message";
  const entries = list.map((other) => {
    const open = button("", make("span", other.title), () => openTalk(other));
    open.title = other.title;
    if (other === talk) open.setAttribute("aria-current", "true");
    if (runs.has(other.id)) open.append(make("i", { title: "answers" }));
    return make("li", open);
  });
  const focused = [...find("conversations").querySelectorAll("button")].indexOf(document.activeElement);
  find("conversations").replaceChildren(...entries);
  find("conversations").querySelectorAll("button")[focused]?.focus();
  buttons();
}

function openTalk(other) {
  open(other);
  find("prompt").focus();
}

/** Shows what is new of an answer with the next frame. */
function soon(run) {
  if (run.talk !== talk || frame) return;
  frame = requestAnimationFrame(() => {
    frame = 0;
    const follow = atEnd();
    if (runs.get(talk.id)) transcript.refresh(runs.get(talk.id));
    if (follow) toEnd();
    else find("to-end").hidden = false;
  });
}

function buttons() {
  find("send").disabled = !find("prompt").value.trim() || waitsForResults();
}

function grow() {
  const prompt = find("prompt");
  prompt.style.height = "auto";
  prompt.style.height = `${prompt.scrollHeight}px`;
  buttons();
}

function atEnd() {
  const { scrollHeight, scrollTop, clientHeight } = find("scroll");
  return scrollHeight - scrollTop - clientHeight < 60;
}

function toEnd() {
  find("scroll").scrollTop = find("scroll").scrollHeight;
  find("to-end").hidden = true;
}

const say = (text) => setText(find("said"), text);

// --- What can be done with a conversation ---

function rename(on) {
  find("rename").hidden = !on;
  find("title").hidden = on;
  if (on) {
    find("rename").value = talk.title;
    find("rename").focus();
    find("rename").select();
  }
}

function renamed() {
  if (find("rename").hidden) return;
  talk.title = find("rename").value.trim() || talk.title;
  rename(false);
  save(talk);
  render();
}

function remove() {
  const gone = talk;
  runs.get(gone.id)?.stop();
  list = list.filter((other) => other !== gone);
  forget(gone);
  openTalk(newTalk());
  toast("Deleted.", () => {
    list = [gone, ...list].sort((a, b) => b.changed - a.changed);
    save(gone);
    openTalk(gone);
  });
}

function asMarkdown({ title, messages }) {
  const NAMES = { user: "You", assistant: "Answer", tool: "Result" };
  const fenced = (kind, text) => {
    let fence = "```";
    while (text.includes(fence)) fence += "`";
    return `${fence}${kind}\n${text}\n${fence}`;
  };
  const turn = ({ role, name, content, reasoning, calls = [] }) => {
    const parts = [`## ${NAMES[role]}${name ? ` of ${name}` : ""}`];
    if (reasoning) parts.push(reasoning.trim().replace(/^/gm, "> "));
    if (content) parts.push(role === "tool" ? fenced("", content) : content);
    for (const call of calls) parts.push(`Calls \`${call.name}\`:`, fenced("json", call.arguments));
    return parts.join("\n\n");
  };
  return [`# ${title}`, ...messages.map(turn)].join("\n\n") + "\n";
}

function exported(kind) {
  const name = (talk.title || "conversation").replace(/[^\p{L}\p{N} _-]/gu, "").trim().slice(0, 60) || "conversation";
  if (kind === "json") download(`${name}.json`, "application/json", `${JSON.stringify(talk, null, 2)}\n`);
  else download(`${name}.md`, "text/markdown", asMarkdown(talk));
}

let toasted = 0;
function toast(text, undo) {
  const [words, action] = find("toast").children;
  words.textContent = text;
  action.hidden = !undo;
  action.onclick = () => {
    find("toast").hidden = true;
    undo();
  };
  find("toast").hidden = false;
  clearTimeout(toasted);
  toasted = setTimeout(() => (find("toast").hidden = true), 8000);
}

// --- The server ---

const panel = new Panel();

function heard(now) {
  const first = !server;
  server = now;
  banner("");
  const { running, waiting } = now.requests;
  const load = running + waiting ? `${running} running${waiting ? `, ${waiting} waiting` : ""}` : "ready";
  setText(find("state").lastChild, now.status === "ok" ? `${now.model.name} · ${load}` : now.status);
  find("state").firstChild.className = `dot ${now.status !== "ok" ? "bad" : running ? "busy" : "ok"}`;
  if (now.status === "failed") banner("The engine has failed; the server's log says why. It must be started again.");
  if (liveOpen()) panel.update(now);
  setText(find("empty-model"), now.model.name);
  if (now.model.id === "v4-mini") {
    setText(find("empty-note"), "This is the built-in toy model: it greets, adds small numbers, repeats words and calls tools. Start the server with -m FILE for the real one.");
    if (first) find("starters").replaceChildren(...STARTERS.map((text) => make("li", button("", text, () => start(text)))));
  }
  const max = find("think").querySelector("[value=max]");
  max.disabled = now.model.context_length < 393216;
  max.title = max.disabled ? "needs a context of 393,216 tokens" : "";
}

function lost(error) {
  find("state").firstChild.className = "dot bad";
  if (error.status === 401) {
    setText(find("state").lastChild, "needs a key");
    if (server !== false && !settings.key) openSettings(error.message, "key");
    server = false;
    banner("The server wants an API key; the settings have a field for it.");
    return;
  }
  setText(find("state").lastChild, "not reachable");
  banner(error.status ? error.message : "The server does not answer. This page goes on as soon as it does.");
}

function banner(text) {
  setText(find("banner"), text);
  find("banner").hidden = !text;
}

function start(text) {
  find("prompt").value = text;
  send();
}

const liveOpen = () => (narrow.matches ? find("live").classList.contains("open") : settings.live);

/** Shows the panels that are to be seen, on narrow screens as drawers. */
function panels() {
  const live = liveOpen();
  document.body.classList.toggle("no-live", !live);
  find("show-live").ariaExpanded = String(live);
  const side = find("side").classList.contains("open");
  find("show-side").ariaExpanded = String(side);
  find("shade").hidden = !(side || (narrow.matches && live));
}

function toggleLive() {
  if (narrow.matches) find("live").classList.toggle("open");
  else keepSettings({ live: !settings.live });
  panels();
  if (liveOpen() && server) panel.update(server);
}

/** Closes the drawers. */
function shut() {
  find("live").classList.remove("open");
  find("side").classList.remove("open");
  panels();
}

// --- Buttons and keys ---

const on = (id, event, action) => find(id).addEventListener(event, action);
on("composer", "submit", (event) => {
  event.preventDefault();
  send();
});
on("prompt", "input", grow);
on("prompt", "keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    send();
  }
});
on("stop", "click", () => runs.get(talk.id)?.stop());
on("new", "click", () => openTalk(newTalk()));
on("do-rename", "click", () => {
  find("menu").open = false;
  rename(true);
});
on("rename", "blur", renamed);
on("rename", "keydown", (event) => {
  if (event.key === "Escape") find("rename").value = talk.title;
  if (event.key === "Enter" || event.key === "Escape") renamed();
  event.stopPropagation();
});
on("delete", "click", remove);
on("export-markdown", "click", () => exported("markdown"));
on("export-json", "click", () => exported("json"));
on("menu", "click", (event) => {
  if (event.target.closest("div button")) find("menu").open = false;
});
on("menu", "focusout", (event) => {
  if (event.relatedTarget && !find("menu").contains(event.relatedTarget)) find("menu").open = false;
});
on("think", "change", () => keepSettings({ think: find("think").value }));
on("show-settings", "click", () => openSettings());
on("show-live", "click", toggleLive);
on("hide-live", "click", shut);
on("show-side", "click", () => {
  find("side").classList.toggle("open");
  panels();
});
on("shade", "click", shut);
on("to-end", "click", toEnd);
on("scroll", "scroll", () => {
  if (atEnd()) find("to-end").hidden = true;
});
document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape" || find("settings").open) return;
  if (find("menu").open) find("menu").open = false;
  else if (!find("shade").hidden) shut();
  else runs.get(talk.id)?.stop();
});
narrow.addEventListener("change", shut);
window.addEventListener("storage", ({ key }) => {
  // Another window of this page has changed something; what is open here stays.
  if (!isTalk(key)) return;
  const here = [talk, ...[...runs.values()].map((run) => run.talk)];
  list = talks().map((other) => here.find(({ id }) => id === other.id) ?? other);
  render();
});

find("think").value = settings.think;
setUpSettings(() => look());
const look = watch({ heard, lost, busy: () => liveOpen() || runs.size > 0 || !server });
panels();
open(list.find(({ id }) => id === settings.open) ?? talk);
find("prompt").focus();
