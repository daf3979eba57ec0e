"""Colours swap with every release and a first release has no live model: the page, the terminal and the summary follow
the roles, and never a colour that they know by heart."""

from __future__ import annotations

import io
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from scripts.report import roles, summary, svg
from scripts.report.facts import facts
from scripts.report.load import Records, load
from scripts.report.markdown import markdown
from scripts.report.models import Deployment, Live, Rollout, Verdict
from scripts.report.page import render, view
from scripts.report.provenance import mismatches
from scripts.report.stages import strip
from scripts.report.story import tell
from scripts.report.terminal import terminal_summary

FIXTURES = Path(__file__).parent / "fixtures" / "report"


@pytest.fixture(params=["swapped", "first"])
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def copied(name: str, to: Path) -> Path:
    return Path(shutil.copytree(FIXTURES / name, to / name))


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def printed(folder: Path) -> str:
    out = io.StringIO()
    terminal_summary(folder, Console(file=out, width=120))
    return out.getvalue()


def drawing(html: str, ident: str) -> str:
    found = re.search(rf'<svg (?:(?!</svg>).)*id="{ident}-wide-.*?</svg>', html, re.DOTALL)
    assert found
    return found.group(0)


@pytest.mark.parametrize(
    ("name", "stable", "candidate", "first"),
    [
        ("promoted", "blue", "green", False),
        ("refused", "blue", "green", False),
        ("swapped", "green", "blue", False),
        ("first", "", "blue", True),
    ],
)
def test_who_plays_which_part(name: str, stable: str, candidate: str, first: bool) -> None:
    found = load(FIXTURES / name)
    assert (roles.stable(found), roles.candidate(found), roles.first_release(found)) == (stable, candidate, first)
    assert found.problems == () and mismatches(found) == []


def test_the_parts_are_known_before_the_rollout(tmp_path: Path, name: str) -> None:
    folder = copied(name, tmp_path)
    (folder / "rollout.json").unlink()
    found = load(folder)
    assert (roles.stable(found), roles.candidate(found)) == ({"swapped": "green", "first": ""}[name], "blue")
    assert roles.first_release(found) is (name == "first")
    assert "`python -m scripts rollout run --candidate blue`" in tell(found).next
    assert summary(folder, "release")["traffic"] == {"swapped": {"green": 100, "blue": 0}, "first": {"blue": 0}}[name]


def test_swapped_is_told_by_role_everywhere(tmp_path: Path) -> None:
    folder = copied("swapped", tmp_path)
    html, terminal = render(load(folder)), printed(folder)
    for words in ("Released: blue serves 100 %", "rollback --to green"):
        assert words in html and words in terminal
    assert [fact.value for fact in facts(load(folder)) if fact.label == "Rollback goes to"] == ["green"]
    assert "Live model, zero-shot" in html and '<th scope="row">Candidate</th>' in html
    assert "Requests<br>green / blue" in html and "Requests green / blue" in terminal
    said = summary(folder, "release")
    assert said["traffic"] == {"green": 0, "blue": 100}
    assert said["writes"] == [{"green": 100 - weight, "blue": weight} for weight in (10, 50, 100)]
    judged = load(folder).verdict
    assert judged and said["exact_match"]["baseline"] == judged.metrics[0].baseline


def test_traffic_is_drawn_in_the_colours_of_the_deployments() -> None:
    """The candidate's area is the opaque one, so its colour alone tells whose the weights are."""
    for name, colour in (("promoted", "green"), ("swapped", "blue"), ("first", "blue")):
        weights = drawing(render(load(FIXTURES / name)), "weights")
        assert re.findall(r"fill: var\(--(\w+)\)[^\"]*opacity: 0\.85", weights) == [colour]
        beside = re.findall(r"fill: var\(--(\w+)\)[^\"]*opacity: 0\.2\b", weights)
        assert beside == {"promoted": ["blue"], "swapped": ["green"], "first": []}[name]


def test_a_first_release_has_no_other_side(tmp_path: Path) -> None:
    folder = copied("first", tmp_path)
    found = load(folder)
    html, terminal, said = render(found), printed(folder), summary(folder, "release")
    assert tell(found).headline == "Released: blue serves 100 %" and tell(found).tone == "good"
    for text in (html, terminal):
        assert "no earlier model to go back to" in text and "rollback --to" not in text
        assert "Live model" not in re.sub(r"(?s)<style>.*?</style>", "", text)
    assert said["exact_match"]["baseline"] is None and said["exact_match"]["candidate"] > 0.9
    assert said["traffic"] == {"blue": 100} and said["writes"] == [{"blue": 100}]
    fact = facts(found)[0]
    assert fact.value == "95.8 %" and "first release" in fact.detail
    assert view(found)["metrics"][0]["interval"] == "82.8 % to 99.1 %"


def test_what_is_missing_does_not_make_a_first_release(tmp_path: Path) -> None:
    folder = copied("promoted", tmp_path)
    for path in [folder / "deployment-stable.json", *folder.glob("scores/stable*"), folder / "rollout.json"]:
        path.unlink()
    (folder / "seconds.jsonl").unlink()
    found = load(folder)
    assert roles.stable(found) == "" and not roles.first_release(found)
    assert not roles.first_release(Records())
    assert facts(found)[-1].detail == "no live deployment on record"


def test_a_verdict_on_the_candidate_alone_beside_a_live_model_is_named(tmp_path: Path) -> None:
    folder = copied("swapped", tmp_path)
    shutil.copy(FIXTURES / "first" / "verdict.json", folder / "verdict.json")
    found = load(folder)
    assert not roles.first_release(found)
    assert any("compares the candidate with nothing" in words for words in mismatches(found))


def test_records_that_swap_the_colours_are_named(tmp_path: Path) -> None:
    for name, file in (("swapped", "deployment-candidate.json"), ("promoted", "deployment-stable.json")):
        folder = copied(name, tmp_path)
        edit(folder / file, deployment="green")
        words = "live model's colour: rollout.json has blue" if name == "promoted" else "candidate's colour"
        assert any(words in each for each in mismatches(load(folder))), name
    edit(tmp_path / "swapped" / "live.json", stable="blue")
    assert any("live.json has blue" in each for each in mismatches(load(tmp_path / "swapped")))


@pytest.mark.parametrize(
    ("state", "last", "headline"),
    [
        ("ROLLED_BACK", [{"traffic": {"blue": 100}}, {"traffic": {}}], "First release taken back: no model serves"),
        ("ROLLED_BACK", [{"traffic": {"blue": 100}}], "First release not taken back: blue may still serve"),
        ("ROLLED_BACK", [], "First release not taken back: blue may still serve"),
        ("ROLLBACK_STUCK", [{"traffic": {}}], "First release not taken back: blue may still serve"),
    ],
)
def test_a_first_release_taken_back(state: str, last: list[Any], headline: str) -> None:
    rollout = Rollout.model_validate({"stable": "", "candidate": "blue", "state": state, "writes": last})
    story = tell(Records(rollout=rollout))
    assert story.headline == headline and story.tone == "bad" and "--to" not in story.next
    assert headline in markdown(Records(rollout=rollout), "index.html")


def test_a_rollout_that_does_not_say_who_was_live_is_no_record(tmp_path: Path) -> None:
    (tmp_path / "rollout.json").write_text('{"candidate": "blue", "state": "PROMOTED"}')
    assert load(tmp_path).rollout is None


@pytest.mark.parametrize("outcome", ["pass", "fail"])
def test_a_first_release_that_served_before_it_was_judged(outcome: str) -> None:
    deployed = Deployment(deployment="blue", weight=100)
    verdict = Verdict.model_validate({"outcome": outcome, "bound": True, "reason": "because"})
    story = tell(Records(live=Live(stable=""), candidate=deployed, verdict=verdict))
    assert "blue has had all traffic since it was deployed" in story.next
    assert "traffic is as it was" not in story.next and story.tone == {"pass": "info", "fail": "bad"}[outcome]


def test_a_train_that_deploys_no_live_model_is_whole(name: str) -> None:
    stages = {stage.name: stage.note for stage in strip(load(FIXTURES / name))}
    assert list(stages) == ["data", "train", "register", "deploy candidate", "evaluate candidate", "gate", "rollout"]
    assert set(stages.values()) == {"done", "passed", "promoted"}


def test_an_evaluation_that_left_no_table_is_not_done(tmp_path: Path) -> None:
    folder = copied("promoted", tmp_path)
    (folder / "scores/stable.jsonl").unlink()
    (folder / "scores/candidate.jsonl").unlink()
    notes = {stage.name: stage.note for stage in strip(load(folder))}
    assert notes["evaluate stable"] == notes["evaluate candidate"] == "left no record"
    assert notes["evaluate stable, few-shot"] == "done"


NAMES = st.sampled_from(["", "blue", "green", "other", "third"])


@given(stable=NAMES, candidate=NAMES)
def test_two_deployments_are_never_drawn_alike(stable: str, candidate: str) -> None:
    drawn = svg.drawn(stable, candidate)
    assert set(drawn) == {svg.BLUE, svg.GREEN}
    assert drawn[1] == svg.DEPLOYED.get(candidate, drawn[1])
    if candidate != stable:
        assert drawn[0] == svg.DEPLOYED.get(stable, drawn[0])
