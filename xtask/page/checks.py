"""The page at / as a person uses it. Every function below that begins with `check_` is a check."""

import json
import os
import sys
import tempfile
import time
import urllib.parse

from browser import TOOL, Browser, Keys, mini, scripted, wait

BROWSER = Browser()
SCRIPTED = scripted()
b = BROWSER


def check_an_answer_comes_in_steps_with_its_thinking_in_sight():
    b.open(SCRIPTED)
    b.say("tell me a story")
    wait("thinking", lambda: b.text(".thinking div"))
    assert b.run("return document.querySelector('.thinking').open") and b.text(".thinking summary") == "Thinking…"
    lengths = set()
    wait("steps", lambda: lengths.add(len(b.text(".text") or "")) or len(lengths) > 10)
    assert not b.run("return document.querySelector('.thinking').open"), "it closes when the answer begins"
    assert b.text(".thinking summary").startswith("Thought for ")
    b.find(".thinking summary").click()
    assert "A long story is wanted" in b.text(".thinking div") and b.seen(".thinking div")
    b.find("#stop").click()
    b.settled()


def check_what_runs_is_seen_in_the_panel_and_stops_with_a_button_or_a_key():
    for stop in [lambda: b.find("#stop").click(), lambda: b.press(Keys.ESCAPE)]:
        b.open(SCRIPTED)
        left = b.stats(SCRIPTED)["requests"]["ended"]["left"]
        b.say("tell me a story")
        wait("the request in the panel", lambda: "tokens/s" in (b.text("#live-now li") or ""))
        assert b.text("#live-load") == "1 of 4 run" and b.text("#live-now b") in ("Thinks", "Answers")
        assert float(b.text("#live-speed").split()[0]) > 0
        stop()
        b.settled()
        assert b.text(".note") == "Stopped." and not b.seen("#turns .error")
        wait("the server", lambda: b.stats(SCRIPTED)["requests"]["ended"]["left"] == left + 1)
        wait("the panel", lambda: b.text("#live-now li") == "Nothing at the moment")


def check_tools_are_called_answered_by_keyboard_and_changed():
    b.open(SCRIPTED, tools=json.dumps(TOOL))
    b.say("What is the weather?")
    wait("the form", lambda: len(b.all(".results textarea")) == 2)
    heads = [element.text.replace("\n", " ") for element in b.all(".assistant .call h4")]
    assert heads == ["Calls weather", "Calls weather"], heads
    assert json.loads(b.all(".assistant .call pre")[0].text) == {"city": "Oslo"}
    assert b.text(".text") == "I will look." and not b.find("#send").is_enabled()
    b.press("21 <b>degrees</b>", Keys.ENTER)
    b.press("15", Keys.ENTER)
    wait("the answer", lambda: b.text(".text") == "It is 21 degrees in Oslo.")
    b.settled()
    assert [element.text for element in b.all(".tool pre")] == ["21 <b>degrees</b>", "15"]
    b.all(".tool .acts button")[0].click()
    b.press(Keys.CONTROL + "a")
    b.press("22", Keys.ENTER)
    b.settled()
    assert [element.text for element in b.all(".tool pre")] == ["22", "15"] and len(b.all(".turn")) == 5


def check_conversations_run_side_by_side_and_stay():
    b.open(SCRIPTED)
    b.say("tell me a story")
    wait("its text", lambda: b.text(".text"))
    b.find("#new").click()
    b.say("hello")
    wait("the second answer", lambda: b.text(".text") == "Hello from the script.")
    assert len(b.all("#conversations i")) == 1, "the first one still runs"
    b.all("#conversations button")[1].click()
    before = len(b.text(".text"))
    wait("more of the first", lambda: len(b.text(".text")) > before)
    b.press(Keys.ESCAPE)
    b.settled()
    told = b.text(".text")
    b.reload(SCRIPTED)
    assert [element.text for element in b.all("#conversations li")] == ["hello", "tell me a story"]
    assert b.text(".text") == told and b.text(".note") == "Stopped."
    b.find("#menu summary").click()
    b.find("#do-rename").click()
    b.press(Keys.CONTROL + "a")
    b.press("The robot", Keys.ENTER)
    b.reload(SCRIPTED)
    assert b.text("#title") == "The robot"
    b.find("#menu summary").click()
    b.find("#delete").click()
    assert [element.text for element in b.all("#conversations li")] == ["hello"]
    b.find("#toast button").click()
    assert b.text("#title") == "The robot" and len(b.all("#conversations li")) == 2


def check_a_conversation_can_be_taken_away():
    folder = tempfile.mkdtemp()
    b.driver.execute_cdp_cmd("Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": folder})
    b.open(SCRIPTED)
    b.say("hello")
    b.settled()
    for kind in ["json", "markdown"]:
        b.find("#menu summary").click()
        b.find(f"#export-{kind}").click()
    names = wait("the files", lambda: sorted(os.listdir(folder)) == ["hello.json", "hello.md"] and os.listdir(folder))
    texts = {name: open(os.path.join(folder, name), encoding="utf-8").read() for name in names}
    messages = json.loads(texts["hello.json"])["messages"]
    assert [m["content"] for m in messages] == ["hello", "Hello from the script."]
    assert "## Answer\n\n> A greeting.\n\nHello from the script." in texts["hello.md"], texts["hello.md"]


def check_what_the_model_writes_never_becomes_markup():
    b.open(SCRIPTED)
    b.say("something evil")
    b.settled()
    for _ in range(2):
        made = b.run("return [...document.querySelectorAll('.text *, .thinking div *')].map(e => e.localName)")
        assert not {"img", "script", "iframe", "svg", "i", "b", "u", "object", "style"} & set(made), made
        for text in ["<img src=x onerror=\"document.title='hacked'\">", "<svg onload=alert(1)>", "[here](javascript:alert(1))"]:
            assert text in b.text(".assistant"), text
        assert [link.get_attribute("href") for link in b.all("#turns a")] == ["https://example.com/x.png", "https://example.com/a_b"]
        assert b.text(".text h1") == "<script>document.title='hacked'</script>"
        assert [len(b.all(".text " + name)) for name in ["table", "pre", "ul ul", "blockquote", "strong"]] == [1] * 5
        assert "hacked" not in b.driver.title
        b.reload(SCRIPTED)


def check_messages_are_changed_and_answers_tried_again():
    b.open(SCRIPTED)
    b.say("hello")
    b.settled()
    b.say("short")
    b.settled()
    assert b.text(".text") == "This answer is cut" and b.text(".note").startswith("Cut off here")
    started = b.stats(SCRIPTED)["requests"]["started"]
    b.all(".assistant .acts button")[-1].click()
    wait("another request", lambda: b.stats(SCRIPTED)["requests"]["started"] == started + 1)
    b.settled()
    assert len(b.all(".turn")) == 4
    b.all(".user .acts button")[1].click()
    b.press(" there", Keys.ENTER)
    b.settled()
    assert [element.text for element in b.all(".turn .said")] == ["hello there"] and len(b.all(".turn")) == 2


def check_keys():
    b.open(SCRIPTED)
    assert b.driver.switch_to.active_element == b.find("#prompt")
    b.press("hello", Keys.SHIFT + Keys.ENTER + Keys.NULL, "again")
    assert b.find("#prompt").get_attribute("value") == "hello\nagain" and not b.all(".turn")
    b.press(Keys.ENTER)
    wait("the turn", lambda: b.text(".said") == "hello\nagain")
    b.settled()
    reached = set()
    for _ in range(40):
        b.press(Keys.TAB)
        reached.add(b.driver.switch_to.active_element.get_attribute("id"))
    assert {"new", "show-settings", "show-live", "think", "prompt"} <= reached, reached
    b.find("#show-settings").send_keys(Keys.ENTER)
    assert b.seen("#settings")
    b.press(Keys.ESCAPE)
    assert not b.seen("#settings")


def check_everything_has_a_name():
    b.open(SCRIPTED, tools=json.dumps(TOOL))
    b.say("What is the weather?")
    wait("the form", lambda: b.all(".results textarea"))
    b.find("#show-settings").click()
    tree = b.driver.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    b.press(Keys.ESCAPE)
    tree += b.driver.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    roles = {"button", "textbox", "combobox", "link", "navigation", "complementary", "dialog", "region"}
    nodes = [node for node in tree if not node["ignored"] and node["role"]["value"] in roles]
    nameless = [node["role"]["value"] for node in nodes if not node["name"]["value"]]
    assert len(nodes) > 20 and not nameless, nameless


def check_colours_can_be_read():
    def light(name):
        code = b.run("return getComputedStyle(document.documentElement).getPropertyValue(arguments[0])", "--" + name).strip()
        parts = [int(code[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        red, green, blue = [x / 12.92 if x <= 0.03928 else ((x + 0.055) / 1.055) ** 2.4 for x in parts]
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    pairs = "text/back dim/back dim/side dim/soft accent/back accent/soft on-accent/accent amber/amber-soft amber/back red/red-soft red/card"
    b.open(SCRIPTED)
    for dark in [True, False]:
        b.size(1280, 800, dark)
        for pair in pairs.split():
            low, high = sorted(light(name) for name in pair.split("/"))
            assert (high + 0.05) / (low + 0.05) >= 4.5, (pair, dark)  # what WCAG asks of text


def check_it_fits_a_telephone():
    b.open(SCRIPTED)
    b.size(360, 700)
    try:
        b.say("something evil")
        b.settled()
        assert b.run("return document.documentElement.scrollWidth") <= 360
        assert b.find("#prompt").rect["width"] > 280 and not b.seen("#side") and not b.seen("#live")
        b.find("#show-side").click()
        assert b.find("#show-side").get_attribute("aria-expanded") == "true"
        wait("the drawer", lambda: b.seen("#new"))
        b.press(Keys.ESCAPE)
        wait("its end", lambda: not b.seen("#side"))
        b.find("#show-live").click()
        wait("the panel", lambda: b.seen("#live-load"))
        b.find("#hide-live").click()
        assert not b.seen("#live")
    finally:
        b.size(1280, 800)


def check_settings_take_effect_and_stay():
    trace = tempfile.mktemp()
    server = mini("--trace", trace, "-c", "4000")
    try:
        b.open(server)
        b.find("#show-settings").click()
        b.find("#s-tools").send_keys("not JSON")
        b.find("#settings [type=submit]").click()
        assert b.seen("#settings") and b.text("#s-error").startswith("Tools: this is not JSON")
        b.find("#s-tools").clear()
        values = {"system": "Your name is Otto.", "max": "50", "seed": "77", "temperature": "0"}
        for name, value in values.items():
            b.find(f"#s-{name}").send_keys(value)
        b.find("#settings [type=submit]").click()
        b.find("#think").send_keys("off")
        b.reload(server)
        b.say("What is 7 + 8?")
        b.settled()
        assert b.text(".text") == "15" and not b.seen(".thinking"), b.text(".assistant")
        said = open(trace, encoding="utf-8").read()
        assert "temperature 0," in said and "seed 77" in said and "Your name is Otto." in said, said
        assert "the built-in toy model" in b.text("#empty-note")
        b.find("#think").send_keys("on")
        b.all(".assistant .acts button")[-1].click()
        b.settled()
        assert b.text(".text") == "15" and b.seen(".thinking")
        assert b.text(".facts-line").split("prompt ")[1].split(" · ")[0].endswith("from the cache"), b.text(".facts-line")
        wait("memory", lambda: "weights" in b.text("#live-memory-facts"))
        wait("the cache", lambda: "% cached" in b.text("#live-hits") and b.text("#live-hits") != "0 % cached")
    finally:
        server.end()


def check_errors_are_said_in_the_servers_words():
    server = mini("-c", "200")
    try:
        b.open(server)
        b.say("river " * 210)
        wait("the error", lambda: (b.text("#turns .error") or "").startswith("prompt is too long: "))
        b.all(".user .acts button")[1].click()
        b.press(Keys.CONTROL + "a")
        b.press("What is 7 + 8?", Keys.ENTER)
        b.settled()
        assert b.text(".text") == "15" and not b.seen("#turns .error")
    finally:
        server.end()


def check_it_asks_for_a_key_and_goes_on_when_the_server_is_back():
    server = mini("--api-key", "secret", "-c", "1000")
    b.open(server)
    wait("the dialog", lambda: b.seen("#settings") and b.seen("#banner"))
    b.press("secret", Keys.ENTER)
    wait("the server", lambda: not b.seen("#banner") and "ready" in b.text("#state"))
    server.end()
    b.say("What is 7 + 8?")
    wait("the error", lambda: b.seen("#turns .error"))
    wait("the banner", lambda: "does not answer" in b.text("#banner"))
    back = mini("--api-key", "secret", "-c", "1000", port=server.port)
    try:
        wait("the server", lambda: not b.seen("#banner"))
        b.all(".assistant .acts button")[-1].click()
        b.settled()
        assert b.text(".text") == "15", b.text(".assistant")
    finally:
        back.end()


def check_nothing_leaves_this_machine():
    """Looks at all that the checks before it did."""
    asked = set()
    for entry in b.driver.get_log("performance"):
        message = json.loads(entry["message"])["message"]
        if message["method"] == "Network.requestWillBeSent":
            asked.add(message["params"]["request"]["url"])
    urls = [urllib.parse.urlsplit(url) for url in asked]
    outside = [url for url in urls if url.scheme != "blob" and url.hostname != "127.0.0.1"]
    paths = {url.path for url in urls if url.scheme == "http"}
    assert {"/", "/page/main.js", "/v1/stats", "/v1/chat/completions"} <= paths and not outside, outside
    usual = {"/", "/v1/stats", "/v1/chat/completions", "/favicon.ico"}  # the last for a picture that is opened alone
    assert not [path for path in paths - usual if not path.startswith("/page/")], paths
    broken = [entry["message"] for entry in b.driver.get_log("browser") if "Security Policy" in entry["message"] or "Uncaught" in entry["message"]]
    assert not broken, broken


def main():
    checks = [(name, check) for name, check in globals().items() if name.startswith("check_")]
    wanted = sys.argv[1:]
    failed = 0
    for name, check in checks:
        if wanted and not any(part in name for part in wanted):
            continue
        start = time.monotonic()
        try:
            check()
            print(f"  ok      {name.removeprefix('check_')} ({time.monotonic() - start:.1f} s)", flush=True)
        except Exception as error:
            failed += 1
            print(f"  FAILED  {name.removeprefix('check_')}: {error!r} at line {error.__traceback__.tb_next.tb_lineno}", flush=True)
    print(f"page: {failed} of {len(checks)} checks failed" if failed else f"page: {len(checks)} checks passed")
    SCRIPTED.end()
    BROWSER.driver.quit()
    sys.exit(1 if failed else 0)


main()
