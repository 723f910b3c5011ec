"""A headless Chromium that the tests drive through its DevTools protocol, over a pipe: no port, no further package.

The browser and all that it started end with the ``with`` block, whatever happens in it.
"""

import fcntl
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

PATIENCE_S = 240.0
"""s: a busy machine may need them; what works returns at once."""
SLOW = "to activate."
"""End of JupyterLab's remarks about how long its own parts take on a busy machine."""
AUDIO = """[...document.querySelectorAll("audio")].map(a => new Promise(done => {
    if (a.readyState) return done(a.duration);
    a.addEventListener("loadedmetadata", () => done(a.duration)); a.addEventListener("error", () => done(-1)); a.load(); }))"""
STATE = f"""(async () => ({{
    sounds: await Promise.all({AUDIO}),
    labels: [...document.querySelectorAll("audio")].map(a => a.getAttribute("aria-label")),
    images: [...document.images].map(i => i.complete && i.naturalWidth),
    alts: [...document.images].map(i => i.alt),
    wide: document.documentElement.scrollWidth > innerWidth,
    width: innerWidth, lang: document.documentElement.lang, h1: document.querySelectorAll("h1").length,
    text: document.body.innerText}}))()"""
CONTRAST = """(() => {
    const parse = colour => { const n = colour.match(/[\\d.]+/g).map(Number); return n.length < 4 ? [...n, 1] : n; };
    const over = (top, below) => below.map((c, i) => i < 3 ? top[i] * top[3] + c * (1 - top[3]) : 1);
    const linear = v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
    const light = c => { const [r, g, b] = c.map(v => linear(v / 255));
        return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
    const ratio = (a, b) => { const [x, y] = [light(a), light(b)]; return (Math.max(x, y) + 0.05) / (Math.min(x, y) + 0.05); };
    const chain = e => e ? [...chain(e.parentElement), e] : [];
    return [...document.querySelectorAll("body, main, h1, p, th, td, caption, summary, figcaption, .card small, .card span, a[href]")]
        .filter(e => e === document.body || e.innerText.trim()).map(e => {
            let page = [255, 255, 255, 1], shown = 1;
            for (const each of chain(e)) {
                page = over(parse(getComputedStyle(each).backgroundColor), page);
                shown *= Number(getComputedStyle(each).opacity);
            }
            const ink = parse(getComputedStyle(e).color);
            return [ratio(over([...ink.slice(0, 3), ink[3] * shown], page), page), e.tagName, e.innerText.slice(0, 40)]; })
        .sort((a, b) => a[0] - b[0])[0]; })()"""
"""The text of least contrast: ratio after WCAG 2 with opacities multiplied in, name of its element, its first words."""


class Page:
    """One tab."""

    def __init__(self, browser: "Browser", target: str) -> None:
        self.browser, self.target = browser, target
        self.session = browser.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        return self.browser.call(method, self.session, **parameters)

    def show(self, width: int = 1200, height: int = 900, scheme: str = "light") -> None:
        """Size of the window and the reader's colour scheme, light or dark."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def open(self, place: Path | str) -> None:
        """Open a file or an address, and wait until it is loaded."""
        address = place.as_uri() if isinstance(place, Path) else place
        self.call("Page.navigate", url=address)
        self.until(f"location.href.startsWith({json.dumps(address)}) && document.readyState === 'complete'")

    def evaluate(self, script: str) -> Any:
        """Value of an expression of JavaScript; of a promise, that which it is kept with."""
        found = self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def until(self, script: str, seconds: float = PATIENCE_S) -> Any:
        """The first value of an expression that is true."""
        end = time.monotonic() + seconds
        while not (value := self.evaluate(script)):
            assert time.monotonic() < end, f"after {seconds:.0f} s still not true: {script}; console: {self.complaints}"
            time.sleep(0.1)
        return value

    def press(self, key: str) -> None:
        """Press and release a key, such as Tab."""
        code = {"Tab": 9, "Enter": 13, "ArrowRight": 39, "ArrowDown": 40}[key]
        for kind in ("rawKeyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code)

    def click(self, element: str) -> None:
        """Press and release the mouse in the middle of an element, an expression of JavaScript, as soon as it is there."""
        self.until(f"!!({element})")  # an element itself arrives as an empty object
        self.evaluate(f"({element}).scrollIntoView({{block: 'center'}})")
        x, y = self.evaluate(f"(b => [b.x + b.width / 2, b.y + b.height / 2])(({element}).getBoundingClientRect())")
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def choose(self, element: str, file: Path) -> None:
        """Click on an element that asks for a file, and give it one."""
        self.call("Page.setInterceptFileChooserDialog", enabled=True)
        before, end = len(self.events("Page.fileChooserOpened")), time.monotonic() + PATIENCE_S
        self.click(element)
        while len(asked := self.events("Page.fileChooserOpened")) == before:
            assert time.monotonic() < end, f"no file is asked for by {element}"
            self.evaluate("0")
        self.call("DOM.setFileInputFiles", files=[str(file)], backendNodeId=asked[-1]["backendNodeId"])

    def events(self, method: str) -> list[dict[str, Any]]:
        mine = (event for event in self.browser.events if event.get("sessionId") == self.session)
        return [event["params"] for event in mine if event["method"] == method]

    @property
    def complaints(self) -> list[str]:
        """Exceptions, errors and warnings on the console, and what the browser itself refused."""
        found = [event["exceptionDetails"].get("exception", {}).get("description", "?") for event in self.events("Runtime.exceptionThrown")]
        for event in self.events("Runtime.consoleAPICalled"):
            if event["type"] in ("error", "warning", "assert"):
                found.append(" ".join(str(value.get("value", value.get("description"))) for value in event["args"]))
        entries = (event["entry"] for event in self.events("Log.entryAdded"))
        found += [entry["text"] for entry in entries if entry["level"] in ("error", "warning")]
        return [text for text in found if not text.endswith(SLOW)]

    @property
    def fetched(self) -> list[str]:
        """Addresses of all that was asked for, but for the page itself and data inside it."""
        asked = [event["request"]["url"] for event in self.events("Network.requestWillBeSent") if event.get("type") != "Document"]
        return [address for address in asked if not address.startswith("data:")]

    def tabbed(self, selector: str) -> int:
        """How many elements of a selector the Tab key reaches, from the top of the page to its end."""
        self.evaluate(f"window.reached = new Set(); window.wanted = document.querySelectorAll({json.dumps(selector)}).length;")
        self.evaluate("document.activeElement.blur(); scrollTo(0, 0)")
        for _ in range(1500):
            self.press("Tab")
            note = f"document.activeElement.matches({json.dumps(selector)}) && reached.add(document.activeElement)"
            if self.evaluate(f"{note}; reached.size >= wanted || document.activeElement === document.body"):
                break
        return self.evaluate("reached.size")

    def close(self) -> None:
        self.browser.call("Target.closeTarget", targetId=self.target)


class Browser:
    """A running Chromium; see :func:`chromium`."""

    def __init__(self, requests: int, answers: int) -> None:
        self.requests, self.answers = requests, answers
        self.count, self.rest = 0, b""
        self.events: list[dict[str, Any]] = []

    def call(self, method: str, session: str | None = None, **parameters: Any) -> dict[str, Any]:
        """Send a command and wait for its answer; what happens meanwhile is added to ``events``."""
        self.count += 1
        message = {"id": self.count, "method": method, "params": parameters} | ({"sessionId": session} if session else {})
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self.requests, data) :]
        while True:
            found = self._read(method)
            if found.get("id") == self.count:
                assert "error" not in found, (method, found["error"])
                return found["result"]
            self.events.append(found)

    def _read(self, method: str) -> dict[str, Any]:
        while b"\0" not in self.rest:
            ready, _, _ = select.select([self.answers], [], [], PATIENCE_S)
            data = os.read(self.answers, 1 << 20) if ready else b""
            assert data, f"the browser {'ended' if ready else 'gave no answer'} at {method}"
            self.rest += data
        first, _, self.rest = self.rest.partition(b"\0")
        return json.loads(first)

    @contextmanager
    def page(self) -> Iterator[Page]:
        """A new tab, closed at the end."""
        page = Page(self, self.call("Target.createTarget", url="about:blank")["targetId"])
        try:
            yield page
        finally:
            page.close()

    def inspect(self, place: Path, width: int = 1200, scheme: str = "light") -> dict[str, Any]:
        """Open a file and say what it is like: its sounds, pictures, texts, what it complained of and what it fetched."""
        with self.page() as page:
            page.show(width, scheme=scheme)
            page.open(place)
            state = page.evaluate(STATE)
            assert state["width"] == width
            players = {"reached": page.tabbed("audio")} if state["sounds"] else {"reached": 0}
            return state | players | {"contrast": page.evaluate(CONTRAST), "complaints": page.complaints, "fetched": page.fetched}


@contextmanager
def ended(process: subprocess.Popen) -> Iterator[subprocess.Popen]:
    """A process that leads a session of its own: it and its children are gone at the end."""
    try:
        yield process
    finally:
        for number in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(process.pid, number)
                process.wait(timeout=5)
            except (ProcessLookupError, subprocess.TimeoutExpired):
                continue


def listening(port: int, process: subprocess.Popen, log: Path) -> None:
    """Wait until a server that was started answers on a port of this machine."""
    end = time.monotonic() + PATIENCE_S
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=5).close()
            return
        except OSError:
            assert process.poll() is None and time.monotonic() < end, log.read_text(encoding="utf-8")[-2000:]
            time.sleep(0.1)


def chromium(profile: Path) -> Iterator[Browser]:
    """A browser with an empty profile, as the body of a fixture; without one the test is skipped, with the reason."""
    command = shutil.which("chromium") or shutil.which("google-chrome")
    if not command:
        pytest.skip("neither chromium nor google-chrome is installed: no page was opened in a browser")
    (read, requests), (answers, write) = os.pipe(), os.pipe()
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking"]
    options += ["--no-first-run", "--hide-scrollbars", "--remote-debugging-pipe", f"--user-data-dir={profile}", "about:blank"]
    # The browser reads from file 3 and writes to file 4. From 10 up, neither end has a number that the shell is about to replace.
    theirs, ours = (fcntl.fcntl(end, fcntl.F_DUPFD, 10) for end in (read, write))
    script = f'exec 3<&{theirs} 4>&{ours}; exec "$0" "$@"'
    process = subprocess.Popen(
        ["bash", "-c", script, command, *options], pass_fds=(theirs, ours), start_new_session=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    for end in (read, write, theirs, ours):
        os.close(end)
    try:
        with ended(process):
            yield Browser(requests, answers)
    finally:
        os.close(requests)
        os.close(answers)
