/** A folder, programs and servers that tests make up. */

import { chmodSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { TestContext } from "node:test";

/** A folder that is gone after the test. */
export function folder(t: TestContext): string {
  const path = mkdtempSync(join(tmpdir(), "pi-ds4-"));
  t.after(() => rmSync(path, { recursive: true, force: true }));
  return path;
}

/** Something that can be executed. */
export function executable(path: string, text: string): string {
  writeFileSync(path, text);
  chmodSync(path, 0o755);
  return path;
}

/** A program `ds4` in `dir` that runs a shell script and keeps how it was called. */
export function fakeProgram(dir: string, script: string): { program: string; calls: () => string[] } {
  const log = join(dir, "calls");
  const program = executable(join(dir, "ds4"), `#!/bin/sh\necho "$*" >> '${log}'\n${script}\n`);
  return { program, calls: () => (existsSync(log) ? readFileSync(log, "utf8").trim().split("\n") : []) };
}

/** Waits until something is so. */
export async function until(what: () => boolean): Promise<void> {
  for (let i = 0; i < 1000 && !what(); i++) await new Promise((resolve) => setTimeout(resolve, 10));
  if (!what()) throw new Error("it did not come");
}
