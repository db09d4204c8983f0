/**
 * The part of Pi's extension interface that is used. Pi's packages are not needed to build and test this one;
 * test/pi.mjs checks that what is said here is true of the real ones.
 */

import type { Notify } from "./progress.ts";
import type { Api, Levels } from "./profiles.ts";

export interface Provider {
  name: string;
  baseUrl: string;
  apiKey: string;
  api: Api;
  models: {
    id: string;
    name: string;
    reasoning: boolean;
    input: "text"[];
    cost: { input: number; output: number; cacheRead: number; cacheWrite: number };
    contextWindow: number;
    maxTokens: number;
    thinkingLevelMap: Levels;
    compat: Record<string, unknown>;
  }[];
}

export interface Theme {
  fg(color: string, text: string): string;
}

/** Pi's terminal interface, as a component is given it. */
export interface Screen {
  readonly terminal: { readonly rows: number };
  requestRender(): void;
}

export interface Component {
  render(width: number): string[];
  handleInput(data: string): void;
  invalidate(): void;
  dispose(): void;
}

/** What Pi's terminal package knows of keys and of the width of text. */
export interface Terminal {
  matches(data: string, key: string): boolean;
  width(text: string): number;
  cut(text: string, width: number): string;
}

export interface Context {
  ui: {
    notify: Notify;
    custom(
      factory: (screen: Screen, theme: Theme, keybindings: unknown, done: (result: undefined) => void) => Component,
      options: { overlay: true; overlayOptions: object },
    ): Promise<unknown>;
  };
  /** Whether notifications are seen. */
  hasUI: boolean;
  mode: "tui" | "rpc" | "json" | "print";
  model: { id: string; provider: string } | undefined;
  signal: AbortSignal | undefined;
  abort(): void;
}

type Handler<E, R = void> = (event: E, context: Context) => Promise<R> | R;

export interface Pi {
  on(event: "session_start", handler: Handler<{ reason: string }>): unknown;
  on(event: "session_shutdown", handler: Handler<{ reason: string }>): unknown;
  on(event: "resources_discover", handler: Handler<object, { skillPaths: string[] }>): unknown;
  on(event: "before_provider_request", handler: Handler<{ payload: unknown }, unknown>): unknown;
  registerProvider(name: string, provider: Provider): void;
  registerCommand(
    name: string,
    command: {
      description: string;
      getArgumentCompletions(prefix: string): { value: string; label: string }[] | null;
      handler(args: string, context: Context): Promise<void>;
    },
  ): void;
}
