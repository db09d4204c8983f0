/** A folder, programs and servers that tests make up. */

import { chmodSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
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

/** A server of a model that answers `/ready` and `/v1/models`, at `url`. */
export async function fakeServer(t: TestContext, id = "v4-mini"): Promise<{ url: string; state: { ready: number; id: string } }> {
  const state = { ready: 200, id };
  const server: Server = createServer((request, response) => {
    const ready = request.url === "/ready";
    response.writeHead(ready ? state.ready : 200, { "content-type": "application/json" });
    response.end(ready ? "{}" : JSON.stringify({ data: [{ id: state.id }] }));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  t.after(() => server.close());
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, state };
}

/** Waits until something is so. */
export async function until(what: () => boolean): Promise<void> {
  for (let i = 0; i < 1000 && !what(); i++) await new Promise((resolve) => setTimeout(resolve, 10));
  if (!what()) throw new Error("it did not come");
}
