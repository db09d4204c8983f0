#!/usr/bin/env python3
"""From nothing to an answer, in a system that has nothing but ds4: pull, up, a chat, down; then every step killed at a random
instant, again and again, and run once more.

Usage: tests/fresh/run.py [ROOT [KILLS]], as root, after `cargo build --release`. ROOT is a system without ds4, such as
`debootstrap --variant=minbase bookworm ROOT` makes; without it the steps run here, with an empty home. Models come from a mirror
of this script's own, which has V4-mini under the name of a large one.
"""

import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

HERE = Path.cwd()
MODEL = (HERE / "mini/v4-mini.gguf").read_bytes()
SUM = hashlib.sha256(MODEL).hexdigest()
NAME = "q2-imatrix"


class Mirror(BaseHTTPRequestHandler):
    """Has one file under every name, whole and in ranges, at some speed, as Hugging Face describes it."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        first = int((self.headers.get("range") or "bytes=0-").removeprefix("bytes=").split("-")[0])
        self.send_response(206 if first else 200)
        headers = {"content-length": len(MODEL) - first, "etag": f'"{SUM}"', "x-linked-etag": f'"{SUM}"'}
        headers |= {"x-linked-size": len(MODEL), "accept-ranges": "bytes"}
        if first:
            headers["content-range"] = f"bytes {first}-{len(MODEL) - 1}/{len(MODEL)}"
        for name, value in headers.items():
            self.send_header(name, str(value))
        self.end_headers()
        try:
            for at in range(first, len(MODEL), 1 << 18):
                self.wfile.write(MODEL[at : at + (1 << 18)])
                time.sleep(0.01)
        except OSError:
            pass  # it was killed

    do_HEAD = do_GET

    def log_message(self, *_):
        pass


class Machine:
    """A system with ds4 and an empty home."""

    def __init__(self, root):
        self.root = root
        self.home = Path(tempfile.mkdtemp(prefix="home-", dir=root / "tmp" if root else None))
        self.state = self.home / ".pi/ds4"
        program = (root or self.home) / "ds4"
        shutil.copy2(HERE / "target/release/ds4", program)
        inside = lambda path: str(path).removeprefix(str(root)) if root else str(path)
        self.program = inside(program)
        self.command = ["chroot", str(root)] if root else []
        mirror = ThreadingHTTPServer(("127.0.0.1", 0), Mirror)
        mirror.daemon_threads = True
        threading.Thread(target=mirror.serve_forever, daemon=True).start()
        self.environment = {
            "HOME": inside(self.home),
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            "HF_ENDPOINT": f"http://127.0.0.1:{mirror.server_port}",
            "DS4_LOCK_FILE": inside(self.home / "instance.lock"),
        }

    def start(self, *words):
        command = [*self.command, self.program, *words]
        return subprocess.Popen(command, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def ds4(self, *words):
        child = self.start(*words)
        out, err = child.communicate(timeout=120)
        assert child.returncode == 0, (words, child.returncode, out, err)
        return out.strip()

    def servers(self):
        """Processes that serve: those whose program is ours."""
        found = []
        for entry in Path("/proc").iterdir():
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0") if entry.name.isdigit() else []
                environ = (entry / "environ").read_bytes() if b"serve" in words else b""
            except OSError:
                continue
            if self.environment["DS4_LOCK_FILE"].encode() in environ:
                found.append(int(entry.name))
        return found

    def model(self):
        (file,) = (self.state / "support/gguf").glob("*.gguf")
        assert hashlib.sha256(file.read_bytes()).hexdigest() == SUM, file
        return file


def chat(url):
    body = {"messages": [{"role": "user", "content": "What is 7 + 8?"}], "think": False, "temperature": 0}
    request = urllib.request.Request(f"{url}/v1/chat/completions", json.dumps(body).encode())
    answer = json.load(urllib.request.urlopen(request, timeout=60))
    assert answer["choices"][0]["message"]["content"] == "15", answer


def once(machine):
    """All of it, each step twice."""
    start = time.monotonic()
    for _ in range(2):
        machine.ds4("pull", NAME)
    urls = {machine.ds4("up", "--model", NAME, "--port", "0") for _ in range(2)}
    assert len(urls) == 1 and len(machine.servers()) == 1, (urls, machine.servers())
    chat(*urls)
    for _ in range(2):
        machine.ds4("down")
    seconds = time.monotonic() - start
    assert not machine.servers()
    machine.model()
    left = sorted(str(path.relative_to(machine.state)) for path in machine.state.rglob("*") if not path.is_dir())
    unwanted = [name for name in left if name == "server.json" or name.endswith((".part", ".tmp", ".origin.tmp"))]
    assert not unwanted, unwanted
    return seconds, left


def kills(machine, times):
    """Every step, killed at any instant of its usual time, and then again."""

    def killed(words, usual):
        child = machine.start(*words)
        time.sleep(random.uniform(0, usual * 1.2))
        child.send_signal(signal.SIGKILL)
        child.communicate()
        assert len(machine.servers()) <= 1, machine.servers()

    def usual(words):
        start = time.monotonic()
        machine.ds4(*words)
        return time.monotonic() - start

    up = ("up", "--model", NAME, "--port", "0")
    machine.model().unlink()
    time_of_pull = usual(("pull", NAME))
    for i in range(times):
        machine.model().unlink()
        killed(("pull", NAME), time_of_pull)
        machine.ds4("pull", NAME)
        machine.model()
    print(f"pull: {times} kills, always the whole file")
    time_of_up = usual(up)
    machine.ds4("down")
    for i in range(times):
        killed(up, time_of_up)
        chat(machine.ds4(*up))
        assert len(machine.servers()) == 1, machine.servers()
        machine.ds4("down")
    print(f"up: {times} kills, always one server")
    for i in range(times):
        url = machine.ds4(*up)
        # A server that is killed in the middle of an answer is one that the next `up` replaces.
        asking = threading.Thread(target=lambda: quietly(chat, url))
        asking.start()
        time.sleep(random.uniform(0, 0.1))
        os.kill(machine.servers()[0], signal.SIGKILL)
        asking.join()
        chat(machine.ds4(*up))
        killed(("down",), 0.5)
        machine.ds4("down")
        assert not machine.servers(), machine.servers()
    print(f"server and down: {times} kills each, always recovered")
    machine.model()


def quietly(ask, url):
    try:
        ask(url)
    except (OSError, ValueError):
        pass  # its server was killed


def main():
    root = Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else None
    times = int(sys.argv[2]) if len(sys.argv) > 2 else 100
    mounted = bool(root) and not (root / "proc/self").exists()
    if mounted:
        subprocess.run(["mount", "--bind", "/proc", root / "proc"], check=True)
    machine = Machine(root)
    try:
        seconds, left = once(machine)
        print(f"pull, up, chat and down, each twice: {seconds:.1f} s; left: {', '.join(left)}")
        kills(machine, times)
    finally:
        for server in machine.servers():
            os.kill(server, signal.SIGKILL)
        shutil.rmtree(machine.home)
        if root:
            (root / "ds4").unlink()
        if mounted:
            subprocess.run(["umount", root / "proc"], check=True)


main()
