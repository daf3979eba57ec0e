"""Collected rows in the workspace's own storage, in the data collector's layout: drift, feedback, what is missing."""

import json
import sys
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from data.errors import DataError
from data.prepare import prepare
from data.report import check
from data.rules import CHATS, load_rules
from data.sources import File, Sources
from data.tokens import Encoding
from eval.errors import EvalError
from eval.scores import ScoreRow, scores_digest, write_scores
from eval.summary import RunSummary, beside
from eval.verdict import MetricResult, invalid_verdict
from scripts import records, storage
from scripts.errors import InvalidInput, Refused
from scripts.operate import drift_facts, feedback, fresh, judge, judged, windows
from scripts.operate.drift import Signal
from scripts.operate.facts import Fresh, Live
from scripts.operate.policy import RETRAIN, JudgeSample, Retrain, load
from tests.eval.judge_server import judge_server

from .conftest import ROOT, Azure

pytestmark = pytest.mark.slow
sys.path.append(str(ROOT / "serving"))
SINCE, NOW = datetime(2026, 3, 3, 15, tzinfo=UTC), datetime(2026, 4, 8, 4, 23, tzinfo=UTC)
FIRST, WEEK = datetime(2026, 3, 4, tzinfo=UTC), datetime(2026, 3, 30, tzinfo=UTC)
LIVE = Live("ticket-triage:1", "a" * 64, 1000, SINCE, "train-1", "1" * 64, "blue", SINCE)
ROWS = 60
LIMITS = load(Retrain, RETRAIN).drift.model_copy(update={"min_rows": 5 * ROWS, "permutations": 999})


def keep(azure: Azure, name: str, at: datetime, rows: list[dict[str, Any]], colour: str = "blue") -> None:
    event = {"specversion": "1.0", "time": f"{at:%Y-%m-%dT%H:%M:%SZ}", "data": rows}
    place = f"modelDataCollector/{azure.settings.endpoint}/{colour}/{name}/{at:%Y/%m/%d/%H}/{uuid.uuid4().hex}.jsonl"
    storage.container(azure.settings).upload_blob(place, json.dumps(event).encode() + b"\n")


def requests(texts: list[str], model: str = "ticket-triage:1") -> list[dict[str, Any]]:
    """Rows as the scoring code makes them, of these prompts."""
    from describe import language, sketch

    return [
        {
            "id": uuid.uuid4().hex,
            "model": model,
            "prompt_characters": len(text),
            "prompt_tokens": len(text) // 4,
            "rare_share": 0.1,
            "language": language(text),
            "sketch": sketch(text),
            "answer_characters": 60,
            "answer_tokens": 20 + len(text) % 7,
            "finish_reason": "stop",
            "valid": at % 20 != 0,
            "refused": False,
        }
        for at, text in enumerate(texts)
    ]


def tickets() -> list[str]:
    lines = (ROOT / "data/tickets.jsonl").read_text().splitlines()
    return [m["content"] for line in lines for m in json.loads(line)["messages"] if m["role"] == "user"]


def test_a_week_is_held_against_the_first_days(azure: Azure) -> None:
    def look(now: datetime = NOW, live: Live = LIVE) -> Any:
        return drift_facts.look(azure.settings, live, LIMITS, now)

    texts = tickets()
    assert "0 rows were collected from 2026-03-30 to 2026-04-05" in look().why_none
    for day in range(7):
        # Every seventh ticket: both weeks have the same mixture.
        keep(azure, "statistics", FIRST + timedelta(days=day, hours=9), requests(texts[day::14][:ROWS]))
        keep(azure, "statistics", WEEK + timedelta(days=day, hours=9), requests(texts[day + 7 :: 14][:ROWS]))
    # Of another model on the same colour, before the promotion, and on the other colour: nobody's business here.
    strange = ["Schreib mir bitte ein Gedicht und nicht mehr als das"] * 400
    keep(azure, "statistics", WEEK + timedelta(hours=3), requests(strange, "ticket-triage:0"))
    keep(azure, "statistics", SINCE - timedelta(hours=3), requests(strange))
    keep(azure, "statistics", WEEK + timedelta(hours=3), requests(strange), colour="green")
    same = look()
    assert (same.period, same.why_none) == ("2026-W14", "")
    assert not any(signal.drifted for signal in same.signals), same
    assert look(NOW + timedelta(days=4)) == same, "a second look in the same period sees the same"

    following = WEEK + timedelta(days=7)
    for day in range(7):
        keep(azure, "statistics", following + timedelta(days=day), requests([*strange[:30], *texts[day::30][:30]]))
    changed = look(NOW + timedelta(days=7))
    assert {"topics", "language"} <= {signal.name for signal in changed.signals if signal.drifted}
    # And nothing is made of what is too young, too old, or nobody's.
    assert "are not over" in look(SINCE + timedelta(days=3)).why_none
    assert "stale" not in changed.why_none
    keep(azure, "statistics", WEEK + timedelta(days=14), requests(texts[: 5 * ROWS]))
    assert "stale" in look(NOW + timedelta(days=14)).why_none
    assert "0 rows" in look(live=Live("ticket-triage:9", deployment="blue", since=SINCE)).why_none


def test_a_thumbs_down_becomes_a_row_to_label_and_not_one_to_train_on(azure: Azure, tmp_path: Path) -> None:
    out, now = tmp_path / "review.jsonl", records.now() - timedelta(hours=1)
    asked = [{"role": "system", "content": "Triage."}, {"role": "user", "content": "My [number] is broken, help me"}]
    names = [uuid.uuid4().hex for _ in range(3)]
    assert feedback.take(azure.settings, 30, out, records.now()).down == 0
    for name in names:
        keep(azure, "feedback", now, [{"id": name, "rating": "down", "model": "m:1"}], colour="green")
    with pytest.raises(Refused, match=r"serving\.collect\.content"):
        feedback.take(azure.settings, 30, out, records.now())
    assert not out.exists()

    keep(azure, "content", now, [{"id": name, "messages": asked, "answer": f"no {name}"} for name in names[:2]])
    keep(azure, "feedback", now + timedelta(minutes=1), [{"id": names[1], "rating": "up"}])  # thought better of it
    ran = azure.command("data", "feedback", "--out", str(out), "--record", str(tmp_path / "feedback.json"))
    assert (ran.code, ran.outputs) == (0, {"review_rows": "1"})
    (row,) = map(json.loads, out.read_text().splitlines())
    assert (row["messages"], row["model_answer"], row["label"]) == (asked, f"no {names[0]}", None)

    assert broken(out) == {"last_turn", "no_loss"}
    with pytest.raises(DataError, match="last_turn"):
        prepare(out, ROOT / "data/heldout.jsonl", tmp_path / "data", "tickets", rules=load_rules(CHATS))
    out.write_text(json.dumps({**row, "label": "the right answer"}) + "\n")
    again = feedback.take(azure.settings, 30, out, records.now())
    assert (again.found, again.added) == (1, 0), "labels stay"
    assert not broken(out)


def broken(file: Path) -> set[str]:
    """The checks of severity error that `data check` finds broken."""
    sources = Sources(name="review", rules=CHATS, train=File(file=file))
    done = check(sources, load_rules(CHATS), Encoding())
    return {each.code for each in done.checks if each.severity == "error" and each.count}


def table(folder: Path, right: int, **changes: Any) -> Path:
    """A score table of the live model on 120 fresh rows, and its summary."""
    path = folder / "fresh.jsonl"
    rows = [
        ScoreRow(prompt_id=f"p{n}", cluster_id=f"c{n}", status="ok", metrics={"exact_match": float(n < right)})
        for n in range(119)
    ]
    rows.append(ScoreRow(prompt_id="lost", cluster_id="lost", status="infra_error"))
    write_scores(path, rows)
    told = dict.fromkeys(("scores", "answers", "prompts_digest"), "")
    told |= {"model": LIVE.digest, "deployment": "blue", "flow_digest": "f", "judge_digest": "j", "decoding": {}}
    told |= dict.fromkeys(("few_shot", "repeats", "prompts", "rows", "model_errors", "infra_errors", "tokens"), 1)
    told |= {"metrics": {}, "latency_ms_p50": None, "seconds": 1.0, "answer_seconds": 1.0, "evaluated_at": NOW}
    summary = RunSummary(**{**told, "scores_digest": scores_digest(rows), **changes})
    beside(path).write_text(summary.model_dump_json())
    return path


def test_the_live_models_score_is_held_against_its_own_verdict(azure: Azure, tmp_path: Path) -> None:
    def look(right: int, **changes: Any) -> Fresh:
        return fresh.score(azure.settings, LIVE, table(tmp_path, right, **changes), NOW)

    assert "no verdict" in look(100).why_none
    metric = MetricResult(
        name="exact_match", kind="binary", primary=True, direction="higher", n=200, clusters=200, baseline=0.5,
        candidate=0.9, difference=0.4, interval=(0.3, 0.5), candidate_interval=(0.85, 0.94), margin=0.0, floor=None,
        more_prompts=None, outcome="pass", reason="",
    )  # fmt: skip
    verdict = invalid_verdict("made up", candidate_model=LIVE.digest, judge_digest="j", flow_digest="f")
    passed = verdict.model_copy(update={"outcome": "pass", "metrics": [metric], "alpha": 0.05, "bound": True}).sealed()
    for name, kept in (("one/two", passed), ("one/other", passed.model_copy(update={"outcome": "fail"}).sealed())):
        box = storage.container(azure.settings)
        box.upload_blob(f"verdicts/{name}/verdict.json", kept.model_dump_json().encode())
    found = look(70)
    assert (found.rows, found.then, found.then_low, found.why_none) == (119, 0.9, 0.85, "")
    assert found.now == pytest.approx(70 / 119)
    assert found.now < found.now_high < 0.75
    assert "stale" in look(70, evaluated_at=NOW - timedelta(days=15)).why_none
    assert "another model" in look(70, model="2" * 64).why_none
    assert "another way" in look(70, judge_digest="other").why_none
    assert "no summary" in look(70, scores_digest="other").why_none


JUDGE = "engine: promptflow-evals\nevaluators: {fluency: {}}\njudge: {service: openai-compatible, model: %s}\n"
JUDGED = Live("ticket-triage:7", "a" * 64, 1000, SINCE, "train-7", "7" * 64, "blue", SINCE)
SAMPLE = 35


def said(answer: str, number: int) -> dict[str, Any]:
    """A collected conversation."""
    asked = [{"role": "system", "content": "Triage."}, {"role": "user", "content": f"Where is parcel {number}?"}]
    return {"id": uuid.uuid4().hex, "model": JUDGED.model, "messages": asked, "answer": f"{answer} {number}."}


def test_a_judge_grades_both_windows_once_and_drift_reads_it(
    azure: Azure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a real server that judges by a rule, through the library that `evaluate` uses."""
    monkeypatch.setattr(judge, "AT_ONCE", 15)
    shipped = load(Retrain, RETRAIN)
    limits = shipped.drift.model_copy(update={"min_rows": 30, "permutations": 999})

    def named(model: str) -> Retrain:
        (tmp_path / f"{model}.yaml").write_text(JUDGE % model)
        sample = JudgeSample(metrics=str(tmp_path / f"{model}.yaml"), metric="fluency", rows=SAMPLE)
        return shipped.model_copy(update={"drift": limits, "judge": sample})

    def signal(policy: Retrain) -> Signal:
        found = drift_facts.look(azure.settings, JUDGED, limits, NOW, policy.judge)
        return next(each for each in found.signals if each.name == "judge_score")

    for start in (FIRST, WEEK):
        keep(azure, "statistics", start + timedelta(days=6), requests(tickets()[:60], JUDGED.model))
    policy = named("first")
    assert (signal(shipped).effect, signal(shipped).said) == (None, "no judge is named in the policy")
    with judge_server() as server:
        monkeypatch.setenv("MLOPS_JUDGE_ENDPOINT", server.url)
        with pytest.raises(Refused, match=r"`content` is off \(serving\.collect\.content"):
            judge.grade(azure.settings, JUDGED, policy, NOW)
        keep(azure, "content", FIRST + timedelta(hours=9), [said("It is on its way,", n) for n in range(20)])
        keep(azure, "content", FIRST + timedelta(hours=9), [{**said("x", 0), "model": "ticket-triage:6"}] * 40)
        few = judge.grade(azure.settings, JUDGED, policy, NOW)
        assert "20 conversations are kept" in few.why_none
        assert not server.requests, "what could say nothing is not paid for"
        keep(azure, "content", FIRST + timedelta(days=2), [said("It is on its way,", n) for n in range(20, 40)])
        keep(azure, "content", WEEK + timedelta(days=2), [said("no idea where it is,", n) for n in range(40)])

        server.reply = "I would rather not say"
        with pytest.raises(EvalError, match="gave no fluency from 1 to 5"):
            judge.grade(azure.settings, JUDGED, policy, NOW)
        assert signal(policy).effect is None
        assert "has not graded all of its sample" in signal(policy).said, "a judge that failed says nothing good"
        server.reply, before = None, len(server.requests)
        done = judge.grade(azure.settings, JUDGED, policy, NOW)
        assert [(each.kept, each.graded, each.new) for each in done.windows] == [(40, SAMPLE, SAMPLE)] * 2
        assert [each.mean for each in done.windows] == [5.0, 3.0]
        assert len(server.requests) - before == 2 * SAMPLE
        again = judge.grade(azure.settings, JUDGED, policy, NOW + timedelta(days=2))
        assert [each.new for each in again.windows] == [0, 0]
        assert len(server.requests) - before == 2 * SAMPLE, "the second look asks nothing"
    found = signal(policy)
    assert found.drifted, found
    assert found.effect == pytest.approx(1.0)
    # Of a judge that changed nothing is known, whatever the one before it said.
    assert (signal(named("second")).effect, signal(named("second")).drifted) == (None, False)

    # Half a sample is none: what a judge graded before it failed is kept, and not read.
    box, metrics = storage.container(azure.settings), judged.judge(policy.judge)[1]  # type: ignore[arg-type]
    name = judged.place(azure.settings.endpoint, JUDGED, windows.last_week(NOW)[0], metrics)
    whole = judged.read(box, name, metrics)
    assert whole
    half = whole.model_copy(update={"grades": dict(list(whole.grades.items())[:15])})
    judged.write(box, name, half)
    assert signal(policy).effect is None
    with judge_server() as server:
        monkeypatch.setenv("MLOPS_JUDGE_ENDPOINT", server.url)
        assert [each.new for each in judge.grade(azure.settings, JUDGED, policy, NOW).windows] == [0, SAMPLE - 15]
        assert len(server.requests) == SAMPLE - 15, "only what has no grade is asked for"
    assert judged.read(box, name, metrics) == whole


def test_without_a_judge_in_the_policy_the_command_says_where_to_name_one(azure: Azure, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="set `judge` in the policy"):
        judge.grade(azure.settings, JUDGED, load(Retrain, RETRAIN), NOW)
    ran = azure.command("data", "judge", "--out", str(tmp_path / "judged.json"))
    assert (ran.code, ran.outputs) == (3, {})
    assert "No judge is named" in ran.error


def test_the_shipped_settings_keep_no_text() -> None:
    from scripts.settings import Collect

    assert Collect().collections == {"statistics": True, "content": False, "feedback": True}
    for path in (ROOT / "scripts/environments").glob("*.yaml"):
        assert not yaml.safe_load(path.read_text())["serving"].get("collect", {}).get("content", False), path
