"""The summary of a workflow's job: the verdict first, and nothing that a stranger wrote may act in it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from scripts.report.load import Records, load
from scripts.report.markdown import MARKER, markdown
from scripts.report.masked import MOST_ROWS, code, commands, masked, table
from scripts.report.models import Rollout, Verdict

FIXTURES = Path(__file__).parent / "fixtures" / "report"
ROOT = Path(__file__).parents[2]
PARSER = MarkdownIt("commonmark", {"html": True, "linkify": False}).enable(["table", "strikethrough"])
OWN_TAGS = {"<code>", "</code>", "<br>"}
HOSTILE = (
    "x | y `tick` <img src=x onerror=alert(1)> <!-- [link](http://evil.example) ![i](http://evil.example/p.png) @alice "
    "#12 **bold** ~~gone~~ www.evil.example \\| $a$ &lt; mail@evil.example\n# Heading\n| a | b |\r\n- item\u202e\u200b"
)


def told(name: str) -> str:
    return markdown(load(FIXTURES / name), "out/report/index.html")


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def tokens(text: str) -> list[Any]:
    """Every token of the Markdown as a reader's browser gets it, those inside of lines too."""
    return [each for token in PARSER.parse(text) for each in (token, *(token.children or []))]


def section(text: str, title: str) -> str:
    found = re.search(rf"^### {title}\n(.*?)(?=^###? |\Z)", text, re.MULTILINE | re.DOTALL)
    return found.group(1) if found else ""


def rows(text: str) -> list[list[str]]:
    return [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("|")][2:]


@pytest.mark.parametrize(
    ("name", "first", "ended"),
    [
        ("promoted", "Verdict: pass", "The candidate was promoted"),
        ("refused", "Verdict: refused", ""),
        ("rollback", "Verdict: pass", "Traffic was taken back"),
        ("swapped", "Verdict: pass", "The candidate was promoted"),
        ("first", "Verdict: pass", "The candidate was promoted"),
    ],
)
def test_the_verdict_comes_first(name: str, first: str, ended: str) -> None:
    text = told(name)
    lines = [line for line in text.splitlines() if line]
    assert lines[0].startswith("## ") and lines[0].endswith(first)
    assert lines[1].startswith("**Why:** Exact match ")
    assert [line.split("**")[1] for line in lines[3:5]] == ["Next:", "The whole page:"]
    assert ended in section(text, "Traffic") and bool(ended) == ("### Traffic" in text)


@pytest.mark.parametrize(
    ("outcome", "word"),
    [("pass", "pass"), ("fail", "refused"), ("inconclusive", "undecided"), ("invalid", "not valid")],
)
def test_each_outcome_has_its_word(outcome: str, word: str) -> None:
    verdict = Verdict.model_validate({"outcome": outcome, "reason": "because"})
    text = markdown(Records(verdict=verdict), "index.html")
    assert text.splitlines()[0].endswith(f"Verdict: {word}") and "Because." in text
    assert "a rollout refuses it" in text  # it is not bound


def test_no_verdict_is_said_plainly(tmp_path: Path) -> None:
    assert markdown(Records(), "x").startswith("## ⚠️ There is no verdict\n")
    folder = Path(shutil.copytree(FIXTURES / "refused", tmp_path / "records"))
    edit(folder / "verdict.json", reason="better in every way")
    text = markdown(load(folder), "x")
    assert "There is no verdict" in text and "cannot be used" in text and "pass" not in text.split("### What")[0]
    assert "verdict.json" in section(text, "What does not fit")
    edit(folder / "verdict.json", surprise=1)
    assert "its seal cannot be checked" in section(markdown(load(folder), "x"), "What does not fit")


def test_metrics_are_those_of_the_verdict() -> None:
    for name in ("promoted", "refused", "swapped", "first"):
        verdict = json.loads((FIXTURES / name / "verdict.json").read_text())
        shown = rows(section(told(name), "Metrics"))
        assert len(shown) == len(verdict["metrics"])
        for cells, metric in zip(shown, verdict["metrics"], strict=True):
            assert f"{100 * metric['candidate']:.1f} %".replace("100.0", "100") in cells
            if name == "first":
                assert len(cells) == 5
                continue
            assert f"{100 * metric['difference']:+.1f}".replace("-", "−") == cells[3]
            low, high = (f"{100 * end:+.1f}".replace("-", "−") for end in metric["interval"])
            assert cells[4] == f"{low} to {high}"


def test_slices_that_harm_are_named() -> None:
    cut = {"metric": "m", "tag": "product", "n": 40, "baseline": 0.9, "candidate": 0.5, "difference": -0.4}
    slices = [{**cut, "value": "lamp", "outcome": "harm"}, {**cut, "value": "desk", "outcome": "not powered"}]
    text = markdown(Records(verdict=Verdict.model_validate({"outcome": "fail", "slices": slices})), "x")
    assert [cells[0] for cells in rows(section(text, "Slices that get worse"))] == ["product: lamp"]
    assert "1 of 2 slices could not be decided" in text
    assert "None is shown to get worse" in told("refused")


def test_traffic_is_that_of_the_rollout() -> None:
    rollout = json.loads((FIXTURES / "rollback" / "rollout.json").read_text())
    text = section(told("rollback"), "Traffic")
    assert [cells[0] for cells in rows(text)] == ["10 %", "50 %"]
    for cells, step in zip(rows(text), rollout["steps"], strict=True):
        assert cells[3] == f"{step['errors']['blue']} / {step['errors']['green']}" and cells[-1] == step["reason"]
    assert "blue 100 %" in text.splitlines()[-2]
    lost = markdown(Records(broken=frozenset({"rollout.json"})), "x")
    assert "traffic may have moved" in section(lost, "Traffic")


def test_worst_examples_are_losses_and_at_most_five() -> None:
    for name, shown in (("refused", 5), ("swapped", 2), ("first", 0)):
        found = re.findall(r"^\| (h-\d+)<br>", told(name), re.MULTILINE)
        assert len(found) == shown, name
        both = {
            side: {row["prompt_id"]: row["metrics"]["exact_match"] for row in map(json.loads, path.open())}
            for side in ("stable-few-shot" if name == "refused" else "stable", "candidate")
            if (path := FIXTURES / name / "scores" / f"{side}.jsonl").exists()
        }
        for prompt in found:
            before, after = (table[prompt] for table in both.values())
            assert after < before


def test_a_hostile_ticket_stays_text(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(FIXTURES / "refused", tmp_path / "records"))
    for path in folder.glob("scores/*.answers.jsonl"):
        lines = [{**json.loads(line), "prompt": HOSTILE, "answer": HOSTILE} for line in path.open()]
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    text = markdown(load(folder), HOSTILE)
    plain = told("refused")
    for kind in ("heading_open", "link_open", "image", "tr_open", "list_item_open", "s_open", "strong_open"):
        assert sum(t.type == kind for t in tokens(text)) == sum(t.type == kind for t in tokens(plain)), kind
    tags = [token.content for token in tokens(text) if token.type in ("html_inline", "html_block")]
    assert set(tags) <= OWN_TAGS
    assert "evil.example" in text and "@alice" not in text and "http://" not in text and "www." not in text


WORDS = st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=60) | st.text(
    alphabet="|`<>@#*_~[]()!\\&;:/$x1 \n-=+w.", max_size=60
)


@given(WORDS)
def test_masked_words_are_words_and_read_the_same(words: str) -> None:
    safe = masked(words, most=1000)
    assert not re.search(r"(?i)[|`<>*_~$\[\]\n@#]|://|www\.", re.sub(r"&#\d+;", "§", safe))
    shown = [t for t in tokens(f"a {safe} b") if t.type not in ("paragraph_open", "paragraph_close", "inline")]
    assert {t.type for t in shown} <= {"text", "text_special", "entity"}
    seen = "".join(t.content for t in shown).replace("\u200b", "")
    expected = f"a {masked_away(words)} b"
    assert " ".join(seen.split()) == " ".join(expected.split())


def masked_away(words: str) -> str:
    """What a reader should see: the words in one line, without what no reader sees."""
    kept = "".join(c for c in words if c.isspace() or unicodedata.category(c) not in ("Cc", "Cf", "Cs"))
    return " ".join(kept.split())


@given(st.lists(st.tuples(WORDS, WORDS), max_size=5))
def test_a_row_stays_a_row(cells: list[tuple[str, str]]) -> None:
    text = "\n".join(table(["a", "b"], [(masked(left), code(right)) for left, right in cells]))
    found = tokens(text)
    assert sum(t.type == "td_open" for t in found) == 2 * len(cells)
    assert sum(t.type == "tr_open" for t in found) == 1 + len(cells)


def test_a_long_table_is_cut_and_says_so() -> None:
    assert "12 more are on the whole page." in table(["a"], [["x"]] * (MOST_ROWS + 12))


def test_a_command_is_shown_as_one() -> None:
    assert commands("Do `a | b`, now.") == "Do <code>a &#124; b</code>, now."
    assert commands("a ` b") == "a &#96; b"


@settings(max_examples=30, deadline=None)
@given(words=WORDS, state=WORDS)
def test_any_words_in_records_stay_words(words: str, state: str) -> None:
    metric = {"name": words, "baseline": 0.1, "candidate": 0.5, "difference": 0.4, "outcome": words}
    cut = {**metric, "tag": words, "value": words, "outcome": "harm"}
    guard = {"name": words, "reason": words, "outcome": words}
    verdict = Verdict.model_validate(
        {"outcome": "pass", "reason": words, "metrics": [metric], "slices": [cut], "guards": [guard]}
    )
    steps = [{"weight": 10, "requests": {words: 3}, "decision": words, "reason": words}]
    rollout = Rollout.model_validate(
        {"stable": words, "candidate": state, "state": state, "steps": steps, "writes": [{"traffic": {words: 3}}]}
    )
    text = markdown(Records(verdict=verdict, rollout=rollout, problems=(words,)), words)
    found = tokens(text)
    assert {t.content for t in found if t.type in ("html_inline", "html_block")} <= OWN_TAGS
    assert not [t for t in found if t.type in ("link_open", "image", "code_inline", "fence", "code_block", "em_open")]
    assert sum(t.type == "heading_open" for t in found) == 5
    assert sum(t.type == "table_open" for t in found) == 3


def run(folder: Path, summary: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "scripts", "report", "--records", str(folder), *options]
    environment = {"PATH": "/usr/bin:/bin", "GITHUB_STEP_SUMMARY": str(summary)}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_the_command_appends_to_the_jobs_summary(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(FIXTURES / "swapped", tmp_path / "records"))
    written = tmp_path / "summary.md"
    written.write_text("- a step before\n")
    done = run(folder, written, "--page-url", "https://pages.invalid/run/1#artifacts")
    assert done.returncode == 0, done.stderr
    text = written.read_text()
    assert text.startswith("- a step before\n\n## ✅ Verdict: pass\n")
    assert "[open it](<https://pages.invalid/run/1#artifacts>)" in text
    assert (folder / "report" / "index.html").exists() and (folder / "summary.json").exists()
    said = (folder / "report" / "comment.md").read_text()
    assert said.startswith(f"{MARKER}\n## ✅ Verdict: pass\n")
    assert "### Metrics" in said and "### Traffic" not in said


@pytest.mark.slow
def test_the_command_takes_any_subset_and_refuses_only_what_is_no_input(tmp_path: Path) -> None:
    written, folder = tmp_path / "summary.md", tmp_path / "records"
    folder.mkdir()
    assert run(folder, written).returncode == 0
    assert "There is no verdict" in written.read_text() and "index.html" in written.read_text()
    before = written.read_text()
    for options in (["--page-url", "javascript:alert(1)"], ["--page-url", "https://a.invalid/>)<b>"]):
        done = run(folder, written, *options)
        assert done.returncode == 3 and "--page-url" in done.stderr and "Traceback" not in done.stderr
    assert run(tmp_path / "absent", written).returncode == 3
    after = written.read_text()
    assert after.startswith(before)
    assert [line[:4] for line in after.removeprefix(before).splitlines()] == ["- ✗ "] * 3  # what was wrong, no report
