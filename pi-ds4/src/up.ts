/** Runs `ds4 up` until the server is ready. */

import { spawn } from "node:child_process";
import { EventReader, type Event } from "./events.ts";
import { oneLine } from "./text.ts";

/** How long the program may take to end after it was asked to. */
const GRACE_MS = 5000;
/** How long its last words may take after its end. */
const LAST_WORDS_MS = 1000;
const REASON = 500;

export type Ready = Extract<Event, { event: "ready" }>;

/** The start was given up by whoever wanted it. */
export class Cancelled extends Error {
  constructor() {
    super("ds4-server startup cancelled");
  }
}

export interface Call {
  program: string;
  args: string[];
  /** Told in an error: where more is to be read. */
  log: string;
}

/** The server's address once it is ready. An error says in a line why there is none. */
export function up(call: Call, progress: (message: string) => void, signal: AbortSignal): Promise<Ready> {
  return new Promise((resolve, reject) => {
    if (signal.aborted) return reject(new Cancelled());
    const child = spawn(call.program, call.args, { stdio: ["ignore", "pipe", "pipe"] });
    let failure: string | undefined;
    let complaint = "";
    const done = (settle: () => void) => {
      signal.removeEventListener("abort", cancel);
      settle();
    };
    const cancel = () => {
      child.kill("SIGTERM");
      setTimeout(() => child.kill("SIGKILL"), GRACE_MS).unref();
    };
    const reader = new EventReader((event) => {
      if (event.event === "progress") progress(event.message);
      else if (event.event === "failed") failure = event.message;
      else done(() => resolve(event));
    });
    const ended = (code: number | null, by: NodeJS.Signals | null) => {
      reader.end();
      if (signal.aborted) return done(() => reject(new Cancelled()));
      const last = complaint.trim().split("\n").pop() ?? "";
      const end = `\`ds4 up\` ended ${by ? `by ${by}` : `with ${code}`} before the server was ready${last && `: ${last}`}`;
      done(() => reject(new Error(failure ? oneLine(failure, REASON) : `${oneLine(end, REASON)}; see ${call.log}`)));
    };
    signal.addEventListener("abort", cancel, { once: true });
    child.stdout.on("data", (chunk: Buffer) => reader.write(chunk));
    child.stderr.on("data", (chunk: Buffer) => {
      complaint = (complaint + chunk.toString("utf8")).slice(-4096);
    });
    child.on("error", (error) => done(() => reject(new Error(`${call.program} cannot be run: ${error.message}`))));
    // Its pipes close with it, unless it has left them to another.
    child.on("exit", () => {
      const pipes = setTimeout(() => [child.stdout, child.stderr].forEach((pipe) => pipe.destroy()), LAST_WORDS_MS);
      child.on("close", () => clearTimeout(pipes));
    });
    child.on("close", ended);
  });
}
