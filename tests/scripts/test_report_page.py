"""The page of a release, read as a browser would: what it says must be what the records hold, and nothing may run."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections import Counter
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from scripts.report import build
from tests.browser import FLAGS, find

FIXTURES = Path(__file__).parent / "fixtures" / "report"
SCENARIOS = ("promoted", "refused", "rollback")
VOID = {"meta", "br", "link", "img", "input", "hr"}


class Page(HTMLParser):
    """Every element with its attributes and text; text of the whole page and of each section."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.html, self.text, self.tags = html, "", Counter[str]()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.of: dict[str, str] = {}
        self.open: list[tuple[str, str | None]] = []
        self.unbalanced: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append((tag, dict(attrs).get("id") or dict(attrs).get("class")))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop()[0] != tag:
            self.unbalanced.append(tag)

    def handle_data(self, data: str) -> None:
        inside = {tag for tag, _ in self.open}
        if "style" in inside:
            return
        self.text += data
        for tag, name in self.open:
            for key in (tag, name):
                if key:
                    self.of[key] = self.of.get(key, "") + " " + " ".join(data.split())


def page_of(folder: Path, out: Path) -> Page:
    return Page(build(folder, out).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Page]:
    out = tmp_path_factory.mktemp("pages")
    return {name: page_of(FIXTURES / name, out / name) for name in SCENARIOS}


def record(name: str, file: str) -> Any:
    return json.loads((FIXTURES / name / file).read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("name", "headline", "tone"),
    [
        ("promoted", "Released: green serves 100 %", "good"),
        ("refused", "Refused at the gate: the candidate is not good enough", "bad"),
        ("rollback", "Rolled back: blue serves 100 %", "bad"),
    ],
)
def test_headline_tells_the_outcome(pages: dict[str, Page], name: str, headline: str, tone: str) -> None:
    page = pages[name]
    assert page.of["h1"].strip() == headline
    assert any(tag == "header" and attrs.get("class") == f"hero {tone}" for tag, attrs in page.elements)


@pytest.mark.parametrize("name", SCENARIOS)
def test_numbers_are_those_of_the_records(pages: dict[str, Page], name: str) -> None:
    page, verdict = pages[name], record(name, "verdict.json")
    for metric in verdict["metrics"]:
        for side in ("baseline", "candidate"):
            assert f"{100 * metric[side]:.1f} %".replace("100.0", "100") in page.of["verdict"]
        assert f"{100 * metric['difference']:+.1f}".replace("-", "−") in page.of["verdict"]
    seconds = [json.loads(line) for line in (FIXTURES / name / "seconds.jsonl").read_text().splitlines()]
    total = round(sum(s["seconds"] for s in seconds))
    assert f"{total // 60} min {total % 60} s" in page.of["facts"]
    for stage in seconds:
        assert stage["stage"] in page.of["train"]
    for digest in (verdict["digest"], verdict["policy_digest"], record(name, "dataset.json")["digest"]):
        assert digest in page.of["provenance"]


@pytest.mark.parametrize("name", ["promoted", "rollback"])
def test_traffic_is_that_of_the_rollout(pages: dict[str, Page], name: str) -> None:
    page, rollout = pages[name], record(name, "rollout.json")
    requests = sum(sum(step["requests"].values()) for step in rollout["steps"])
    errors = sum(sum(step["errors"].values()) for step in rollout["steps"])
    assert f"Live requests {requests}" in " ".join(page.of["facts"].split())
    assert f"Errors {errors}" in " ".join(page.of["facts"].split())
    for step in rollout["steps"]:
        assert f"{step['requests']['blue']} / {step['requests']['green']}" in page.of["traffic"]
        assert f"{step['errors']['blue']} / {step['errors']['green']}" in page.of["traffic"]
        assert step["reason"] in page.of["traffic"]


def test_refused_candidate_has_no_traffic_to_show(pages: dict[str, Page]) -> None:
    page = pages["refused"]
    assert "There was no rollout" in page.of["traffic"]
    assert "rollout" in page.of["never"] and "not reached" in page.of["never"]
    assert "no rollout on record" in page.of["facts"]


def test_worst_examples_come_first_and_are_real(pages: dict[str, Page]) -> None:
    rows = {
        side: {
            row["prompt_id"]: row["metrics"]["exact_match"]
            for row in map(json.loads, (FIXTURES / "refused/scores" / f"{side}.jsonl").read_text().splitlines())
        }
        for side in ("stable-few-shot", "candidate")
    }
    worse = {p for p, score in rows["candidate"].items() if score < rows["stable-few-shot"][p]}
    shown = re.findall(r"(worse|better) (h-\d+)", " ".join(pages["refused"].of["flip"].split()))
    assert len(shown) == 10
    assert {kind for kind, _ in shown} == {"worse"}
    assert {prompt for _, prompt in shown} <= worse
    kinds = [kind for kind, _ in re.findall(r"(worse|better) (h-\d+)", " ".join(pages["promoted"].of["flip"].split()))]
    assert kinds == sorted(kinds, reverse=True) and set(kinds) == {"worse", "better"}


@pytest.mark.parametrize("name", SCENARIOS)
def test_nothing_runs_and_nothing_is_fetched(pages: dict[str, Page], name: str) -> None:
    page = pages[name]
    assert page.tags["script"] == page.tags["iframe"] == page.tags["img"] == page.tags["link"] == 0
    assert page.tags["style"] == page.tags["html"] == page.tags["h1"] == 1
    assert page.unbalanced == [] and page.open == []
    assert not re.search(r"https?:|//\w|@import|javascript:", page.html)
    for tag, attrs in page.elements:
        assert not [key for key in attrs if key.startswith("on")]
        for key in ("src", "href", "xlink:href"):
            assert (attrs.get(key) or "#").startswith("#"), tag


def test_a_hostile_ticket_is_shown_as_text(pages: dict[str, Page]) -> None:
    page = pages["rollback"]  # one of its ten examples is a ticket with markup in it
    assert "<script>alert('ticket')</script>" in page.of["blockquote"]
    assert "</style>" in page.of["blockquote"]
    assert "<script" not in page.html.lower()
    assert "I'd be <i>happy</i>" in page.of["flip"]


@pytest.mark.parametrize("name", SCENARIOS)
def test_no_number_is_invented(pages: dict[str, Page], name: str) -> None:
    assert not re.search(r"\b(nan|none|null%|undefined|inf)\b", pages[name].text, re.IGNORECASE)


@pytest.mark.parametrize("name", SCENARIOS)
def test_the_page_can_be_heard_and_zoomed(pages: dict[str, Page], name: str) -> None:
    page = pages[name]
    assert ("html", {"lang": "en"}) in page.elements
    assert any(attrs.get("name") == "viewport" for _, attrs in page.elements)
    drawings = [attrs for tag, attrs in page.elements if tag == "svg"]
    assert drawings and all(d.get("role") == "img" and len(d.get("aria-label") or "") > 20 for d in drawings)
    assert all(attrs.get("scope") in ("col", "row") for tag, attrs in page.elements if tag == "th")
    assert page.tags["thead"] == page.tags["table"]
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch(r"h[1-6]", tag)]
    assert all(after <= before + 1 for before, after in pairwise(levels))
    ids = Counter(attrs["id"] for _, attrs in page.elements if "id" in attrs)
    assert [name for name, n in ids.items() if n > 1] == []
    for reference in re.findall(r'(?:href="#|url\(#)([^")]+)', page.html):
        assert reference in ids


def test_text_has_contrast_in_both_schemes(pages: dict[str, Page]) -> None:
    def luminance(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    schemes = re.findall(r":root \{(.*?)\}", pages["promoted"].html, re.DOTALL)
    assert len(schemes) == 2
    for scheme in schemes:
        colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", scheme))
        pairs = [(text, "paper") for text in ("ink", "muted", "blue", "green", "bad", "warn")]
        pairs += [("ink", f"{tone}-tint") for tone in ("good", "bad", "warn", "info")]
        pairs += [("ink", "page"), ("muted", "page"), ("ink", "soft")]
        for front, back in pairs:
            light, dark = sorted((luminance(colours[front]), luminance(colours[back])), reverse=True)
            assert (light + 0.05) / (dark + 0.05) >= 4.5, (front, back)


def test_the_same_records_give_the_same_bytes(tmp_path: Path) -> None:
    program = "import sys; from pathlib import Path; from scripts.report import build; build(*map(Path, sys.argv[1:]))"
    for seed in ("1", "2"):
        command = [sys.executable, "-c", program, str(FIXTURES / "promoted"), str(tmp_path / seed)]
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        subprocess.run(command, check=True, env=environment, cwd=Path(__file__).parents[2])
    assert (tmp_path / "1/index.html").read_bytes() == (tmp_path / "2/index.html").read_bytes()


def test_out_may_be_a_file_or_a_folder(tmp_path: Path) -> None:
    assert build(FIXTURES / "refused", tmp_path / "report" / "index.html") == tmp_path / "report" / "index.html"
    assert build(FIXTURES / "refused", tmp_path / "folder") == tmp_path / "folder" / "index.html"


@pytest.mark.slow
@pytest.mark.parametrize("width", [360, 420, 800, 1200])
def test_nothing_is_wider_than_the_window(tmp_path: Path, width: int) -> None:
    browser = find()
    build(FIXTURES / "rollback", tmp_path)
    (tmp_path / "frame.html").write_text(
        f'<iframe id="f" src="index.html" style="width:{width}px;height:900px;border:0" onload="'
        "const d=this.contentDocument.documentElement;document.title=d.scrollWidth+'/'+d.clientWidth\"></iframe>"
    )
    flags = [*FLAGS, "--allow-file-access-from-files", f"--user-data-dir={tmp_path / 'profile'}"]
    flags += ["--window-size=1400,1000", "--dump-dom"]
    page = (tmp_path / "frame.html").as_uri()
    done = subprocess.run([browser, *flags, page], capture_output=True, text=True, timeout=120, check=False)
    measured = re.search(r"<title>(\d+)/(\d+)</title>", done.stdout)
    assert measured, done.stdout[-500:] + done.stderr[-500:]
    assert int(measured.group(1)) <= int(measured.group(2)) <= width
