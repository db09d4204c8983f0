/** The window of `/ds4`: the end of the log in a box, which follows it until it is scrolled. */

import { LogTail } from "./log.ts";
import type { Component, Screen, Terminal, Theme } from "./pi.ts";

const REFRESH_MS = 1000;
/** Where and how large the window is. */
export const OVERLAY = { width: "90%", minWidth: 60, maxHeight: "85%", anchor: "center", margin: 1 } as const;

/** What each key does, by how many lines of `page` and of all. */
const KEYS: [keys: string[], move: (page: number, all: number) => number][] = [
  [["up", "k"], () => 1],
  [["down", "j"], () => -1],
  [["pageUp", "b"], (page) => page],
  [["pageDown", "f"], (page) => -page],
  [["home"], (_, all) => all],
  [["end"], (_, all) => -all],
];

export class LogView implements Component {
  private readonly tail: LogTail;
  /** Lines below the window; 0 follows the log. */
  private above = 0;
  private readonly timer: NodeJS.Timeout;
  private readonly screen: Screen;
  private readonly theme: Theme;
  private readonly terminal: Terminal;
  private readonly close: () => void;

  constructor(path: string, screen: Screen, theme: Theme, terminal: Terminal, close: () => void) {
    this.tail = new LogTail(path);
    this.screen = screen;
    this.theme = theme;
    this.terminal = terminal;
    this.close = close;
    this.timer = setInterval(() => this.refresh(), REFRESH_MS);
    this.timer.unref();
  }

  /** Reads on. A window that was scrolled stays where it is. */
  refresh(): void {
    const { changed, added } = this.tail.poll();
    if (this.above > 0) this.move(added);
    if (changed) this.screen.requestRender();
  }

  render(width: number): string[] {
    this.move(0); // the terminal may have grown
    const inner = Math.max(width - 4, 1);
    const lines = this.lines();
    const end = lines.length - this.above;
    const shown = lines.slice(Math.max(0, end - this.body()), end);
    const edge = (text: string) => this.theme.fg("border", text);
    const row = (text: string, color?: string) => {
      const fit = this.terminal.cut(text, inner);
      const space = " ".repeat(Math.max(0, inner - this.terminal.width(fit)));
      return `${edge("│")} ${color ? this.theme.fg(color, fit) : fit}${space} ${edge("│")}`;
    };
    const where = this.above === 0 ? "live" : `${this.above} lines up`;
    const title = this.terminal.cut(` ds4 log • ${where} `, Math.max(width - 3, 0));
    const rest = "─".repeat(Math.max(0, width - 3 - this.terminal.width(title)));
    const filler = Array<string>(Math.max(0, this.body() - shown.length)).fill("");
    return [
      edge("╭─") + this.theme.fg("accent", title) + edge(`${rest}╮`),
      ...[...shown, ...filler].map((line) => row(line)),
      edge(`├${"─".repeat(Math.max(width - 2, 0))}┤`),
      row(`↑↓ scroll • Pg page • End live • q/Esc close • ${this.tail.path}`, "dim"),
      edge(`╰${"─".repeat(Math.max(width - 2, 0))}╯`),
    ];
  }

  handleInput(data: string): void {
    const pressed = (keys: string[]) => keys.some((key) => this.terminal.matches(data, key));
    if (pressed(["q", "escape"])) return this.close();
    const key = KEYS.find(([keys]) => pressed(keys));
    if (!key) return;
    this.move(key[1](Math.max(this.body() - 2, 1), this.lines().length));
    this.screen.requestRender();
  }

  invalidate(): void {}

  dispose(): void {
    clearInterval(this.timer);
  }

  private lines(): string[] {
    const { header } = this.tail;
    return header === undefined ? this.tail.shown() : [header, ...this.tail.shown()];
  }

  private body(): number {
    return Math.min(Math.max(this.screen.terminal.rows - 6, 8), 40) - 4;
  }

  private move(up: number): void {
    const most = Math.max(0, this.lines().length - this.body());
    this.above = Math.min(Math.max(this.above + up, 0), most);
  }
}
