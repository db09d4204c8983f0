/** Settings: from the environment first, then from settings.json in the state directory, then from the profile. */

import { readFileSync } from "node:fs";
import { homedir } from "node:os";
import { join, resolve } from "node:path";
import { IGNORED, KEYS, type Key, type Name, POLICIES, PROFILES, PROTOCOLS, QUANTS, spellings } from "./keys.ts";
import { type Api, profileOf, type Profile } from "./profiles.ts";

export interface Steering {
  file: string;
  ffn: number;
  attn: number;
  policy: string;
}

/** All that the extension can be told. */
export interface Settings {
  profile: Profile;
  api: Api;
  apiKey: string;
  /** What `--model` says for deepseek-v4-flash; nothing lets the program choose by memory. */
  model: string | undefined;
  port: number;
  readyTimeoutMs: number;
  /** The program, and the setting that names it. */
  program: { name: Name; value: string } | undefined;
  runtimeDir: string | undefined;
  contextTokens: number;
  kvDiskSpaceMb: number;
  /** For requests without one; none if requests are left as they are. */
  seed: number | undefined;
  steering: Steering | undefined;
  /** Names of settings that were given and do nothing. */
  ignored: string[];
  /** The folder with server.json, log, settings.json and the models. */
  stateDir: string;
}

type Environment = Record<string, string | undefined>;
type Value = string | number | boolean;

/** Where ds4 keeps its state: `$DS4_DIR`, or `~/.pi/ds4`. */
export function stateDir(env: Environment): string {
  return env["DS4_DIR"] ? resolve(env["DS4_DIR"]) : join(homedir(), ".pi", "ds4");
}

/** Reads all settings; an error names the setting, the file if it is from there, and what would be right. */
export function loadSettings(env: Environment): Settings {
  const dir = stateDir(env);
  const read = new Reader(env, join(dir, "settings.json"));
  const profile = profileOf(read.choice("DS4_PROFILE", PROFILES) ?? "mitsuhiko");
  const reproducible = read.flag("DS4_REPRODUCIBLE") ?? profile.reproducible;
  const seed = read.whole("DS4_REPRODUCIBLE_SEED", 1, Number.MAX_SAFE_INTEGER) ?? 42;
  return {
    profile,
    api: PROTOCOLS[read.choice("DS4_PROTOCOL", Object.keys(PROTOCOLS) as (keyof typeof PROTOCOLS)[]) ?? "openai"],
    apiKey: read.text("DS4_API_KEY") ?? "dsv4-local",
    model: modelOf(read, profile),
    port: read.whole("DS4_PORT", 1, 65535) ?? 8000,
    readyTimeoutMs: read.whole("DS4_READY_TIMEOUT_MS", 1, 24 * 3600 * 1000) ?? 600_000,
    program: programOf(read),
    runtimeDir: read.path("DS4_RUNTIME_DIR"),
    contextTokens: 1000 * (read.whole("DS4_CONTEXT_KB", 1, 1024) ?? 100),
    kvDiskSpaceMb: read.whole("DS4_KV_DISK_SPACE_MB", 0, 1 << 30) ?? profile.kvDiskSpaceMb(),
    seed: reproducible ? seed : undefined,
    steering: steeringOf(read),
    ignored: Object.keys(IGNORED).filter((name) => read.given(name)),
    stateDir: dir,
  };
}

function modelOf(read: Reader, profile: Profile): string | undefined {
  const quant = read.choice("DS4_MODEL_QUANT", QUANTS);
  if (quant && !profile.quants.includes(quant)) {
    const known = profile.quants.join(", ");
    throw read.wrong("DS4_MODEL_QUANT", quant, `the profile ${profile.name} has ${known}; DS4_MODEL takes any model`);
  }
  const model = read.text("DS4_MODEL");
  return model ? expandHome(model) : quant;
}

function programOf(read: Reader): Settings["program"] {
  for (const name of ["DS4_SERVER_BINARY", "DS4_BINARY"] as const) {
    const value = read.text(name);
    if (value) return { name, value: expandHome(value) };
  }
  return undefined;
}

function steeringOf(read: Reader): Steering | undefined {
  const ffn = read.number("DS4_DIR_STEERING_FFN", -100, 100) ?? 0;
  const attn = read.number("DS4_DIR_STEERING_ATTN", -100, 100) ?? 0;
  const policy = read.choice("DS4_DIR_STEERING_POLICY", POLICIES) ?? "final-answer";
  if (ffn === 0 && attn === 0) return undefined;
  const file = read.path("DS4_DIR_STEERING_FILE");
  if (!file) throw new Error("steering needs DS4_DIR_STEERING_FILE, a file of directions, or both scales 0");
  return { file, ffn, attn, policy };
}

/** Looks settings up and checks what they say. An empty value is the default, and hides the file's if it is the environment's. */
class Reader {
  private readonly env: Environment;
  private readonly source: string;
  private readonly file: Record<string, unknown>;

  constructor(env: Environment, path: string) {
    this.env = env;
    this.source = path;
    this.file = readObject(path);
    const known = new Set(["$schema", ...[...Object.keys(KEYS), ...Object.keys(IGNORED)].flatMap(spellings)]);
    const unknown = Object.keys(this.file).find((key) => !known.has(key));
    if (unknown) throw new Error(`${path}: ${JSON.stringify(unknown)} is no setting; the README of pi-ds4 lists them`);
  }

  /** The value of a setting, and how to call it in an error. */
  private find(name: string): { value: unknown; called: string } {
    if (this.env[name] !== undefined) return { value: this.env[name], called: name };
    const key = spellings(name).find((spelling) => this.file[spelling] !== undefined && this.file[spelling] !== null);
    return { value: key === undefined ? undefined : this.file[key], called: `${name} (${key} in ${this.source})` };
  }

  given(name: string): boolean {
    const { value } = this.find(name);
    return value !== undefined && value !== "";
  }

  /** What the error says of a value that cannot be. */
  wrong(name: string, value: unknown, right: string): Error {
    const { called } = this.find(name);
    const shown = typeof value === "string" ? value : JSON.stringify(value);
    return new Error(`Invalid ${called.replace(name, `${name}=${shown}`)}: ${right}`);
  }

  private value(name: Name): Value | undefined {
    const { value } = this.find(name);
    if (value === undefined) return undefined;
    if (typeof value === "string") return value.trim() === "" ? undefined : value.trim();
    if (typeof value === "number" || typeof value === "boolean") return value;
    throw this.wrong(name, value, `a ${(KEYS[name] as Key).kind} is wanted`);
  }

  text(name: Name): string | undefined {
    const value = this.value(name);
    return value === undefined ? undefined : String(value);
  }

  path(name: Name): string | undefined {
    const text = this.text(name);
    return text === undefined ? undefined : expandHome(text);
  }

  choice<T extends string>(name: Name, values: readonly T[]): T | undefined {
    const text = this.text(name);
    if (text === undefined) return undefined;
    const found = values.find((value) => value === text.toLowerCase());
    if (found === undefined) throw this.wrong(name, text, `one of ${values.join(", ")} is wanted`);
    return found;
  }

  number(name: Name, least: number, most: number): number | undefined {
    const value = this.value(name);
    if (value === undefined) return undefined;
    const number = typeof value === "boolean" ? Number.NaN : Number(value);
    if (Number.isFinite(number) && number >= least && number <= most) return number;
    throw this.wrong(name, value, `a number from ${least} to ${most} is wanted`);
  }

  whole(name: Name, least: number, most: number): number | undefined {
    const value = this.value(name);
    if (value === undefined) return undefined;
    const digits = typeof value === "string" ? /^\d+$/.test(value) : typeof value === "number";
    const number = Number(value);
    if (digits && Number.isSafeInteger(number) && number >= least && number <= most) return number;
    throw this.wrong(name, value, `a whole number from ${least} to ${most} is wanted`);
  }

  flag(name: Name): boolean | undefined {
    const text = this.text(name)?.toLowerCase();
    if (text === undefined) return undefined;
    if (["1", "true", "yes", "on"].includes(text)) return true;
    if (["0", "false", "no", "off"].includes(text)) return false;
    throw this.wrong(name, text, "1, true, yes, on, 0, false, no or off is wanted");
  }
}

/** The object in a file; a missing file is an empty one. */
function readObject(path: string): Record<string, unknown> {
  let text: string;
  try {
    text = readFileSync(path, "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return {};
    throw new Error(`Failed to read ${path}: ${(error as Error).message}`);
  }
  let value: unknown;
  try {
    value = JSON.parse(text.replace(/^\uFEFF/, ""));
  } catch (error) {
    throw new Error(`Failed to read ${path}: ${(error as Error).message}`);
  }
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw new Error(`Failed to read ${path}: it must hold an object, {"setting": value, …}`);
  }
  return value as Record<string, unknown>;
}

function expandHome(path: string): string {
  return path === "~" || path.startsWith("~/") ? join(homedir(), path.slice(1)) : path;
}
