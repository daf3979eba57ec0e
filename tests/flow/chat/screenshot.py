"""Draws docs/images/chat.png: `python -m tests.flow.chat.screenshot`. The answers are the scripted endpoint's."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from tests.browser import running
from tests.flow.chat.conftest import ROOT, start_server
from tests.flow.chat.endpoint import start

DONE = "!document.querySelector('[aria-busy=true]') && !document.querySelector('#send').hidden"

HOST = "ticket-triage.eastus2.inference.ml.azure.com"


def main(out: Path) -> None:
    with tempfile.TemporaryDirectory() as profile, tempfile.TemporaryDirectory() as folder:
        server = start_server(Path(folder), start())
        try:
            with running(Path(profile)) as tab:
                tab.size(900, 640)
                tab.open(server.url)
                tab.until("document.querySelector('#endpoint').textContent")
                tab.js(f"document.querySelector('#endpoint').textContent = '{HOST}'")
                tab.click("#both")
                for text in ("My parcel VT-10234 has not come, and I need the lamp tomorrow.", "And now?"):
                    tab.click("#text")
                    tab.type(text)
                    tab.key("Enter")
                    tab.until(DONE)
                    tab.click("#both")  # the second question goes where the traffic leads
                tab.screenshot(out)
        finally:
            server.process.kill()


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs/images/chat.png")
