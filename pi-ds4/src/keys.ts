/** The settings by the names of their environment variables, and the spellings that settings.json may use for each. */

/** What a value may be. */
export type Kind = "string" | "number" | "switch";

/** One setting. */
export interface Key {
  /** What it does, for the schema. */
  about: string;
  kind: Kind;
  /** All values there are; any if it is missing. */
  values?: readonly string[];
  /** What settings.example.json shows. */
  example?: string | number | boolean;
}

export const PROTOCOLS = {
  openai: "openai-completions",
  "openai-completions": "openai-completions",
  chat: "openai-completions",
  "chat-completions": "openai-completions",
  responses: "openai-responses",
  "openai-responses": "openai-responses",
  anthropic: "anthropic-messages",
  "anthropic-messages": "anthropic-messages",
  messages: "anthropic-messages",
} as const;

export const QUANTS = ["q2", "q2-imatrix", "q4", "q4-imatrix"] as const;
export const POLICIES = ["final-answer", "always", "decoding", "off"] as const;
export const PROFILES = ["mitsuhiko", "audreyt"] as const;

/** The settings that do something. */
export const KEYS = {
  DS4_PROFILE: { kind: "string", about: "Which of the two extensions of this name to be like", values: PROFILES, example: "mitsuhiko" },
  DS4_PROTOCOL: { kind: "string", about: "How Pi speaks to the server", values: Object.keys(PROTOCOLS), example: "openai" },
  DS4_API_KEY: { kind: "string", about: "Key that Pi shows to the server", example: "dsv4-local" },
  DS4_MODEL: { kind: "string", about: "Model of deepseek-v4-flash: a name that `ds4 models` lists, a file, or mini" },
  DS4_MODEL_QUANT: { kind: "string", about: "Quantisation of deepseek-v4-flash; without it the machine's memory decides", values: QUANTS },
  DS4_PORT: { kind: "number", about: "Port that the server listens at", example: 8000 },
  DS4_READY_TIMEOUT_MS: { kind: "number", about: "How long a start may take once the model is there, in milliseconds", example: 600000 },
  DS4_SERVER_BINARY: { kind: "string", about: "The program ds4: a file that can be executed" },
  DS4_BINARY: { kind: "string", about: "The same, or a name to look up on the path" },
  DS4_RUNTIME_DIR: { kind: "string", about: "A checkout of ds4, whose build is used" },
  DS4_CONTEXT_KB: { kind: "number", about: "Context of the server, in thousands of tokens", example: 100 },
  DS4_KV_DISK_SPACE_MB: { kind: "number", about: "Megabytes on the disk for what was computed" },
  DS4_REPRODUCIBLE: { kind: "switch", about: "Whether requests without a seed get one" },
  DS4_REPRODUCIBLE_SEED: { kind: "number", about: "That seed", example: 42 },
  DS4_DIR_STEERING_FILE: { kind: "string", about: "Directions for steering; relative to the checkout" },
  DS4_DIR_STEERING_FFN: { kind: "number", about: "Scale of steering after the experts; both scales 0: no steering", example: 0 },
  DS4_DIR_STEERING_ATTN: { kind: "number", about: "Scale of steering after attention", example: 0 },
  DS4_DIR_STEERING_POLICY: { kind: "string", about: "Which tokens are steered", values: POLICIES, example: "final-answer" },
} as const satisfies Record<string, Key>;

/** Settings of the earlier extensions that are accepted and do nothing, and why. */
export const IGNORED: Record<string, string> = {
  DS4_SUPPORT_REPO: "nothing is cloned: ds4 is installed as a program",
  DS4_SUPPORT_BRANCH: "nothing is cloned",
  DS4_SUPPORT_PIN: "nothing is cloned",
  DS4_DOWNLOAD_SCRIPT: "`ds4 pull` downloads",
  DS4_WATCHDOG_SCRIPT: "the server watches the leases itself",
  DS4_POWER: "nothing runs on a GPU yet",
  DS4_MT: "there are no Metal kernels yet",
  DS4_MPP: "there are no Metal kernels yet",
  DS4_DSPARK: "drafting is not built yet",
  DS4_BACKEND: "the program has one build, which chooses at run time",
  DS4_BUILD_TARGET: "nothing is built",
  DS4_CUDA_ARCH: "nothing is built",
  DS4_CUDA_ALLOW_NATIVE: "nothing is built",
  DS4_ALLOW_CPU: "the CPU is always allowed",
  DS4_SKIP_BUILD_SMOKE: "nothing is built",
  DS4_AGENT_TOKENS: "there is no /ds4-agent",
  DS4_AGENT_THINK: "there is no /ds4-agent",
  DS4_AGENT_TRACE: "there is no /ds4-agent",
  DS4_AGENT_SYSTEM: "there is no /ds4-agent",
  DS4_AGENT_BINARY: "there is no /ds4-agent",
};

export type Name = keyof typeof KEYS;

/** `DS4_MODEL_QUANT` as settings.json may spell it: itself, `modelQuant`, `ds4_model_quant`, `model_quant`. */
export function spellings(name: string): [string, string, string, string] {
  const snake = name.replace(/^DS4_/, "").toLowerCase();
  const camel = snake.replace(/_(.)/g, (_, letter: string) => letter.toUpperCase());
  return [name, camel, name.toLowerCase(), snake];
}
