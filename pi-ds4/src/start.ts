/** One start at a time in this process, shared by all that want the same, and remembered if it failed. */

import { status } from "./lease.ts";
import type { Notify } from "./progress.ts";
import { Progress } from "./progress.ts";
import { type Call, Cancelled, type Ready, up } from "./up.ts";

/** How long a failure answers for itself: Pi tries three times more within seconds. */
const REMEMBERED_MS = 60_000;
const UNWIND_MS = 5000;

/** A server that this process has a lease on. */
export interface Running extends Ready {
  /** What it was asked for with. */
  key: string;
}

interface Flight {
  key: string;
  promise: Promise<Running>;
  abort: AbortController;
  waiters: number;
}

/** What a start needs to know beside its call. */
export interface Wish {
  call: Call;
  notify: Notify;
  signal: AbortSignal | undefined;
}

export class Starter {
  /** Whether a lease may be held, which has to be released. */
  leased = false;
  running: Running | undefined;
  private flight: Flight | undefined;
  private failure: { key: string; error: Error; at: number } | undefined;
  private readonly now: () => number;

  /** `now`: milliseconds of a clock that nobody sets. */
  constructor(now = () => performance.now()) {
    this.now = now;
  }

  /** A server that is ready and has the model that was wished. */
  async ensure(wish: Wish): Promise<Running> {
    const key = JSON.stringify([wish.call.program, ...wish.call.args]);
    for (let flight = this.flight; flight; flight = this.flight) {
      if (flight.key === key && !flight.abort.signal.aborted) return this.join(flight, wish.signal);
      // Another one's start: only those who want it keep it going.
      await unlessAborted(flight.promise, wish.signal).catch((error: unknown) => {
        if (wish.signal?.aborted) throw error;
      });
    }
    if (this.failure?.key === key && this.now() - this.failure.at < REMEMBERED_MS) throw this.failure.error;
    return this.join(this.take(key, wish), wish.signal);
  }

  /** Forgets a failure: something may have changed. */
  forget(): void {
    this.failure = undefined;
  }

  /** Ends a start that is under way, and waits a little until it has. */
  async cancel(): Promise<void> {
    const flight = this.flight;
    if (!flight) return;
    flight.abort.abort();
    const late = new Promise((resolve) => setTimeout(resolve, UNWIND_MS).unref());
    await Promise.race([flight.promise.catch(() => {}), late]);
  }

  private take(key: string, wish: Wish): Flight {
    const abort = new AbortController();
    const promise = this.begin(key, wish, abort.signal);
    const flight = { key, promise, abort, waiters: 0 };
    this.flight = flight;
    this.failure = undefined;
    const landed = () => {
      if (this.flight === flight) this.flight = undefined;
    };
    promise.then(landed, (error: unknown) => {
      landed();
      if (error instanceof Error && !(error instanceof Cancelled)) this.failure = { key, error, at: this.now() };
    });
    return flight;
  }

  /** Waits with the others. When the last one has left, the start is given up. */
  private async join(flight: Flight, signal: AbortSignal | undefined): Promise<Running> {
    flight.waiters += 1;
    try {
      return await unlessAborted(flight.promise, signal);
    } finally {
      flight.waiters -= 1;
      if (flight.waiters === 0) flight.abort.abort();
    }
  }

  private async begin(key: string, wish: Wish, signal: AbortSignal): Promise<Running> {
    const { call, notify } = wish;
    const known = this.running;
    const there = await status(call.program);
    const runs = there?.state === "running";
    // The same process: another one's model may be another, whatever it is called.
    if (known?.key === key && runs && there.pid !== undefined && there.pid === known.pid) return known;
    // A server that runs already is only asked for a lease, which is no news.
    const quiet = runs && known === undefined;
    const progress = new Progress(notify);
    try {
      if (!quiet) progress.show("preparing ds4-server");
      this.leased = true;
      const ready = await up(call, (message) => progress.show(message), signal);
      this.running = { ...ready, key };
      if (!quiet) notify("ds4-server ready", "info");
      return this.running;
    } catch (error) {
      this.running = undefined;
      throw error;
    } finally {
      progress.end();
    }
  }
}

/** What a promise gives, unless the signal comes first. */
async function unlessAborted<T>(promise: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (signal?.aborted) throw new Cancelled();
  let leave = () => {};
  const left = new Promise<never>((_, reject) => {
    leave = () => reject(new Cancelled());
    signal?.addEventListener("abort", leave, { once: true });
  });
  try {
    return await Promise.race([promise, left]);
  } finally {
    signal?.removeEventListener("abort", leave);
  }
}

/** The process' one starter: /reload and /new evaluate the extension anew, and the server is still there. */
export function sharedStarter(): Starter {
  const place = globalThis as { [STARTER]?: Starter };
  place[STARTER] ??= new Starter();
  return place[STARTER];
}

const STARTER = Symbol.for("pi-ds4.starter");
