/** What `ds4 up` is called with. */

import { isAbsolute, join } from "node:path";
import { modelArgument } from "./models.ts";
import type { Settings, Steering } from "./settings.ts";

/** Arguments of `ds4 up` for one of Pi's models; the server lives as long as the process `pid`, or as others need it. */
export function upArguments(settings: Settings, modelId: string, pid: number): string[] {
  const model = modelArgument(settings, modelId);
  return [
    "up",
    "--json",
    "--for-pid",
    String(pid),
    "--port",
    String(settings.port),
    "--timeout",
    String(Math.ceil(settings.readyTimeoutMs / 1000)),
    "--model",
    model ?? "auto",
    "--",
    ...serverFlags(settings),
  ];
}

function serverFlags(settings: Settings): string[] {
  return [
    "--ctx",
    String(settings.contextTokens),
    "--kv-disk-dir",
    join(settings.stateDir, "kv"),
    "--kv-disk-space-mb",
    String(settings.kvDiskSpaceMb),
    ...(settings.steering ? steeringFlags(settings, settings.steering) : []),
  ];
}

function steeringFlags(settings: Settings, steering: Steering): string[] {
  const checkout = settings.runtimeDir ?? join(settings.stateDir, "support");
  return [
    "--dir-steering-file",
    isAbsolute(steering.file) ? steering.file : join(checkout, steering.file),
    "--dir-steering-ffn",
    String(steering.ffn),
    "--dir-steering-attn",
    String(steering.attn),
    "--dir-steering-policy",
    steering.policy,
  ];
}
