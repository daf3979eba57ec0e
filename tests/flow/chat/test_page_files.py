"""The page's files as they are: colours that can be read, and no way for a text to become markup."""

from __future__ import annotations

import re

from tests.flow.chat.conftest import ROOT

PAGE = ROOT / "flow/chat/page"


def test_text_has_contrast_in_both_schemes() -> None:
    def luminance(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    schemes = re.findall(r":root \{(.*?)\}", (PAGE / "chat.css").read_text(encoding="utf-8"), re.DOTALL)
    assert len(schemes) == 2
    pairs = [(front, back) for front in ("ink", "muted") for back in ("paper", "page")]
    pairs += [("blue", "paper"), ("green", "paper"), ("bad", "bad-tint"), ("ink", "mine"), ("on", "accent")]
    for scheme in schemes:
        colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", scheme))
        for front, back in pairs:
            light, dark = sorted((luminance(colours[front]), luminance(colours[back])), reverse=True)
            assert (light + 0.05) / (dark + 0.05) >= 4.5, (front, back)


def test_no_text_can_become_markup_and_nothing_is_fetched_from_elsewhere() -> None:
    for path in PAGE.iterdir():
        text = path.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write|eval\(|https?://|@import", text), path
    html = (PAGE / "index.html").read_text(encoding="utf-8")
    assert not re.search(r"\son\w+=|\sstyle=|<script(?! type=\"module\" src)|<style", html)
