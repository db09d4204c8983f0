"""A browser without a window, and servers for it."""

import json
import os
import subprocess
import tempfile
import threading
import time

from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

PATIENCE = 30  # seconds, for anything

TOOL = [{"name": "weather", "description": "The weather in a city.", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}]


def wait(what, holds):
    """Waits until something holds, and gives it."""
    end = time.monotonic() + PATIENCE
    while True:
        found = holds()
        if found:
            return found
        assert time.monotonic() < end, f"waited in vain: {what}"
        time.sleep(0.02)


class Server:
    """A server that ends with the checks."""

    def __init__(self, command):
        environment = {k: v for k, v in os.environ.items() if k != "DS4_MODEL"}
        environment["DS4_LOCK_FILE"] = tempfile.mktemp()
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
        said = []
        for line in self.process.stderr:
            said.append(line)
            if "listening at http" in line:
                break
        else:
            raise AssertionError("".join(said))
        self.url = said[-1].split()[-1]
        self.port = self.url.rsplit(":", 1)[1]
        threading.Thread(target=self.process.stderr.read, daemon=True).start()

    def end(self):
        self.process.kill()
        self.process.wait()


def mini(*args, port=0):
    """The built-in model."""
    return Server(["target/debug/ds4-server", "--port", str(port), *args])


def scripted():
    """A model that follows script.json."""
    return Server(["target/debug/examples/scripted", "xtask/page/script.json"])


class Browser:
    """Chromium, which can reach nothing but this machine."""

    def __init__(self):
        options = webdriver.ChromeOptions()
        options.binary_location = "/usr/bin/chromium"
        arguments = ["--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--hide-scrollbars"]
        for argument in arguments + ["--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1", "--lang=en"]:
            options.add_argument(argument)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        self.driver = webdriver.Chrome(options=options, service=Service("/usr/bin/chromedriver"))
        self.size(1280, 800)

    def size(self, width, height, dark=False, scale=1):
        metrics = {"width": width, "height": height, "deviceScaleFactor": scale, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})

    def open(self, server, **settings):
        """The page as someone sees it who was never there, or with these settings."""
        self.driver.get(server.url + "/page/icon.svg")
        self.run("localStorage.clear(); localStorage['ds4.settings'] = arguments[0]", json.dumps(settings))
        self.reload(server)

    def reload(self, server):
        self.driver.get(server.url + "/")
        wait("the page", lambda: self.text("#state") not in ("", None))

    def run(self, script, *args):
        return self.driver.execute_script(script, *args)

    def find(self, css):
        return self.driver.find_element(By.CSS_SELECTOR, css)

    def all(self, css):
        return self.driver.find_elements(By.CSS_SELECTOR, css)

    def text(self, css):
        """The text of the last one of these; none where there is none."""
        return self.run("return [...document.querySelectorAll(arguments[0])].at(-1)?.textContent", css)

    def seen(self, css):
        return any(element.is_displayed() for element in self.all(css))

    def press(self, *keys):
        """Keys, where the focus is."""
        self.driver.switch_to.active_element.send_keys(*keys)

    def say(self, text):
        self.find("#prompt").send_keys(text, Keys.ENTER)

    def settled(self):
        """Waits until nothing is on its way here."""
        wait("the end of the answer", lambda: self.seen("#send") and not self.seen("#stop"))

    def stats(self, server, key=""):
        """What the server itself says, asked from here."""
        import urllib.request

        request = urllib.request.Request(server.url + "/v1/stats", headers={"x-api-key": key})
        return json.load(urllib.request.urlopen(request))
