/** Progress as notifications: short, never the same twice in a row, and not too often. */

import { oneLine } from "./text.ts";

const PAUSE_MS = 750;
const LONGEST = 160;
/** Says only that time passes. */
const WAITING = /^ds4-server starting \(\d+ ?s\)$/;

export type Notify = (message: string, kind?: "info" | "warning" | "error") => void;

/** Shows messages through `notify`; of those that come too fast, the latest when the pause is over. */
export class Progress {
  private last = "";
  private next: string | undefined;
  private timer: NodeJS.Timeout | undefined;
  private readonly notify: Notify;
  private readonly pause: number;

  constructor(notify: Notify, pause = PAUSE_MS) {
    this.notify = notify;
    this.pause = pause;
  }

  show(message: string): void {
    const line = oneLine(message, LONGEST);
    if (line === "" || WAITING.test(line)) return;
    if (this.timer) this.next = line;
    else this.say(line);
  }

  /** Nothing more comes; what still waits is dropped. */
  end(): void {
    clearTimeout(this.timer);
    this.timer = undefined;
    this.next = undefined;
  }

  private say(line: string): void {
    if (line !== this.last) this.notify(line, "info");
    this.last = line;
    this.timer = setTimeout(() => {
      this.timer = undefined;
      const next = this.next;
      this.next = undefined;
      if (next !== undefined) this.say(next);
    }, this.pause);
    this.timer.unref();
  }
}
