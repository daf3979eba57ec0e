"""A train may stop anywhere and leave anything: the page tells it, never fails, and never calls it a success."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scripts.errors import InvalidInput
from scripts.report import build
from scripts.report.load import Records, load
from scripts.report.models import Record, Rollout, Verdict
from scripts.report.page import render
from scripts.report.story import final_traffic, tell

FIXTURES = Path(__file__).parent / "fixtures" / "report"
DOCUMENTS = ("dataset", "training", "model", "deployment-stable", "deployment-candidate", "verdict", "rollout")
GARBAGE = {
    "half a document": b'{"schema_version": 1,',
    "another type": b"[]",
    "nothing": b"",
    "not text": b"\xff\xfe\x00",
    "wrong fields": b'{"outcome": 7, "metrics": 3, "checks": 1, "steps": "x", "smoke": 4, "lineage": 2}',
    "deep": b"[" * 100_000,
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(FIXTURES / "promoted", tmp_path / "records"))


def headline(html: str) -> str:
    found = re.search(r"<h1>(.*?)</h1>", html)
    assert found
    return found.group(1)


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_missing_record_is_no_error(folder: Path, name: str) -> None:
    (folder / f"{name}.json").unlink()
    html = render(load(folder))
    expected = {
        "verdict": "Released without a passing verdict",
        "rollout": "Outcome unknown: the rollout left no record",
    }
    assert headline(html).startswith(expected.get(name, "Released: green serves 100 %"))


def test_a_rollout_without_a_record_may_have_moved_traffic(folder: Path) -> None:
    (folder / "rollout.json").unlink()
    found = load(folder)
    html = render(found)
    assert final_traffic(found) == {}
    assert "There was no rollout" not in html and "Serving now" not in html
    (folder / "seconds.jsonl").unlink()  # nothing says any more that a rollout ran
    assert final_traffic(load(folder)) == {"blue": 100, "green": 0}
    assert tell(load(folder)).headline == "Passed at the gate, not rolled out"


@pytest.mark.parametrize("garbage", GARBAGE.values(), ids=GARBAGE.keys())
def test_broken_records_are_named_and_are_never_success(folder: Path, garbage: bytes) -> None:
    for name in DOCUMENTS:
        (folder / f"{name}.json").write_bytes(garbage)
    for path in [*folder.glob("scores/*.jsonl"), folder / "seconds.jsonl"]:
        path.write_bytes(garbage or b"\n")
    found = load(folder)
    html = render(found)
    assert headline(html).startswith("Outcome unknown")
    assert 'id="notices"' in html and "rollout.json cannot be used" in html
    assert found.verdict is None and found.rollout is None and found.scores == ()


def test_numbers_that_are_none_are_left_out(folder: Path) -> None:
    text = (folder / "training.json").read_text()
    (folder / "training.json").write_text(re.sub(r'"(loss|eval_loss|tokens_per_second)": [\d.]+', r'"\1": NaN', text))
    html = render(load(folder))
    assert not re.search(r"\bnan\b", html, re.IGNORECASE)
    assert "No loss curve is on record." in html


def test_a_score_table_with_a_broken_line_is_left_out_whole(folder: Path) -> None:
    path = folder / "scores" / "candidate.jsonl"
    path.write_text(path.read_text() + "{broken\n")
    found = load(folder)
    assert [t.name for t in found.scores] == ["stable", "stable-few-shot"]
    assert any("candidate.jsonl, line" in problem for problem in found.problems)
    assert '<th scope="row">Candidate</th>' not in render(found)


def test_nothing_at_all(tmp_path: Path) -> None:
    html = build(tmp_path, tmp_path / "report").read_text()
    assert headline(html) == "Nothing to report: no records"
    with pytest.raises(InvalidInput, match="no folder of records"):
        build(tmp_path / "absent", tmp_path / "report")


def test_an_edited_verdict_is_not_believed(folder: Path) -> None:
    for name in ("rollout.json", "seconds.jsonl"):
        (folder / name).unlink()
    edit(folder / "verdict.json", reason="better in every way")
    found = load(folder)
    assert found.verdict is None
    assert tell(found).headline == "Outcome unknown: the verdict cannot be used"


def test_promoted_needs_the_traffic_read_back(folder: Path) -> None:
    rollout = json.loads((folder / "rollout.json").read_text())
    rollout["steps"][-1]["traffic_read_back"] = {"blue": 50, "green": 50}
    edit(folder / "rollout.json", steps=rollout["steps"])
    story = tell(load(folder))
    assert story.tone == "warn" and "not seen to serve 100 %" in story.headline
    edit(folder / "rollout.json", steps=[])
    assert tell(load(folder)).tone == "warn"


def test_rolled_back_needs_the_last_write(folder: Path) -> None:
    edit(folder / "rollout.json", state="ROLLED_BACK", writes=[])
    assert tell(load(folder)).headline == "Rolled back, but blue is not seen to serve 100 %"
    edit(folder / "rollout.json", state="ROLLBACK_STUCK")
    assert tell(load(folder)).headline.startswith("Rollback is stuck")


@pytest.mark.parametrize(
    ("outcome", "bound", "start"),
    [
        ("fail", True, "Refused at the gate"),
        ("inconclusive", True, "Undecided at the gate"),
        ("invalid", True, "No decision at the gate"),
        ("pass", False, "Passed at the gate, but the verdict names no model"),
        ("pass", True, "Passed at the gate, not rolled out"),
    ],
)
def test_without_a_rollout_the_verdict_speaks(outcome: str, bound: bool, start: str) -> None:
    verdict = Verdict.model_validate({"outcome": outcome, "bound": bound, "reason": "because"})
    story = tell(Records(verdict=verdict))
    assert story.headline.startswith(start)
    assert story.why == "Because."
    assert story.tone != "good"


def test_training_and_data_can_stop_the_train(folder: Path) -> None:
    for name in ("verdict", "rollout", "model", "deployment-candidate"):
        (folder / f"{name}.json").unlink()
    (folder / "seconds.jsonl").write_text('{"stage": "train", "seconds": 9}\n')
    assert tell(load(folder)).headline == "Stopped before the gate"
    edit(folder / "training.json", status="Failed")
    assert tell(load(folder)).headline == "Stopped at training: the job is Failed"
    (folder / "training.json").unlink()
    check = {"code": "personal_data", "severity": "error", "count": 2, "message": "2 rows hold a card number"}
    edit(folder / "dataset.json", checks=[check])
    story = tell(load(folder))
    assert story.headline == "Stopped at the data checks" and story.why == "2 rows hold a card number."


def test_records_that_do_not_belong_together_are_named(folder: Path) -> None:
    edit(folder / "deployment-candidate.json", model_digest="f" * 64)
    shutil.copy(FIXTURES / "refused/scores/candidate.jsonl", folder / "scores/candidate.jsonl")
    html = render(load(folder))
    assert "The records do not agree on the candidate" in html
    assert "not the candidate&#39;s scores that the verdict judged" in html


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


def _keys(kind: type[Record]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional=dict.fromkeys(kind.model_fields, JSON))


@settings(max_examples=150, deadline=None)
@given(verdict=_keys(Verdict) | JSON, rollout=_keys(Rollout) | JSON)
def test_any_json_is_read_and_never_a_release(
    tmp_path_factory: pytest.TempPathFactory, verdict: Any, rollout: Any
) -> None:
    folder = tmp_path_factory.mktemp("any")
    (folder / "verdict.json").write_text(json.dumps(verdict))
    (folder / "rollout.json").write_text(json.dumps(rollout))
    assert tell(load(folder)).tone != "good"


@settings(max_examples=8, deadline=None)
@given(words=st.text(alphabet=st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30))
def test_any_words_are_shown_as_words(words: str) -> None:
    hostile = f"<img src=x onerror=y>$\\frac{{1}}{words}"
    metric = {
        "name": hostile,
        "baseline": 0.1,
        "candidate": 0.5,
        "difference": 0.4,
        "interval": [0.2, 0.6],
        "margin": 0.05,
    }
    cut = {**metric, "tag": hostile, "value": words}
    verdict = Verdict.model_validate({"outcome": "pass", "reason": hostile, "metrics": [metric], "slices": [cut]})
    steps = [{"weight": 10, "requests": {hostile: 3, words: 4}, "errors": {}, "decision": words, "reason": hostile}]
    rollout = Rollout.model_validate({"stable": hostile, "candidate": words, "state": "PROMOTED", "steps": steps})
    html = render(Records(verdict=verdict, rollout=rollout))
    assert "<img" not in html and html.count("<svg") == html.count("</svg>") > 0
