/** settings.schema.json and settings.example.json, as the table of settings demands them. */

import { IGNORED, KEYS, type Key, spellings } from "./keys.ts";

const TYPES = {
  string: ["string", "null"],
  number: ["number", "string", "null"],
  switch: ["boolean", "number", "string", "null"],
};

/** The schema of settings.json: every setting in every spelling, and nothing else. */
export function settingsSchema(): object {
  const known = Object.entries<Key>(KEYS).map(([name, key]) => [name, property(key)] as const);
  const ignored = Object.entries(IGNORED).map(([name, why]) => [name, { description: `Ignored: ${why}`, deprecated: true }] as const);
  const properties: Record<string, object> = { $schema: { type: "string" } };
  for (const [name, schema] of [...known, ...ignored]) {
    for (const spelling of spellings(name)) properties[spelling] = schema;
  }
  return {
    $schema: "https://json-schema.org/draft/2020-12/schema",
    title: "Settings of pi-ds4: settings.json in ~/.pi/ds4",
    type: "object",
    additionalProperties: false,
    properties,
  };
}

/** A file with every setting at its default; null is what depends on the machine. */
export function settingsExample(): object {
  const entries = Object.entries<Key>(KEYS).map(([name, key]) => [spellings(name)[1], key.example ?? null]);
  return { $schema: "./settings.schema.json", ...Object.fromEntries(entries) };
}

function property({ about, kind, values }: Key): object {
  return values ? { description: about, enum: [...values, null] } : { description: about, type: TYPES[kind] };
}
