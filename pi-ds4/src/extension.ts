/** Puts the parts together: what happens when Pi loads, asks, shows the log and ends. */

import { join } from "node:path";
import { upArguments } from "./command.ts";
import { IGNORED } from "./keys.ts";
import { release, status, type Status } from "./lease.ts";
import { LogView, OVERLAY } from "./logview.ts";
import { expectedServer, PROVIDER, provider, type Server } from "./models.ts";
import type { Context, Pi, Terminal } from "./pi.ts";
import { findProgram } from "./program.ts";
import type { Notify } from "./progress.ts";
import { withSeed } from "./seed.ts";
import { loadSettings, type Settings } from "./settings.ts";
import { sharedStarter, type Starter } from "./start.ts";
import { Cancelled } from "./up.ts";

/** Registers provider, command, skill and hooks. Starts nothing: Pi loads extensions for its help, too. */
export function extension(pi: Pi, terminal: Terminal, skills: string): void {
  const settings = loadSettings(process.env);
  const ds4 = new Extension(pi, settings, sharedStarter());
  pi.on("session_start", ({ reason }) => ds4.begin(reason));
  pi.on("before_provider_request", ({ payload }, context) => ds4.request(payload, context));
  pi.on("session_shutdown", ({ reason }) => ds4.end(reason));
  pi.on("resources_discover", () => ({ skillPaths: [skills] }));
  pi.registerCommand("ds4", {
    description: "Show the live ds4-server log; status says what the server does",
    getArgumentCompletions: (prefix) => ("status".startsWith(prefix) ? [{ value: "status", label: "status" }] : null),
    handler: (args, context) => (args.trim() === "status" ? ds4.status(context) : showLog(settings, terminal, context)),
  });
}

class Extension {
  private readonly pi: Pi;
  private readonly settings: Settings;
  private readonly starter: Starter;
  /** What Pi was told last. */
  private server: Server;

  constructor(pi: Pi, settings: Settings, starter: Starter) {
    this.pi = pi;
    this.settings = settings;
    this.starter = starter;
    this.server = expectedServer(settings);
    pi.registerProvider(PROVIDER, provider(settings, this.server));
  }

  /** Learns of a server that runs already where it is and how much it holds. */
  async begin(reason: string): Promise<void> {
    if (reason === "reload") this.starter.forget();
    const found = await this.ask();
    if (found?.state === "running") this.tell(found);
  }

  /** Has the server ready before the request goes out, and gives the request a seed. */
  async request(payload: unknown, context: Context): Promise<unknown> {
    const { model, signal } = context;
    if (model?.provider !== PROVIDER) return undefined;
    const notify = notifier(context);
    try {
      const call = {
        program: this.program(),
        args: upArguments(this.settings, model.id, process.pid),
        log: logPath(this.settings),
      };
      if (!this.starter.leased) this.warn(notify);
      this.tell(await this.starter.ensure({ call, notify, signal }));
    } catch (error) {
      if (error instanceof Cancelled) return undefined; // Pi has been told to stop, and knows
      notify(`ds4-server startup failed: ${(error as Error).message}`, "error");
      context.abort(); // else Pi would send the request to nobody, four times
      if (context.hasUI) return undefined;
      throw error; // where nothing is notified, Pi prints it
    }
    return withSeed(payload, this.settings.seed);
  }

  /** Ends what is under way. The lease is given up only with the process: a reload goes on with the same server. */
  async end(reason: string): Promise<void> {
    await this.starter.cancel();
    if (reason !== "quit" || !this.starter.leased) return;
    this.starter.leased = false;
    await release(this.program(), process.pid);
  }

  async status(context: Context): Promise<void> {
    const found = await this.ask();
    context.ui.notify(found ? sentence(found) : "the program ds4 does not say; run `ds4 status`", "info");
  }

  /** What the program says; nothing if there is none, which a request will complain of. */
  private async ask(): Promise<Status | undefined> {
    try {
      return await status(this.program());
    } catch {
      return undefined;
    }
  }

  private program(): string {
    return findProgram(this.settings, process.env["PATH"]);
  }

  private warn(notify: Notify): void {
    for (const name of this.settings.ignored) notify(`${name} is ignored: ${IGNORED[name]}`, "warning");
  }

  /** Lets Pi know where the server is and how much it holds, if that is new. */
  private tell({ url, context }: { url: string | undefined; context: number | undefined }): void {
    const server = { url: url ?? this.server.url, context: context ?? this.server.context };
    if (server.url === this.server.url && server.context === this.server.context) return;
    this.server = server;
    this.pi.registerProvider(PROVIDER, provider(this.settings, server));
  }
}

/** Where progress is shown. `pi -p` shows none, and a download of an hour must not look like nothing. */
function notifier({ ui, mode }: Context): Notify {
  if (mode !== "print") return ui.notify.bind(ui);
  return (message, kind) => void (kind === "error" || process.stderr.write(`ds4: ${message}\n`));
}

function logPath(settings: Settings): string {
  return join(settings.stateDir, "log");
}

async function showLog(settings: Settings, terminal: Terminal, context: Context): Promise<void> {
  const path = logPath(settings);
  if (context.mode !== "tui") return context.ui.notify(`ds4 log: ${path}`, "info");
  await context.ui.custom(
    (screen, theme, _keybindings, done) => new LogView(path, screen, theme, terminal, () => done(undefined)),
    { overlay: true, overlayOptions: OVERLAY },
  );
}

function sentence({ state, url, model, context, leases, log }: Status): string {
  const parts = [
    `ds4-server ${state}`,
    url && `at ${url}`,
    model && `model ${model}`,
    context && `context ${context}`,
    leases > 0 && `${leases} in use`,
    log && `log ${log}`,
  ];
  return parts.filter(Boolean).join(", ");
}
