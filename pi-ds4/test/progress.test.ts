import assert from "node:assert/strict";
import { test, type TestContext } from "node:test";
import { EventReader, type Event, parseEvent } from "../src/events.ts";
import { Progress } from "../src/progress.ts";
import { bytes, duration, oneLine, plain } from "../src/text.ts";

const LINES = [
  '{"event":"progress","message":"pulling q2 – ü €"}',
  "not JSON",
  "[1]",
  '{"event":"unheard of"}',
  '{"event":"ready","url":"http://127.0.0.1:8000/","pid":1,"model":"mini","context":32768,"adopted":false}',
  '{"event":"failed"}',
];

function read(chunks: Buffer[]): Event[] {
  const events: Event[] = [];
  const reader = new EventReader((event) => events.push(event));
  for (const chunk of chunks) reader.write(chunk);
  reader.end();
  return events;
}

test("events are the same wherever their bytes are cut", () => {
  const bytes = Buffer.from(LINES.join("\n"));
  const whole = read([bytes]);
  assert.deepEqual(whole, [
    { event: "progress", message: "pulling q2 – ü €" },
    { event: "ready", url: "http://127.0.0.1:8000", pid: 1, model: "mini", context: 32768 },
    { event: "failed", message: "without a reason" },
  ]);
  for (let cut = 0; cut <= bytes.length; cut++) {
    assert.deepEqual(read([bytes.subarray(0, cut), bytes.subarray(cut)]), whole, `cut at ${cut}`);
  }
  assert.deepEqual(read([...bytes].map((byte) => Buffer.from([byte]))), whole);
});

test("a line without an end is not kept, and the next is read", () => {
  const long = Buffer.alloc(100_000, "x");
  assert.deepEqual(read([long, long, Buffer.from('\n{"event":"failed","message":"m"}\n')]), [{ event: "failed", message: "m" }]);
});

test("an address that is none is no event", () => {
  assert.equal(parseEvent('{"event":"ready","url":"file:///etc"}'), undefined);
  assert.equal(parseEvent('{"event":"ready"}'), undefined);
});

test("a download says size, percent, rate and time left, once", () => {
  const amounts = { done: 12.3e9, total: 80.8e9, rate: 95e6, eta: 721 };
  const event = (message: string) => parseEvent(JSON.stringify({ event: "progress", message, ...amounts }));
  assert.deepEqual(event("pulling q2"), {
    event: "progress",
    message: "pulling q2: 12.3 GB / 80.8 GB (15%, 95.0 MB/s, 12m 1s left)",
  });
  assert.deepEqual(event("q2: 15% of 80.8 GB"), { event: "progress", message: "q2: 15% of 80.8 GB" });
});

function shown(t: TestContext): { progress: Progress; said: string[]; pass: (ms: number) => void } {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const said: string[] = [];
  return { progress: new Progress((message) => said.push(message)), said, pass: (ms) => t.mock.timers.tick(ms) };
}

test("of messages that come fast the latest is shown, every 750 ms", (t) => {
  const { progress, said, pass } = shown(t);
  for (const message of ["a", "b", "c"]) progress.show(message);
  assert.deepEqual(said, ["a"]);
  pass(749);
  assert.deepEqual(said, ["a"]);
  pass(1);
  assert.deepEqual(said, ["a", "c"]);
  pass(750);
  progress.show("d");
  assert.deepEqual(said, ["a", "c", "d"]);
});

test("nothing is said twice in a row, and nothing that says only that time passes", (t) => {
  const { progress, said, pass } = shown(t);
  for (const message of ["a", "a", "ds4-server starting (3s)", "", "a", "b"]) {
    progress.show(message);
    pass(750);
  }
  assert.deepEqual(said, ["a", "b"]);
});

test("what waits when it is over is dropped", (t) => {
  const { progress, said, pass } = shown(t);
  progress.show("a");
  progress.show("b");
  progress.end();
  pass(1000);
  assert.deepEqual(said, ["a"]);
});

test("a message is one line of at most 160 characters", (t) => {
  const { progress, said } = shown(t);
  progress.show(`\u001b[31mred\u001b[0m\r\n  and ${"😀".repeat(200)}`);
  const [message = ""] = said;
  assert.match(message, /^red and 😀+…$/u);
  assert.equal([...message].length, 160);
});

test("escapes and controls of every kind are taken out", () => {
  assert.equal(plain("\u001b[1;31ma\u001b[0m\u001b]8;;http://x\u0007b\u001b]0;t\u001b\\c\u0007\u001b(Bd\u009be\u202ef"), "abcdef");
  assert.equal(plain("a\tb\nc"), "a\tb\nc");
  assert.equal(oneLine("abc", 3), "abc");
  assert.equal(oneLine("abcd", 3), "ab…");
});

test("sizes and times are read by people", () => {
  assert.deepEqual([0, 999, 1000, 80.76e9].map(bytes), ["0 B", "999 B", "1.0 kB", "80.8 GB"]);
  assert.deepEqual([0, 59.9, 61, 3720].map(duration), ["0s", "59s", "1m 1s", "1h 2m"]);
});

test("damaged lines are passed over, and what is read of them is of the right kind", () => {
  const whole = Buffer.from(`${LINES.join("\n")}\n`);
  let state = 1;
  const random = (below: number) => (state = (state * 48_271) % 2_147_483_647) % below;
  for (let round = 0; round < 2000; round++) {
    const bytes = Buffer.from(whole);
    for (let i = 0; i < 1 + random(8); i++) bytes[random(bytes.length)] = random(256);
    for (const event of read([bytes, whole])) {
      assert.ok(["progress", "ready", "failed"].includes(event.event));
      assert.equal(typeof (event.event === "ready" ? event.url : event.message), "string");
      if (event.event === "ready") assert.ok(event.context === undefined || event.context > 0);
    }
  }
});
