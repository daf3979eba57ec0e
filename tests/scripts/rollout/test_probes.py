"""Held-out prompts put to both colours: what a pair says, and what answers are handed on to be read."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import pytest

from scripts.endpoint import Answer, Requests
from scripts.errors import InvalidInput
from scripts.rollout.probes import NOT_REACHED, Prober

EXPECTED = ["one", "two", "three"]


class Said:
    """Colours that answer every prompt alike: an HTTP status and a text, "*" for what was expected."""

    def __init__(self, **colours: tuple[int, str]) -> None:
        self.colours, self.asked = colours, cast(list[tuple[str, str]], [])

    def ask(self, body: Mapping[str, Any], deployment: str) -> tuple[Answer, str]:
        prompt = body["messages"][-1]["content"]
        self.asked.append((deployment, prompt))
        status, text = self.colours[deployment]
        return Answer(deployment, status, 1.0), prompt if text == "*" else text


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    """Each prompt is its own gold answer."""
    said = [[{"role": role, "content": text} for role in ("user", "assistant")] for text in EXPECTED]
    rows = [{"id": f"{n}", "cluster_id": f"{n}", "slices": {}, "messages": each} for n, each in enumerate(said)]
    (tmp_path / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path / "prompts.jsonl"


def prober(said: Said, prompts: Path) -> Prober:
    return Prober(cast(Requests, said), prompts, "exact_match")


def test_a_pair_is_how_much_worse_the_candidate_answered(prompts: Path) -> None:
    said = Said(blue=(200, "*"), green=(200, "four"))
    found = prober(said, prompts).pairs(3, "blue", "green")
    assert found.drops == [1.0] * 3
    assert (list(found.candidate), list(found.stable)) == (["four"] * 3, EXPECTED)
    assert sorted(said.asked) == sorted((colour, text) for colour in ("blue", "green") for text in EXPECTED)


def test_prompts_are_asked_in_turn(prompts: Path) -> None:
    said = Said(blue=(200, "*"), green=(200, "*"))
    asking = prober(said, prompts)
    for _ in range(2):
        asking.pairs(2, "blue", "green")
    assert [text for colour, text in said.asked if colour == "blue"] == ["one", "two", "three", "one"]


@pytest.mark.parametrize("status", NOT_REACHED)
def test_a_colour_that_was_not_reached_says_nothing(prompts: Path, status: int) -> None:
    found = prober(Said(blue=(200, "*"), green=(status, "")), prompts).pairs(3, "blue", "green")
    assert (found.drops, found.candidate, list(found.stable)) == ([], [], EXPECTED)


def test_a_failed_answer_is_a_bad_one_and_its_text_no_answer(prompts: Path) -> None:
    found = prober(Said(blue=(200, "*"), green=(424, "a trace")), prompts).pairs(3, "blue", "green")
    assert (found.drops, found.candidate) == ([1.0] * 3, [])


def test_in_a_first_release_the_candidate_is_asked_alone(prompts: Path) -> None:
    said = Said(green=(200, "*"))
    found = prober(said, prompts).pairs(2, "", "green")
    assert (found.drops, list(found.candidate), found.stable) == ([], ["one", "two"], [])
    assert {colour for colour, _ in said.asked} == {"green"}


def test_an_unknown_metric_is_one_sentence(prompts: Path) -> None:
    with pytest.raises(InvalidInput, match=r"probes\.metric 'mood' is not known"):
        Prober(cast(Requests, Said()), prompts, "mood")
