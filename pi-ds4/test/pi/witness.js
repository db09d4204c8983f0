/** An extension beside the one that is tested: keeps the requests that go out, and lets a client without a keyboard reload. */

import { appendFileSync } from "node:fs";

export default function witness(pi) {
  pi.on("before_provider_request", ({ payload }) => {
    appendFileSync(process.env.WITNESS, `${JSON.stringify(payload)}\n`);
  });
  pi.registerCommand("reload-all", { description: "Reload", handler: (_args, context) => context.reload() });
}
