// What stays in this browser: each conversation under a key of its own, and the settings.

const TALK = "ds4.talk.";
const SETTINGS = "ds4.settings";

/** Takes over where the browser keeps nothing, until the page is closed. */
const memory = new Map();

function storage() {
  try {
    return window.localStorage;
  } catch {
    return null;
  }
}

function read(key) {
  const text = memory.get(key) ?? storage()?.getItem(key) ?? null;
  try {
    return text === null ? null : JSON.parse(text);
  } catch {
    return null;
  }
}

/** Whether it is kept beyond this page. */
function write(key, value) {
  const text = JSON.stringify(value);
  try {
    storage().setItem(key, text);
    memory.delete(key);
    return true;
  } catch {
    memory.set(key, text);
    return false;
  }
}

/** All conversations, the last one first. */
export function talks() {
  const keys = new Set(memory.keys());
  for (let i = 0; i < (storage()?.length ?? 0); i += 1) keys.add(storage().key(i));
  const talks = [...keys].filter((key) => key.startsWith(TALK)).map(read);
  return talks.filter((talk) => talk && talk.id && Array.isArray(talk.messages)).sort((a, b) => b.changed - a.changed);
}

/** A conversation that nobody has begun. */
export function newTalk() {
  return { id: crypto.getRandomValues(new Uint32Array(3)).join("-"), title: "", changed: Date.now(), messages: [] };
}

/** Keeps a conversation; false where the browser has no room. */
export const keep = (talk) => write(TALK + talk.id, talk);

export function forget(talk) {
  memory.delete(TALK + talk.id);
  storage()?.removeItem(TALK + talk.id);
}

/** Whether a key of the store is a conversation. */
export const isTalk = (key) => key === null || key.startsWith(TALK);

const DEFAULTS = { think: "on", system: "", temperature: "", seed: "", max: "", tools: "", key: "", live: true, open: "" };

export const settings = { ...DEFAULTS, ...read(SETTINGS) };

export function keepSettings(changes) {
  Object.assign(settings, changes);
  write(SETTINGS, settings);
}
