"""The numbers behind the page: intervals, changed answers, how figures are written, summary.json and the terminal."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from scipy.stats import binomtest

from scripts.report import summary, text
from scripts.report.load import ScoreTable, load
from scripts.report.models import AnswerRow, Comparison, ScoreRow
from scripts.report.scores import count_changes, flips, judged_baseline, mean
from scripts.report.stages import strip
from scripts.report.terminal import terminal_summary

FIXTURES = Path(__file__).parent / "fixtures" / "report"


def table(name: str, values: list[float], answers: list[str] | None = None) -> ScoreTable:
    rows = tuple(ScoreRow(prompt_id=f"p{i}", metrics={"exact_match": v}) for i, v in enumerate(values))
    said = (
        AnswerRow(
            prompt_id=f"p{i}", history=[{"role": "user", "content": "!"}], prompt="?", expected='{"a":"x"}', answer=a
        )
        for i, a in enumerate(answers or [])
    )
    return ScoreTable(name, rows, tuple(said))


@given(st.lists(st.booleans(), min_size=1, max_size=60))
def test_the_error_bars_are_wilson_intervals(hits: list[bool]) -> None:
    found = mean(table("candidate", [float(h) for h in hits]), "exact_match")
    expected = binomtest(sum(hits), len(hits)).proportion_ci(0.95, "wilson")
    assert found is not None
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-6)


def test_paraphrases_do_not_narrow_the_bars() -> None:
    alone = [ScoreRow(prompt_id=str(i), metrics={"m": i % 2}) for i in range(10)]
    twice = [
        r.model_copy(update={"prompt_id": f"{r.prompt_id}{k}", "cluster_id": r.prompt_id}) for r in alone for k in "ab"
    ]
    one, two = mean(ScoreTable("t", tuple(alone)), "m"), mean(ScoreTable("t", tuple(twice)), "m")
    assert one and two and (one.low, one.high) == (two.low, two.high)


def test_no_answer_scores_nothing_but_a_lost_request_does_not_count() -> None:
    rows = [
        ScoreRow(prompt_id="a", metrics={"m": 1.0}),
        ScoreRow(prompt_id="b", status="model_error"),
        ScoreRow(prompt_id="c", status="infra_error"),
    ]
    found = mean(ScoreTable("t", tuple(rows)), "m")
    assert found and (found.value, found.prompts) == (0.5, 2)
    assert mean(ScoreTable("t", tuple(rows)), "perplexity") is None
    assert mean(table("t", [0.5, 7.0]), "exact_match") is None


def test_losses_come_before_gains_and_each_key_is_marked() -> None:
    before = table("stable-few-shot", [1, 0, 1, 1], ['{"a":"x"}', "no", '{"a":"x"}', '{"a":"x"}'])
    after = table("candidate", [1, 1, 0, 0], ['{"a":"x"}', '{"a":"x"}', '{"a":"y","b":1}', "{"])
    assert count_changes(before, after, "exact_match") == (2, 1)
    found = flips(before, after, "exact_match")
    assert [(f.prompt_id, f.change) for f in found] == [("p2", -1), ("p3", -1), ("p1", 1)]
    assert [(p.key, p.right) for p in found[0].candidate] == [("a", False), ("b", False)]
    assert (found[0].history[0].content, found[0].prompt) == ("!", "?")
    assert found[0].baseline[0].right is True and found[0].expected[0].right is None
    assert [p.prompt_id for p in flips(before, after, "exact_match", most=1)] == ["p2"]


def test_the_baseline_is_the_one_that_the_verdict_names() -> None:
    found = judged_baseline(load(FIXTURES / "promoted"))
    assert found and found.name == "stable-few-shot"


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (text.percent(0.825), "82.5 %"),
        (text.percent(1.0), "100 %"),
        (text.percent(0.9996), "100.0 %"),
        (text.percent(None), "–"),
        (text.points(-0.0525), "−5.2"),
        (text.duration(0.04), "0.0 s"),
        (text.duration(9.96), "10 s"),
        (text.duration(59.7), "1 min 0 s"),
        (text.duration(3725), "1 h 2 min"),
        (text.number(12345.6), "12,346"),
        (text.number(0.6591), "0.659"),
        (text.traffic({"green": 100, "blue": 0}), "green 100 %"),
        (text.traffic({}), "–"),
        (text.change(Comparison(baseline=12.5, difference=-3.25), -3.25), "−3.25"),
        (text.short("sha256:" + "a" * 64), "a" * 12),
    ],
)
def test_figures_are_written_one_way(written: str, expected: str) -> None:
    assert written == expected


@pytest.mark.parametrize(
    ("name", "verdict", "traffic", "writes"),
    [
        ("promoted", "pass", {"blue": 0, "green": 100}, [10, 50, 100]),
        ("refused", "fail", {"blue": 100, "green": 0}, []),
        ("rollback", "pass", {"blue": 100, "green": 0}, [10, 50, 0]),
    ],
)
def test_summary(tmp_path: Path, name: str, verdict: str, traffic: dict[str, int], writes: list[int]) -> None:
    folder = Path(shutil.copytree(FIXTURES / name, tmp_path / name))
    said = summary(folder, name)
    assert json.loads((folder / "summary.json").read_text()) == said
    assert list(said) == ["scenario", "seconds", "exact_match", "verdict", "traffic", "writes"]
    assert (said["scenario"], said["verdict"], said["traffic"]) == (name, verdict, traffic)
    assert said["writes"] == [{"blue": 100 - weight, "green": weight} for weight in writes]
    judged = json.loads((folder / "verdict.json").read_text())["metrics"][0]
    assert said["exact_match"] == {"baseline": judged["baseline"], "candidate": judged["candidate"]}
    assert said["seconds"]["train"] == 171.3


def test_summary_of_nothing_holds_no_numbers(tmp_path: Path) -> None:
    nothing = {"baseline": None, "candidate": None}
    rest = {"seconds": {}, "exact_match": nothing, "verdict": None, "traffic": {}, "writes": []}
    assert summary(tmp_path, "refused") == {"scenario": "refused", **rest}


def test_stages_tell_how_each_ended() -> None:
    states = {s.name: (s.state, s.note) for s in strip(load(FIXTURES / "refused"))}
    assert states["gate"] == ("stopped", "refused")
    assert states["rollout"] == ("not reached", "not reached")
    assert states["train"] == states["provision"] == ("done", "done")
    assert {s.name: s.state for s in strip(load(FIXTURES / "rollback"))}["rollout"] == "stopped"


def test_a_stage_that_ran_without_its_record_is_not_done(tmp_path: Path) -> None:
    (tmp_path / "seconds.jsonl").write_text('{"stage": "train", "seconds": 3}\n')
    assert {s.name: s.note for s in strip(load(tmp_path))}["train"] == "left no record"


@pytest.mark.parametrize(
    ("name", "words"), [("promoted", "Released"), ("refused", "Refused"), ("rollback", "Rolled back")]
)
@pytest.mark.parametrize("width", [60, 120])
def test_terminal(name: str, words: str, width: int) -> None:
    out = io.StringIO()
    terminal_summary(FIXTURES / name, Console(file=out, width=width))
    assert words in out.getvalue()
    assert max(map(len, out.getvalue().splitlines())) <= width
    assert ("6 min 4 s" in out.getvalue()) is (name != "refused")
