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
