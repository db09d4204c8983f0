/** The short calls of `ds4`: what goes on, and that this process needs the server no more. */

import { execFile } from "node:child_process";

const RELEASE_MS = 5000;
/** More than the program itself waits for a server that is slow: twice 1.5 s. */
const STATUS_MS = 6000;

/** What `ds4 status --json` says. */
export interface Status {
  state: string;
  url: string | undefined;
  /** The server's process. */
  pid: number | undefined;
  model: string | undefined;
  context: number | undefined;
  leases: number;
  log: string | undefined;
}

/** Gives up the lease of a process; the server ends when nobody has one. Whether that was said. */
export async function release(program: string, pid: number): Promise<boolean> {
  return (await call(program, ["lease", "--pid", String(pid), "--release"], RELEASE_MS)) !== undefined;
}

/** What the program says of the server; nothing if it cannot say. It exits with 3 when no server runs. */
export async function status(program: string): Promise<Status | undefined> {
  const text = await call(program, ["status", "--json"], STATUS_MS, [0, 3]);
  try {
    const { state, url, pid, model, context, leases, log } = JSON.parse(text ?? "") as Record<string, unknown>;
    if (typeof state !== "string") return undefined;
    return {
      state,
      url: typeof url === "string" ? url.replace(/\/+$/, "") : undefined,
      pid: processNumber(pid),
      model: typeof model === "string" ? model : undefined,
      context: typeof context === "number" && context > 0 ? context : undefined,
      leases: Array.isArray(leases) ? leases.length : 0,
      log: typeof log === "string" ? log : undefined,
    };
  } catch {
    return undefined;
  }
}

/** The number of a process, if it is one. */
export function processNumber(value: unknown): number | undefined {
  return typeof value === "number" && Number.isSafeInteger(value) && value > 0 ? value : undefined;
}

/** What a call prints, if it ends in time with one of the codes. */
function call(program: string, args: string[], timeout: number, codes = [0]): Promise<string | undefined> {
  return new Promise((resolve) => {
    const options = { timeout, killSignal: "SIGKILL", maxBuffer: 1 << 20, encoding: "utf8" } as const;
    execFile(program, args, options, (error, stdout) => {
      const code = error ? error.code : 0;
      resolve(codes.some((wanted) => wanted === code) ? stdout : undefined);
    });
  });
}
