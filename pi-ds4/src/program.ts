/** Finds the program `ds4`. */

import { accessSync, constants, existsSync, statSync } from "node:fs";
import { homedir } from "node:os";
import { basename, delimiter, dirname, join, resolve } from "node:path";
import type { Settings } from "./settings.ts";

const WAY_OUT = "install it with `cargo install --path crates/cli` in a checkout of ds4, or name it with DS4_BINARY";

/** The program, absolute; an error says where it was looked for and how to get it. */
export function findProgram(settings: Settings, path: string | undefined): string {
  const named = settings.program;
  if (named) return named.name === "DS4_BINARY" && !/[/\\]/.test(named.value) ? onPath(named.value, path) : byFile(named);
  if (settings.runtimeDir !== undefined) return ofCheckout(settings.runtimeDir);
  const folders = [...(path ?? "").split(delimiter).filter(Boolean), join(homedir(), ".cargo", "bin")];
  const support = join(settings.stateDir, "support");
  const found = [...folders.map((folder) => join(folder, "ds4")), ...builds(support)].find(isProgram);
  if (found) return resolve(found);
  throw new Error(`no program ds4 on the path, in ~/.cargo/bin or built in ${support}; ${WAY_OUT}`);
}

function onPath(name: string, path: string | undefined): string {
  const found = (path ?? "").split(delimiter).filter(Boolean).map((folder) => join(folder, name)).find(isProgram);
  if (found) return resolve(found);
  throw new Error(`DS4_BINARY=${name} is not on the path; ${WAY_OUT}`);
}

/** A file that a setting names. `ds4-server` serves only, so the `ds4` beside it is meant. */
function byFile({ name, value }: NonNullable<Settings["program"]>): string {
  const file = resolve(value);
  if (!isProgram(file)) throw new Error(`${name}=${value} is not a file that can be executed; ${WAY_OUT}`);
  if (basename(file) !== "ds4-server") return file;
  const beside = join(dirname(file), "ds4");
  if (isProgram(beside)) return beside;
  throw new Error(`${name}=${value}: no program ds4 beside it, which starts and stops servers; ${WAY_OUT}`);
}

function ofCheckout(folder: string): string {
  if (!existsSync(join(folder, "Cargo.toml")) || !existsSync(join(folder, "crates", "cli"))) {
    throw new Error(`DS4_RUNTIME_DIR=${folder} is not a ds4 checkout`);
  }
  const found = builds(folder).find(isProgram);
  if (found) return resolve(found);
  throw new Error(`DS4_RUNTIME_DIR=${folder} is not built: run \`cargo build --release\` there`);
}

function builds(checkout: string): string[] {
  return ["release", "debug"].map((kind) => join(checkout, "target", kind, "ds4"));
}

function isProgram(file: string): boolean {
  try {
    accessSync(file, constants.X_OK);
    return statSync(file).isFile();
  } catch {
    return false;
  }
}
