// Markdown to elements, the part of it that models write. Every text becomes a text node; addresses are links only when
// they are http, https or mailto, and pictures are links too: nothing is loaded from anywhere. Whatever the text, the work
// is bounded: what is searched for in vain is searched for once, and nesting ends at a depth.

import { button, make } from "./dom.js";

const DEEPEST = 8;
const FENCE = /^ {0,3}(`{3,}|~{3,})([^`]*)$/;
const HEADING = /^ {0,3}(#{1,6})[ \t]+(.*)$/;
const RULE = /^ {0,3}(?:(?:- *){3,}|(?:\* *){3,}|(?:_ *){3,})$/;
const ITEM = /^( {0,12})([-*+]|\d{1,9}[.)])(?:[ \t]+|$)/;
const QUOTE = /^ {0,3}> ?/;

/** Shows a text that grows: what is there already stays, so that it can be selected while more comes. */
export function show(element, text) {
  const blocks = split(text);
  blocks.forEach((source, i) => {
    const old = element.childNodes[i];
    if (old?.source === source) return;
    const node = block(source, 0);
    node.source = source;
    if (old) old.replaceWith(node);
    else element.append(node);
  });
  while (element.childNodes.length > blocks.length) element.lastChild.remove();
}

/** The sources of the blocks of a text. */
function split(text) {
  const lines = text.replaceAll("\r\n", "\n").split("\n");
  const blocks = [];
  for (let i = 0; i < lines.length; ) {
    if (!lines[i].trim()) {
      i += 1;
      continue;
    }
    const end = ends(lines, i);
    blocks.push(lines.slice(i, end).join("\n"));
    i = end;
  }
  return blocks;
}

/** The line after the block that begins at line `i`. */
function ends(lines, i) {
  const fence = FENCE.exec(lines[i]);
  if (fence) {
    const closes = (line) => line.trim().startsWith(fence[1]) && !line.trim().replaceAll(fence[1][0], "");
    for (let j = i + 1; j < lines.length; j += 1) if (closes(lines[j])) return j + 1;
    return lines.length;
  }
  if (HEADING.test(lines[i]) || RULE.test(lines[i])) return i + 1;
  const list = ITEM.test(lines[i]);
  const quote = QUOTE.test(lines[i]);
  let j = i + 1;
  for (; j < lines.length; j += 1) {
    const line = lines[j];
    if (list) {
      const goesOn = (line) => line !== undefined && (ITEM.test(line) || /^[ \t]+\S/.test(line));
      if (line.trim() ? startsOther(line) && !goesOn(line) : !goesOn(lines[j + 1])) break;
    } else if (!line.trim() || (quote ? startsOther(line) && !QUOTE.test(line) : startsOther(line) || ITEM.test(line))) break;
  }
  return j;
}

const startsOther = (line) => FENCE.test(line) || HEADING.test(line) || RULE.test(line) || QUOTE.test(line);

/** The element of a block. */
function block(source, depth) {
  const lines = source.split("\n");
  const fence = FENCE.exec(lines[0]);
  if (fence) return code(fence, lines);
  const heading = HEADING.exec(lines[0]);
  if (heading) return inline(make(`h${heading[1].length}`), heading[2].replace(/ #+ *$/, ""), 0);
  if (RULE.test(lines[0])) return make("hr");
  if (depth < DEEPEST) {
    if (QUOTE.test(lines[0])) return inside(make("blockquote"), lines.map((l) => l.replace(QUOTE, "")), depth);
    if (ITEM.test(lines[0])) return items(lines, depth);
    if (lines.length > 1 && lines[0].includes("|") && isRuler(lines[1])) return table(lines);
  }
  return inline(make("p"), source, 0);
}

function inside(element, lines, depth) {
  for (const source of split(lines.join("\n"))) element.append(block(source, depth + 1));
  return element;
}

function code([, marks, name], lines) {
  const last = lines.length > 1 && lines.at(-1).trim().startsWith(marks) ? -1 : lines.length;
  const text = lines.slice(1, last).join("\n");
  const head = make("div.block-head", make("span", name.trim().split(/\s/)[0].slice(0, 40)));
  if (navigator.clipboard) {
    const copy = button(".plain", "Copy", async () => {
      await navigator.clipboard.writeText(text);
      copy.textContent = "Copied";
    });
    head.append(copy);
  }
  return make("div.block", head, make("pre", { tabIndex: 0 }, make("code", text)));
}

function items(lines, depth) {
  const [, indent, mark] = ITEM.exec(lines[0]);
  const ordered = /\d/.test(mark);
  const list = make(ordered ? "ol" : "ul");
  if (ordered && Number.parseInt(mark, 10) !== 1) list.start = Number.parseInt(mark, 10);
  let item = [];
  const finish = () => {
    if (!item.length) return;
    const element = inside(make("li"), item, depth);
    if (element.firstChild?.tagName === "P") element.firstChild.replaceWith(...element.firstChild.childNodes);
    list.append(element);
  };
  for (const line of lines) {
    const start = ITEM.exec(line);
    if (start && start[1].length <= indent.length + 1) {
      finish();
      item = [line.slice(start[0].length)];
    } else {
      item.push(line.replace(/^[ \t]{1,4}/, ""));
    }
  }
  finish();
  return list;
}

const isRuler = (line) => /^[ \t|:-]+$/.test(line) && line.includes("-") && line.includes("|");

function table(lines) {
  const cells = (line) => line.trim().replace(/^\|/, "").replace(/\|$/, "").split("|").slice(0, 64);
  const row = (line, tag) => make("tr", ...cells(line).map((cell) => inline(make(tag), cell.trim(), 0)));
  const body = lines.slice(2).map((line) => row(line, "td"));
  return make("div.table", make("table", make("thead", row(lines[0], "th")), make("tbody", ...body)));
}

const SPECIAL = /[\\`*_~[]|!\[|https?:\/\//g;
const LINK = /!?\[([^[\]]{0,500})\]\(([^()\s]{1,2000}(?:\([^()\s]{0,200}\))?[^()\s]{0,200})\)/y;
const ADDRESS = /https?:\/\/[^\s<>"'`|]{1,2000}/y;
const MARKS = { "**": "strong", __: "strong", "~~": "del", "*": "em", _: "em" };

/** Puts a text with its emphasis, code and links into an element. */
function inline(element, text, depth) {
  const inVain = new Set();
  let from = 0; // of the text that is not put in yet
  let at = 0;
  const put = (node, end) => {
    element.append(text.slice(from, at), node);
    from = at = end;
  };
  while (at < text.length) {
    SPECIAL.lastIndex = at;
    const found = SPECIAL.exec(text);
    if (!found) break;
    at = found.index;
    const rest = span(text, at, depth, inVain);
    if (rest) put(rest.node, rest.end);
    else at += text[at] === "`" ? run(text, at) : 1;
  }
  element.append(text.slice(from));
  return element;
}

/** What begins at a special place: a node and where it ends; nothing if it is only text. */
function span(text, at, depth, inVain) {
  const char = text[at];
  if (char === "\\") {
    const next = text[at + 1] ?? "";
    return /[!-/:-@[-`{-~]/.test(next) ? { node: next, end: at + 2 } : null;
  }
  if (char === "`") return codeSpan(text, at, inVain);
  if (char === "h") {
    if (/\w/.test(text[at - 1] ?? "")) return null;
    ADDRESS.lastIndex = at;
    const address = ADDRESS.exec(text)?.[0].replace(/[.,;:!?)\]*_~]+$/, "");
    return address && { node: link(address, address), end: at + address.length };
  }
  if (char === "[" || char === "!") {
    LINK.lastIndex = at;
    const [whole, name, address] = LINK.exec(text) ?? [];
    return whole ? { node: link(name || address, address), end: at + whole.length } : null;
  }
  return depth < DEEPEST ? emphasis(text, at, depth, inVain) : null;
}

/** How many of the same character stand here. */
function run(text, at) {
  let end = at;
  while (text[end] === text[at]) end += 1;
  return end - at;
}

function codeSpan(text, at, inVain) {
  const marks = text.slice(at, at + run(text, at));
  if (inVain.has(marks)) return null;
  for (let end = at + marks.length; (end = text.indexOf(marks, end)) >= 0; ) {
    const length = run(text, end);
    if (length === marks.length) {
      return { node: make("code", text.slice(at + length, end).replaceAll("\n", " ")), end: end + length };
    }
    end += length;
  }
  inVain.add(marks);
  return null;
}

function emphasis(text, at, depth, inVain) {
  const two = text.slice(at, at + 2);
  const marks = MARKS[two] ? two : text[at];
  const start = at + marks.length;
  const wordy = (i) => /[\p{L}\p{N}]/u.test(text[i] ?? "");
  if (!MARKS[marks] || inVain.has(marks) || !/\S/.test(text[start] ?? "")) return null;
  if (marks[0] === "_" && wordy(at - 1)) return null; // a_name
  for (let end = start; (end = text.indexOf(marks, end)) >= 0; end += run(text, end)) {
    const closes = end > start && /\S/.test(text[end - 1]) && !(marks[0] === "_" && wordy(end + marks.length));
    // One mark does not close at two, unless these are what is left of three.
    if (closes && (marks.length === 2 || run(text, end) !== 2)) {
      const extra = marks.length === 2 && run(text, end) === 3 ? 1 : 0;
      const node = inline(make(MARKS[marks]), text.slice(start, end + extra), depth + 1);
      return { node, end: end + extra + marks.length };
    }
  }
  inVain.add(marks);
  return null;
}

/** A link that leads away without saying from where; what has another scheme is only text. */
function link(name, address) {
  const scheme = /^(https?|mailto):/i.test(address);
  if (!scheme || !URL.canParse(address)) return document.createTextNode(name === address ? name : `[${name}](${address})`);
  return make("a", { href: address, target: "_blank", rel: "noopener noreferrer", title: address }, name);
}
