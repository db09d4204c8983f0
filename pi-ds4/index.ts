/** What Pi loads: the extension, with what Pi's own terminal package knows. */

import { fileURLToPath } from "node:url";
import type { ExtensionAPI } from "@earendil-works/pi-coding-agent";
import { type KeyId, matchesKey, truncateToWidth, visibleWidth } from "@earendil-works/pi-tui";
import { extension } from "./src/extension.ts";

const TERMINAL = {
  matches: (data: string, key: string) => matchesKey(data, key as KeyId),
  width: visibleWidth,
  cut: (text: string, width: number) => truncateToWidth(text, width),
};

export default function ds4(pi: ExtensionAPI): void {
  extension(pi, TERMINAL, fileURLToPath(new URL("./pi-ds4-config", import.meta.url)));
}
