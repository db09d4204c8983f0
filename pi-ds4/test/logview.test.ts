import assert from "node:assert/strict";
import { appendFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { LogTail } from "../src/log.ts";
import { LogView } from "../src/logview.ts";
import { folder } from "./helpers.ts";

/** A view of a log, in a terminal whose keys are their names. */
function view(t: TestContext, text?: string, rows = 24) {
  const path = join(folder(t), "log");
  if (text !== undefined) writeFileSync(path, text);
  const seen = { renders: 0, closed: 0 };
  const screen = { terminal: { rows }, requestRender: () => void seen.renders++ };
  const terminal = {
    matches: (data: string, key: string) => data === key,
    width: (line: string) => [...line].length,
    cut: (line: string, width: number) => [...line].slice(0, width).join(""),
  };
  const log = new LogView(path, screen, { fg: (_, line) => line }, terminal, () => void seen.closed++);
  t.after(() => log.dispose());
  const press = (...keys: string[]) => keys.forEach((key) => log.handleInput(key));
  /** The title, and the lines in the box. */
  const shown = (width = 80) => {
    const lines = log.render(width);
    const body = lines.slice(1, -3).map((line) => line.slice(2, -2).trimEnd());
    return { title: lines[0] ?? "", body, footer: lines.at(-2) ?? "", lines };
  };
  return { path, screen, seen, log, press, shown };
}

const numbered = (from: number, to: number) =>
  Array.from({ length: to - from + 1 }, (_, i) => `line ${from + i}\n`).join("");

test("the box fits the terminal and follows the log", (t) => {
  const { path, shown, log, seen } = view(t, numbered(1, 100));
  const { title, body, lines, footer } = shown(70);
  assert.match(title, /^╭─ ds4 log • live ─+╮$/);
  assert.deepEqual([body[0], body.at(-1), body.length], ["line 87", "line 100", 14]);
  assert.match(footer, /↑↓ scroll • Pg page • End live • q\/Esc close/);
  assert.deepEqual(new Set(lines.map((line) => [...line].length)), new Set([70]));
  appendFileSync(path, "line 101\nand a beginn");
  log.refresh();
  assert.deepEqual(shown().body.slice(-2), ["line 101", "and a beginn"]);
  appendFileSync(path, "ing\n");
  log.refresh();
  assert.equal(shown().body.at(-1), "and a beginning");
  assert.equal(seen.renders, 2);
  log.refresh();
  assert.equal(seen.renders, 2);
});

test("every key does what the footer says", (t) => {
  const { press, shown } = view(t, numbered(1, 100)); // 14 lines shown, 12 a page
  const first = () => shown().body[0];
  for (const [up, down] of [["up", "down"], ["k", "j"]] as const) {
    press(up, up);
    assert.deepEqual([first(), shown().title.includes("2 lines up")], ["line 85", true]);
    press(down);
    assert.equal(first(), "line 86");
    press(down, down);
    assert.deepEqual([first(), shown().title.includes("live")], ["line 87", true]);
  }
  for (const [up, down] of [["pageUp", "pageDown"], ["b", "f"]] as const) {
    press(up);
    assert.equal(first(), "line 75");
    press(down);
    assert.equal(first(), "line 87");
  }
  press("home", "up");
  assert.equal(first(), "line 1");
  press("end");
  assert.equal(first(), "line 87");
});

test("q and Esc close, and nothing else does", (t) => {
  const { press, seen } = view(t, "");
  press("q", "escape", "x", "enter");
  assert.equal(seen.closed, 2);
});

test("a window that was scrolled stays where it is while the log grows", (t) => {
  const { path, press, shown, log } = view(t, numbered(1, 100));
  press("up", "up", "up");
  appendFileSync(path, numbered(101, 110));
  log.refresh();
  assert.deepEqual([shown().body[0], shown().title.includes("13 lines up")], ["line 84", true]);
});

test("it is between 8 and 40 rows high, however large the terminal", (t) => {
  for (const [rows, height] of [[5, 8], [24, 18], [46, 40], [200, 40]] as const) {
    assert.equal(view(t, "", rows).shown().lines.length, height, `${rows} rows`);
  }
  assert.ok(view(t, numbered(1, 9)).log.render(3).length > 0);
});

test("a log that is not there yet is shown when it comes", (t) => {
  const { path, log, shown, seen } = view(t);
  assert.deepEqual(shown(120).body[0]?.startsWith("No ds4 log yet: /"), true);
  log.refresh();
  assert.equal(seen.renders, 0);
  writeFileSync(path, "here\n");
  log.refresh();
  assert.equal(shown().body[0], "here");
  rmSync(path);
  log.refresh();
  assert.match(shown(120).body[0] ?? "", /^No ds4 log yet: /);
});

test("colours go, and a carriage return is a line", (t) => {
  const { shown } = view(t, "\u001b[31mred\u001b[0m\r\n10%\r20%\ra\tb\n");
  assert.deepEqual(shown().body.slice(0, 4), ["red", "10%", "20%", "a    b"]);
});

test("a line break of two characters is one, even if it comes in two parts", (t) => {
  const path = join(folder(t), "log");
  writeFileSync(path, "a\r");
  const tail = new LogTail(path);
  assert.deepEqual(tail.shown(), ["a"]);
  appendFileSync(path, "\nb\r");
  tail.poll();
  appendFileSync(path, "c\n");
  tail.poll();
  assert.deepEqual(tail.lines, ["a", "b", "c"]);
});

test("of a long log the end is shown, and that it is", (t) => {
  const path = join(folder(t), "log");
  writeFileSync(path, numbered(1, 50_000));
  const tail = new LogTail(path);
  assert.match(tail.header ?? "", /^\[showing last \d+\.\d kB of \d+\.\d kB from .*log\]$/);
  assert.deepEqual([tail.lines.length, tail.lines[0], tail.lines.at(-1)], [2000, "line 48001", "line 50000"]);
  appendFileSync(path, numbered(50_001, 50_003));
  assert.deepEqual([tail.poll().added, tail.lines.length, tail.lines[0]], [3, 2000, "line 48004"]);
});

test("a character that is cut is whole when its rest comes, and a log that begins anew is read anew", (t) => {
  const path = join(folder(t), "log");
  const euro = Buffer.from("€\n");
  writeFileSync(path, euro.subarray(0, 1));
  const tail = new LogTail(path);
  appendFileSync(path, euro.subarray(1));
  tail.poll();
  assert.deepEqual(tail.lines, ["€"]);
  writeFileSync(path, "x\n");
  tail.poll();
  assert.deepEqual(tail.lines, ["x"]);
});
