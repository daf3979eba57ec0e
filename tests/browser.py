"""Headless Chromium for tests: found or excused in one place, and driven over its own debugging protocol.

No driver beside the browser: the protocol is JSON over a websocket (https://chromedevtools.github.io/devtools-protocol/).
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "google-chrome", "chromium-browser")
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage", "--no-proxy-server",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",  # nothing outside is even tried
]  # fmt: skip
SECONDS = 20.0  # for the browser to start, and for anything to happen in it
KEYS = {"Enter": ("Enter", 13, "\r"), "Escape": ("Escape", 27, ""), "Tab": ("Tab", 9, "\t"), " ": ("Space", 32, " ")}


def find() -> str:
    """The browser's path. Without one the test is skipped; in CI it fails, so that nobody takes a skip for a pass."""
    for name in NAMES:
        if path := shutil.which(name):
            return path
    why = "no Chromium on this machine: the page is not tried in a browser"
    if os.environ.get("CI") == "true":
        pytest.fail(why)
    pytest.skip(why)


class Tab:
    """One page. `problems` are the errors of its console so far, those of its content security policy among them."""

    def __init__(self, address: str) -> None:
        from websocket import create_connection

        self._socket = create_connection(address, timeout=2 * SECONDS, suppress_origin=True)
        self._asked = 0
        self._loaded: set[str] = set()
        self.problems: list[str] = []
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")
        self.call("Page.setLifecycleEventsEnabled", enabled=True)

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._asked += 1
        self._socket.send(json.dumps({"id": self._asked, "method": method, "params": parameters}))
        while True:
            said = json.loads(self._socket.recv())
            if said.get("id") == self._asked:
                assert "error" not in said, f"{method}: {said['error']}"
                return dict(said["result"])
            self._note(said)

    def _note(self, said: dict[str, Any]) -> None:
        method, about = said.get("method"), said.get("params", {})
        if method == "Page.lifecycleEvent" and about["name"] == "load":
            self._loaded.add(about["loaderId"])
        if method == "Runtime.exceptionThrown":
            self.problems.append(json.dumps(about["exceptionDetails"])[:500])
        if method == "Log.entryAdded" and about["entry"]["level"] == "error":
            self.problems.append(f"{about['entry']['source']}: {about['entry']['text']}")

    def js(self, expression: str) -> Any:
        """The value of an expression, awaited where it is a promise. Fails the test when it throws."""
        done = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in done, f"{expression}: {done['exceptionDetails']}"
        return done["result"].get("value")

    def until(self, expression: str) -> Any:
        """Wait in the page until the expression is true; fails the test with the page's text when it never is."""
        found = self.js(f"""new Promise((resolve) => {{
          const end = performance.now() + {SECONDS * 1000};
          const look = () => {{
            const value = (() => {{ try {{ return {expression}; }} catch {{ return false; }} }})();
            if (value || performance.now() > end) resolve(value); else setTimeout(look, 15);
          }};
          look();
        }})""")
        assert found, f"never true: {expression}\n{self.js('document.body.innerText')}\n{self.problems}"
        return found

    def open(self, url: str) -> None:
        done = self.call("Page.navigate", url=url)
        assert "errorText" not in done, f"{url}: {done['errorText']}"
        while done["loaderId"] not in self._loaded:  # the socket's time-out ends it
            self._note(json.loads(self._socket.recv()))

    def size(self, width: int, height: int) -> None:
        shape = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.call("Emulation.setDeviceMetricsOverride", **shape)

    def scheme(self, name: str) -> None:
        """light or dark, as the user's system would say."""
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": name}])

    def type(self, text: str) -> None:
        self.call("Input.insertText", text=text)

    def key(self, name: str, shift: bool = False) -> None:
        code, number, text = KEYS[name]
        about = {"key": name, "code": code, "windowsVirtualKeyCode": number, "modifiers": 8 if shift else 0}
        self.call("Input.dispatchKeyEvent", type="keyDown", text=text, **about)
        self.call("Input.dispatchKeyEvent", type="keyUp", **about)

    def click(self, selector: str) -> None:
        """A real click in the middle of an element, so what is covered or hidden cannot be clicked."""
        place = f"document.querySelector({json.dumps(selector)}).getBoundingClientRect()"
        box = self.js(f"(() => {{ const r = {place}; return [r.x + r.width / 2, r.y + r.height / 2, r.width]; }})()")
        assert box[2] > 0, f"{selector} is not visible"
        for kind in ("mousePressed", "mouseReleased"):
            about = {"x": box[0], "y": box[1], "button": "left", "clickCount": 1}
            self.call("Input.dispatchMouseEvent", type=kind, **about)

    def screenshot(self, path: Path) -> None:
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"]))

    def close(self) -> None:
        self._socket.close()


@contextmanager
def running(profile: Path) -> Iterator[Tab]:
    """A browser of its own with an empty page; `profile` is an empty folder."""
    command = [find(), *FLAGS, f"--user-data-dir={profile}", "--remote-debugging-port=0", "about:blank"]
    with (profile / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        tab = Tab(_first_page(profile, process))
        yield tab
        tab.close()
    finally:
        process.terminate()
        process.wait(SECONDS)


def _first_page(profile: Path, process: subprocess.Popen[bytes]) -> str:
    import httpx

    port, until = profile / "DevToolsActivePort", time.monotonic() + SECONDS
    while not port.exists() or "\n" not in port.read_text():
        assert process.poll() is None and time.monotonic() < until, (profile / "log").read_text()[-2000:]
        time.sleep(0.05)
    listing = f"http://127.0.0.1:{port.read_text().splitlines()[0]}/json/list"
    while True:
        pages = [each for each in httpx.get(listing, trust_env=False).json() if each["type"] == "page"]
        if pages:
            return str(pages[0]["webSocketDebuggerUrl"])
        assert time.monotonic() < until, "the browser shows no page"
        time.sleep(0.05)
