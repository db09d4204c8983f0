/** The end of a file that grows. */

import { closeSync, fstatSync, openSync, readSync } from "node:fs";
import { StringDecoder } from "node:string_decoder";
import { bytes, plain } from "./text.ts";

const TAIL_BYTES = 256 * 1024;
const MOST_LINES = 2000;

/** The last lines of a log, read on with each `poll`. */
export class LogTail {
  readonly path: string;
  /** Says what is not shown, if something is not. */
  header: string | undefined;
  lines: string[] = [];
  private partial = "";
  private offset = -1;
  private size = 0;
  private decoder = new StringDecoder("utf8");

  constructor(path: string) {
    this.path = path;
    this.poll();
  }

  /** Reads what is new; whether something was, and how many lines. */
  poll(): { changed: boolean; added: number } {
    let file: number;
    try {
      file = openSync(this.path, "r");
    } catch {
      const changed = this.offset !== -1 || this.header === undefined;
      this.restart(-1);
      this.header = `No ds4 log yet: ${this.path}`;
      return { changed, added: 0 };
    }
    try {
      return this.read(file);
    } finally {
      closeSync(file);
    }
  }

  /** All lines, with one that has no end yet. */
  shown(): string[] {
    return this.partial === "" ? this.lines : [...this.lines, plain(this.partial.replace("\r", ""))];
  }

  private read(file: number): { changed: boolean; added: number } {
    this.size = fstatSync(file).size;
    // From the beginning of the tail: at first, after a rotation, and when more has come than is shown.
    const anew = this.offset < 0 || this.size < this.offset || this.size - this.offset > TAIL_BYTES;
    if (anew) this.restart(Math.max(0, this.size - TAIL_BYTES));
    else if (this.size === this.offset) return { changed: false, added: 0 };
    const cut = anew && this.offset > 0;
    const buffer = Buffer.alloc(this.size - this.offset);
    const count = readSync(file, buffer, 0, buffer.length, this.offset);
    this.offset += count;
    const added = this.take(this.decoder.write(buffer.subarray(0, count)), cut);
    this.header = this.truncation();
    return { changed: true, added };
  }

  private take(text: string, cut: boolean): number {
    const all = this.partial + text;
    const held = all.endsWith("\r") ? "\r" : ""; // a line feed may follow
    const pieces = all.slice(0, all.length - held.length).split(/\r\n|[\r\n]/);
    this.partial = (pieces.pop() ?? "") + held;
    if (cut) pieces.shift(); // its beginning is not there
    const lines = pieces.map((line) => plain(line).replaceAll("\t", "    "));
    this.lines = [...this.lines, ...lines].slice(-MOST_LINES);
    return lines.length;
  }

  private truncation(): string | undefined {
    const shown = Buffer.byteLength(this.lines.join("\n") + this.partial);
    const all = this.size <= TAIL_BYTES && this.lines.length < MOST_LINES;
    return all ? undefined : `[showing last ${bytes(shown)} of ${bytes(this.size)} from ${this.path}]`;
  }

  private restart(offset: number): void {
    this.offset = offset;
    this.lines = [];
    this.partial = "";
    this.decoder = new StringDecoder("utf8");
  }
}
