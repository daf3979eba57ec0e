"""The policies of day 2 are checked when they are read, in one sentence that names the file and the key."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from scripts.errors import InvalidInput
from scripts.operate import policy as policies

KINDS: dict[Path, type[policies.Policy]] = {policies.RETRAIN: policies.Retrain, policies.REAP: policies.Reap}
NUMBERS = [
    (policies.RETRAIN, "min_new_rows"),
    (policies.RETRAIN, "min_new_share"),
    (policies.RETRAIN, "max_age_days"),
    (policies.REAP, "retention_hours"),
    (policies.REAP, "candidate_hours"),
]
WRONG = [
    *((path, key, wrong) for path, key in NUMBERS for wrong in (-1, 0, float("nan"), float("inf"), "100", None, True)),
    (policies.RETRAIN, "age_period", "week"),
    (policies.RETRAIN, "changed_data_of_unknown_size", "maybe"),
    (policies.RETRAIN, "judge", {"metrics": "eval/judge.yaml", "metric": "groundedness", "rows": 500}),
    (policies.RETRAIN, "judge", {"metrics": "eval/judge.yaml", "metric": "fluency", "rows": 20}),
    (policies.REAP, "keep_clusters", "gpu"),
    (policies.REAP, "retention_hours", 1e300),
]


@pytest.mark.parametrize("path", KINDS, ids=lambda path: path.name)
def test_what_is_shipped_is_valid(path: Path) -> None:
    policies.load(KINDS[path], path)


@pytest.mark.parametrize(("path", "key", "wrong"), WRONG)
def test_a_wrong_value_is_refused(tmp_path: Path, path: Path, key: str, wrong: Any) -> None:
    changed = tmp_path / path.name
    changed.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), key: wrong}))
    with pytest.raises(InvalidInput, match=rf"{path.name}: {key}"):
        policies.load(KINDS[path], changed)


@pytest.mark.parametrize("path", KINDS, ids=lambda path: path.name)
def test_no_key_may_be_added_or_left_out(tmp_path: Path, path: Path) -> None:
    shipped, changed = yaml.safe_load(path.read_text()), tmp_path / path.name
    for values in ({**shipped, "extra": 1}, *({k: v for k, v in shipped.items() if k != gone} for gone in shipped)):
        changed.write_text(yaml.safe_dump(values))
        with pytest.raises(InvalidInput):
            policies.load(KINDS[path], changed)


@pytest.mark.parametrize("text", [b"", b"{", b"- 1", b"\xff\xfe\x00"])
def test_what_is_not_a_policy_is_one_sentence(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "policy.yaml"
    path.write_bytes(text)
    for kind in KINDS.values():
        with pytest.raises(InvalidInput, match=r"policy\.yaml") as refused:
            policies.load(kind, path)
        assert "\n" not in str(refused.value)


def test_a_sample_that_could_say_nothing_is_refused(tmp_path: Path) -> None:
    sample = {"metrics": "eval/judge.yaml", "metric": "fluency", "rows": 499}
    changed = tmp_path / "retrain.yaml"
    changed.write_text(yaml.safe_dump({**yaml.safe_load(policies.RETRAIN.read_text()), "judge": sample}))
    with pytest.raises(InvalidInput, match=r"judge\.rows must be at least drift\.min_rows \(500\)"):
        policies.load(policies.Retrain, changed)
