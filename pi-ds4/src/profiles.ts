/** What the two earlier extensions of this name did differently. Settings override all of it but the models. */

import { totalmem } from "node:os";
import type { PROFILES, QUANTS } from "./keys.ts";

export type Api = "openai-completions" | "openai-responses" | "anthropic-messages";

/** Pi's levels of thinking, and what the server is told for each; null hides a level. */
export type Levels = Record<string, string | null>;

export interface Model {
  id: string;
  name: string;
  /** The quantisation that the id demands. */
  quant?: (typeof QUANTS)[number];
}

export interface Profile {
  name: (typeof PROFILES)[number];
  models: Model[];
  levels: Levels;
  /** Values of DS4_MODEL_QUANT. */
  quants: readonly string[];
  /** Whether requests without a seed get one. */
  reproducible: boolean;
  kvDiskSpaceMb: () => number;
}

const FLASH: Model = { id: "deepseek-v4-flash", name: "DeepSeek V4 Flash (ds4 local)" };

const MITSUHIKO: Profile = {
  name: "mitsuhiko",
  models: [
    FLASH,
    { id: "deepseek-v4-flash-q2-imatrix", name: "DeepSeek V4 Flash q2 imatrix (ds4 local)", quant: "q2-imatrix" },
    { id: "deepseek-v4-flash-q4-imatrix", name: "DeepSeek V4 Flash q4 imatrix (ds4 local)", quant: "q4-imatrix" },
  ],
  levels: { minimal: "low", low: "low", medium: "medium", high: "high", xhigh: "xhigh" },
  quants: ["q2", "q2-imatrix", "q4", "q4-imatrix"],
  reproducible: false,
  kvDiskSpaceMb: () => 8192,
};

const AUDREYT: Profile = {
  name: "audreyt",
  models: [FLASH],
  levels: { off: "none", minimal: null, low: null, medium: null, high: "high", xhigh: null, max: "max" },
  quants: ["q2"],
  reproducible: true,
  kvDiskSpaceMb: () => kvBudget(totalmem()),
};

export function profileOf(name: Profile["name"]): Profile {
  return name === "audreyt" ? AUDREYT : MITSUHIKO;
}

/** Megabytes on the disk that a machine with so many bytes of memory keeps: long runs outgrow 8 GB. */
export function kvBudget(bytes: number): number {
  const gigabytes = bytes / 1e9;
  if (gigabytes >= 128) return 65536;
  return gigabytes >= 96 ? 32768 : 8192;
}
