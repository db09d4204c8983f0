"""The pictures of the documentation: the page with the built-in model, light and dark."""

import json
import threading
import urllib.request

from browser import Browser, Keys, mini, wait

CHECK = [{"name": "check_weather", "description": "Check a weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}]
STORY = {"messages": [{"role": "user", "content": "Tell me a story about a robot."}], "think": False, "temperature": 0}
LONG = {"messages": [{"role": "user", "content": "river stone " * 15_000}], "max_tokens": 1}


def ask(server, body):
    request = urllib.request.Request(server.url + "/v1/chat/completions", json.dumps(body).encode())
    try:
        urllib.request.urlopen(request).read()
    except OSError:
        pass  # the server ends with the pictures


def main():
    server, b = mini("-c", "65536", "--sessions", "4"), Browser()
    try:
        b.open(server, tools=json.dumps(CHECK), seed="3")
        for _ in range(3):
            ask(server, STORY)
        b.say("What can you do?")
        b.settled()
        b.find("#new").click()
        b.say("What is 8 + 9?")
        b.settled()
        b.say("Please check the weather with city Oslo.")
        wait("the call", lambda: b.seen(".results textarea"))
        b.press("cloudy", Keys.ENTER)
        b.settled()
        threading.Thread(target=ask, args=(server, LONG), daemon=True).start()
        wait("much of a prompt", lambda: int((b.text("#live-now .row:first-child span") or "0").split()[0].replace(",", "")) > 9000)
        for name, dark in [("page", False), ("page-dark", True)]:
            b.size(1280, 800, dark)
            b.run("[...document.querySelectorAll('.thinking')].at(-1).open = true; document.getElementById('scroll').scrollTop = 1e6; document.activeElement.blur()")
            b.driver.save_screenshot(f"docs/{name}.png")
    finally:
        b.driver.quit()
        server.end()


main()
