import assert from "node:assert/strict";
import { test } from "node:test";
import { withSeed } from "../src/seed.ts";

test("a request without a seed above 0 gets one", () => {
  for (const seed of [undefined, null, 0, -1, "", "0", "-3", "x", "1e3", 1.5, Number.NaN, {}]) {
    assert.deepEqual(withSeed({ model: "m", seed }, 42), { model: "m", seed: 42 }, String(seed));
  }
});

test("a seed of one's own is kept, and is a number", () => {
  assert.deepEqual(withSeed({ seed: 7 }, 42), { seed: 7 });
  assert.deepEqual(withSeed({ seed: " 9007199254740991 " }, 42), { seed: Number.MAX_SAFE_INTEGER });
  assert.deepEqual(withSeed({ seed: "9007199254740993" }, 42), { seed: 42 });
});

test("where there is none to give, requests stay as they are", () => {
  const payload = { seed: "7" };
  assert.equal(withSeed(payload, undefined), payload);
  assert.equal(withSeed("text", 42), "text");
  assert.equal(withSeed(null, 42), null);
});
