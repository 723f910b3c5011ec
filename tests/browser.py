"""The installed headless Chromium, which the tests drive with Playwright."""

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, sync_playwright

PATIENCE_S = 240.0
"""Time limit in seconds, long enough for a busy machine; whatever works returns much earlier."""
SLOW = "to activate."
"""End of JupyterLab's warnings about how long its own plugins take on a busy machine."""
AUDIO = """[...document.querySelectorAll("audio")].map(a => new Promise(done => {
    if (a.readyState) return done(a.duration);
    a.addEventListener("loadedmetadata", () => done(a.duration)); a.addEventListener("error", () => done(-1)); a.load(); }))"""
STATE = f"""(async () => ({{
    sounds: await Promise.all({AUDIO}),
    labels: [...document.querySelectorAll("audio")].map(a => a.getAttribute("aria-label")),
    images: [...document.images].map(i => i.complete && i.naturalWidth),
    alts: [...document.images].map(i => i.alt),
    wide: document.documentElement.scrollWidth > innerWidth,
    light: getComputedStyle(document.body).backgroundColor.match(/\\d+/g).reduce((sum, part) => sum + Number(part), 0),
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
"""The text with the lowest contrast: its WCAG 2 ratio with opacities applied, the tag of its element, and its first 40 characters."""


class Tab:
    """A browser page that records its complaints and the addresses it fetches."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.page.set_default_timeout(1000 * PATIENCE_S)
        self.complaints: list[str] = []
        """Exceptions, errors and warnings on the console, and whatever the browser itself refused."""
        self.fetched: list[str] = []
        """Addresses of all requests, except for the page itself and data embedded in it."""
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("console", self._listen)
        self.page.on("request", lambda asked: self.fetched.append(asked.url) if asked.resource_type != "document" else None)

    def _listen(self, said: ConsoleMessage) -> None:
        if said.type in ("error", "warning", "assert") and not said.text.endswith(SLOW):
            self.complaints.append(said.text)

    def until(self, script: str) -> Any:
        """Return the first truthy value of a JavaScript expression."""
        return self.page.wait_for_function(script).json_value()

    def tabbed(self, selector: str) -> int:
        """Return how many elements that match a selector the Tab key reaches, from the top of the page to its end."""
        self.page.evaluate("wanted => { window.reached = new Set(); window.wanted = document.querySelectorAll(wanted).length; }", selector)
        self.page.evaluate("document.activeElement.blur(); scrollTo(0, 0)")
        note = """wanted => { const here = document.activeElement; if (here.matches(wanted)) reached.add(here);
            return reached.size >= window.wanted || here === document.body; }"""
        for _ in range(1500):
            self.page.keyboard.press("Tab")
            if self.page.evaluate(note, selector):
                break
        return self.page.evaluate("reached.size")


class Chromium:
    """A running browser; see :func:`chromium`."""

    def __init__(self, browser: Browser) -> None:
        self.browser = browser

    @contextmanager
    def tab(self, width: int = 1200, height: int = 900, scheme: str = "light") -> Iterator[Tab]:
        with closing(self.browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)) as page:
            yield Tab(page)

    def inspect(self, place: Path, width: int = 1200, scheme: str = "light") -> dict[str, Any]:
        """Open a file and return its state: sounds, pictures, texts, contrast, complaints and fetched addresses."""
        with self.tab(width=width, scheme=scheme) as tab:
            tab.page.goto(place.as_uri())
            state = tab.page.evaluate(STATE)
            assert state["width"] == width
            state |= {"reached": tab.tabbed("audio") if state["sounds"] else 0, "contrast": tab.page.evaluate(CONTRAST)}
            return state | {"complaints": tab.complaints, "fetched": tab.fetched}


def chromium() -> Iterator[Chromium]:
    """Yield a browser, as the body of a fixture; skip the test with the reason if none is installed."""
    command = shutil.which("chromium") or shutil.which("google-chrome")
    if not command:
        pytest.skip("neither chromium nor google-chrome is installed: no page was opened in a browser")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=command, args=["--disable-gpu"], timeout=1000 * PATIENCE_S)
        yield Chromium(browser)
        browser.close()


@contextmanager
def ended(process: subprocess.Popen) -> Iterator[subprocess.Popen]:
    """Yield a process that leads its own session; end it and its children on exit."""
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
    """Wait until a server that was just started answers on a local port."""
    end = time.monotonic() + PATIENCE_S
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=5).close()
            return
        except OSError:
            assert process.poll() is None and time.monotonic() < end, log.read_text(encoding="utf-8")[-2000:]
            time.sleep(0.1)
