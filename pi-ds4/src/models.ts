/** The provider `ds4` as Pi registers it. */

import type { Provider } from "./pi.ts";
import type { Api } from "./profiles.ts";
import type { Settings } from "./settings.ts";

export const PROVIDER = "ds4";

/** What is known of the server: where it is, or will be, and how many tokens it holds. */
export interface Server {
  /** Without a path. */
  url: string;
  context: number;
}

/** Where the server will be if nothing is known of one that runs. */
export function expectedServer(settings: Settings): Server {
  return { url: `http://127.0.0.1:${settings.port}`, context: settings.contextTokens };
}

/** What Pi is told: the server's address in the protocol's form, and its models. */
export function provider(settings: Settings, server: Server): Provider {
  const compat = compatibility(settings.api);
  return {
    name: "ds4 local",
    baseUrl: settings.api === "anthropic-messages" ? server.url : `${server.url}/v1`,
    apiKey: literal(settings.apiKey),
    api: settings.api,
    models: settings.profile.models.map(({ id, name }) => ({
      id,
      name,
      reasoning: true,
      input: ["text"],
      cost: { input: 0, output: 0, cacheRead: 0, cacheWrite: 0 },
      contextWindow: server.context,
      maxTokens: 384_000,
      thinkingLevelMap: settings.profile.levels,
      compat,
    })),
  };
}

/** What `--model` says for one of Pi's models; nothing lets the program choose. */
export function modelArgument(settings: Settings, id: string): string | undefined {
  return settings.profile.models.find((model) => model.id === id)?.quant ?? settings.model;
}

function compatibility(api: Api): Record<string, unknown> {
  return {
    supportsStore: false,
    supportsDeveloperRole: false,
    supportsReasoningEffort: true,
    supportsUsageInStreaming: true,
    maxTokensField: "max_tokens",
    supportsStrictMode: false,
    thinkingFormat: "deepseek",
    requiresReasoningContentOnAssistantMessages: true,
    ...(api === "anthropic-messages" ? { supportsEagerToolInputStreaming: false } : {}),
  };
}

/** A key that Pi takes as it is: `$` would be a variable, and `!` at the beginning a command. */
function literal(key: string): string {
  return key.replaceAll("$", "$$$$").replace(/^!/, "$!");
}
