/** Seeds of requests: the same conversation gets the same answer, and its calls the same names. */

/** The payload with a seed: its own if it has one above 0, else `seed`; as it is if there is no seed to give. */
export function withSeed(payload: unknown, seed: number | undefined): unknown {
  if (seed === undefined || typeof payload !== "object" || payload === null || Array.isArray(payload)) return payload;
  return { ...payload, seed: given((payload as { seed?: unknown }).seed) ?? seed };
}

/** A seed that a request has, as a number; a text of digits is one, too. */
function given(seed: unknown): number | undefined {
  const number = typeof seed === "string" && /^\s*\d+\s*$/.test(seed) ? Number(seed) : seed;
  return typeof number === "number" && Number.isSafeInteger(number) && number >= 1 ? number : undefined;
}
