// Elements out of names and texts. Text goes in as text, always; nothing here can make markup of it.

export const find = (id) => document.getElementById(id);

/** An element: `make("p.small", "text", child…)`; an object among the children sets properties. */
export function make(name, ...children) {
  const [tag, ...classes] = name.split(".");
  const element = document.createElement(tag);
  element.classList.add(...classes);
  for (const child of children) {
    if (child === null || child === undefined || child === false) continue;
    if (child instanceof Node || typeof child !== "object") element.append(child);
    else Object.assign(element, child);
  }
  return element;
}

/** A button that does something. */
export function button(name, text, action, more = {}) {
  const element = make("button" + name, { type: "button" }, text, more);
  element.addEventListener("click", action);
  return element;
}

/** Sets a text where it is another: what has not changed keeps its selection. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** `1234567` as `1,234,567`. */
export const whole = (n) => Math.round(n).toLocaleString("en-US");

/** Seconds as `0.8 s`, `12 s`, `3 min`, `2.5 h`. */
export function time(seconds) {
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  if (seconds < 120) return `${Math.round(seconds)} s`;
  if (seconds < 7200) return `${Math.round(seconds / 60)} min`;
  return seconds < 172800 ? `${(seconds / 3600).toFixed(1)} h` : `${Math.round(seconds / 86400)} days`;
}

/** Bytes as `12.3 MiB`. */
export function bytes(n) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  while (n >= 1024 && unit < units.length - 1) {
    n /= 1024;
    unit += 1;
  }
  return `${n < 10 && unit > 0 ? n.toFixed(1) : Math.round(n)} ${units[unit]}`;
}

/** Lets the person keep a text as a file. */
export function download(name, kind, text) {
  const url = URL.createObjectURL(new Blob([text], { type: kind }));
  make("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 1000);
}
