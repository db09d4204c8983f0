/** What `ds4 up --json` says: a JSON object on each line. */

import { StringDecoder } from "node:string_decoder";
import { processNumber } from "./lease.ts";
import { bytes, duration } from "./text.ts";

export type Event =
  | { event: "progress"; message: string }
  | { event: "ready"; url: string; pid: number | undefined; model: string | undefined; context: number | undefined }
  | { event: "failed"; message: string };

const LONGEST_LINE = 64 * 1024;

/** Puts lines together however the bytes come, and gives an event for each; what is none is passed over. */
export class EventReader {
  private readonly decoder = new StringDecoder("utf8");
  private rest = "";
  /** Inside a line that is too long, until its end. */
  private skipping = false;
  private readonly each: (event: Event) => void;

  constructor(each: (event: Event) => void) {
    this.each = each;
  }

  write(chunk: Buffer): void {
    const lines = (this.rest + this.decoder.write(chunk)).split("\n");
    this.rest = lines.pop() ?? "";
    for (const line of lines) {
      if (this.skipping) this.skipping = false;
      else this.line(line);
    }
    if (this.rest.length > LONGEST_LINE) {
      this.rest = "";
      this.skipping = true;
    }
  }

  /** The last line may have no break. */
  end(): void {
    if (!this.skipping) this.line(this.rest + this.decoder.end());
    this.rest = "";
  }

  private line(line: string): void {
    const event = parseEvent(line);
    if (event) this.each(event);
  }
}

/** An event, if the line is one that is known. */
export function parseEvent(line: string): Event | undefined {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch {
    return undefined;
  }
  if (typeof value !== "object" || value === null) return undefined;
  const { event, message, url, pid, model, context, ...rest } = value as Record<string, unknown>;
  if (event === "ready" && typeof url === "string" && /^https?:\/\//.test(url)) {
    return {
      event,
      url: url.replace(/\/+$/, ""),
      pid: processNumber(pid),
      model: typeof model === "string" ? model : undefined,
      context: typeof context === "number" && Number.isSafeInteger(context) && context > 0 ? context : undefined,
    };
  }
  if (event === "progress" && typeof message === "string") return { event, message: withAmount(message, rest) };
  if (event === "failed") return { event, message: typeof message === "string" ? message : "without a reason" };
  return undefined;
}

/** A message with how much of how much, how fast and how long still, if the event knows and the message does not say. */
function withAmount(message: string, { done, total, rate, eta }: Record<string, unknown>): string {
  if (typeof done !== "number" || typeof total !== "number" || total <= 0 || message.includes("%")) return message;
  const parts = [`${Math.floor((100 * done) / total)}%`];
  if (typeof rate === "number" && rate > 0) parts.push(`${bytes(rate)}/s`);
  if (typeof eta === "number" && eta >= 0) parts.push(`${duration(eta)} left`);
  return `${message}: ${bytes(done)} / ${bytes(total)} (${parts.join(", ")})`;
}
