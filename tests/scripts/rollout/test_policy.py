"""The rollout policy is checked when it is read, in one sentence."""

from pathlib import Path

import pytest
import yaml

from scripts.errors import InvalidInput
from scripts.rollout import policy as policies

GOOD = yaml.safe_load(policies.DEFAULT.read_text())


@pytest.mark.parametrize("steps", [[], [50], [10, 10, 100], [50, 10, 100], [0, 100], [10, 50, 99]])
def test_steps_must_rise_to_100(tmp_path: Path, steps: list[int]) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text(yaml.safe_dump({**GOOD, "steps": steps}))
    with pytest.raises(InvalidInput, match="steps"):
        policies.load(path)


def test_an_unknown_key_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text(yaml.safe_dump({**GOOD, "stepz": [100]}))
    with pytest.raises(InvalidInput, match="stepz"):
        policies.load(path)


@pytest.mark.parametrize("text", ["", "{", "- 1"])
def test_what_is_not_a_policy_is_one_sentence(tmp_path: Path, text: str) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text(text)
    with pytest.raises(InvalidInput, match=r"policy\.yaml"):
        policies.load(path)


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"shadow": {"percent": 51, "minutes": 1}}, "shadow.percent"),
        ({"probes": {**GOOD["probes"], "max_pairs": 401}}, "probes.max_pairs"),
        ({"harm": {**GOOD["harm"], "alpha": 0.0}}, "harm.alpha"),
        ({"harm": {**GOOD["harm"], "signals": {}}}, "harm.signals"),
        ({"harm": {**GOOD["harm"], "signals": {"error": 0.5, "slow": 0.4}}}, "add up to 1"),
        ({"harm": {**GOOD["harm"], "signals": {"mood": 1.0}}}, "harm.signals"),
        ({"bake": {**GOOD["bake"], "minutes": 500}}, "max_minutes"),
        ({"bad_below": 1.0}, "bad_below"),
        ({"safety": {**GOOD["safety"], "critical": "low"}}, "critical must not be below block"),
        ({"safety": {**GOOD["safety"], "block": "severe"}}, "safety.block"),
        ({"safety": {**GOOD["safety"], "pairs_per_look": 0}}, "harm.signals has safety"),
        ({"safety": {**GOOD["safety"], "min_answers": 401}}, "safety.min_answers"),
        ({"retention_hours": -1}, "retention_hours"),
    ],
)
def test_numbers_that_cannot_work_name_their_key(tmp_path: Path, change: dict[str, object], where: str) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text(yaml.safe_dump({**GOOD, **change}))
    with pytest.raises(InvalidInput, match=where):
        policies.load(path)


def test_both_policies_that_come_with_it_are_read_and_differ_in_their_digests() -> None:
    assert policies.load(policies.LOCAL).digest != policies.load().digest
