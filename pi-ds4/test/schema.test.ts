import assert from "node:assert/strict";
import { copyFileSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { IGNORED, KEYS, spellings } from "../src/keys.ts";
import { settingsExample, settingsSchema } from "../src/schema.ts";
import { loadSettings } from "../src/settings.ts";
import { folder } from "./helpers.ts";

/** The folder of the package; the tests run from build/test. */
const ROOT = join(import.meta.dirname, "..", "..");

function golden(name: string, value: object): void {
  const text = `${JSON.stringify(value, undefined, 2)}\n`;
  if (process.env["UPDATE_GOLDEN"]) writeFileSync(join(ROOT, name), text);
  assert.equal(readFileSync(join(ROOT, name), "utf8"), text, `${name} is not what the code says: UPDATE_GOLDEN=1 npm test`);
}

test("the schema is what the code reads, in four spellings each, and nothing else", () => {
  golden("settings.schema.json", settingsSchema());
  const { properties, additionalProperties } = settingsSchema() as { properties: object; additionalProperties: boolean };
  const names = [...Object.keys(KEYS), ...Object.keys(IGNORED)];
  assert.equal(additionalProperties, false);
  assert.deepEqual(new Set(Object.keys(properties)), new Set(["$schema", ...names.flatMap(spellings)]));
});

test("the example sets everything, and changes nothing", (t) => {
  golden("settings.example.json", settingsExample());
  const dir = folder(t);
  const defaults = loadSettings({ DS4_DIR: dir });
  copyFileSync(join(ROOT, "settings.example.json"), join(dir, "settings.json"));
  assert.deepEqual(loadSettings({ DS4_DIR: dir }), defaults);
  assert.equal(Object.keys(settingsExample()).length, 1 + Object.keys(KEYS).length);
});

test("a name is spelled in four ways", () => {
  assert.deepEqual(spellings("DS4_KV_DISK_SPACE_MB"), [
    "DS4_KV_DISK_SPACE_MB",
    "kvDiskSpaceMb",
    "ds4_kv_disk_space_mb",
    "kv_disk_space_mb",
  ]);
});

test("the README and the skill name every setting", () => {
  const read = (name: string) => readFileSync(join(ROOT, name), "utf8");
  const [readme, skill] = [read("README.md"), read("pi-ds4-config/SKILL.md")];
  for (const name of [...Object.keys(KEYS), ...Object.keys(IGNORED)]) assert.ok(readme.includes(`\`${name}\``), name);
  for (const name of Object.keys(KEYS)) assert.ok(skill.includes(`\`${spellings(name)[1]}\``), name);
});
