"""A training job is named by what goes into it, and by nothing else."""

import dataclasses
import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.manifest import Dataset
from scripts import records
from scripts.errors import InvalidInput
from scripts.train import Plan, plan

ROOT = Path(__file__).parents[2]
DATASET = json.loads((ROOT / "tests/scripts/fixtures/report/promoted/dataset.json").read_text())
DIGEST = st.text("0123456789abcdef", min_size=64, max_size=64)
PARTS = {"recipe_digest": DIGEST, "code_digest": DIGEST, "data_digest": DIGEST, "base_model_digest": DIGEST}


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    parts = {name: draw(each) for name, each in PARTS.items()}
    return Plan(recipe="cpu_demo", data_asset="azureml:tickets:1", base_model="azureml:base:1", **parts)


@given(plans(), st.sampled_from(sorted(PARTS)), DIGEST)
def test_another_part_is_another_job_and_the_same_parts_are_the_same(work: Plan, part: str, other: str) -> None:
    changed = dataclasses.replace(work, **{part: other})
    assert (changed.name == work.name) == (getattr(work, part) == other)
    assert dataclasses.replace(work, data_asset="azureml:tickets:2").name == work.name
    assert re.fullmatch(r"[a-z0-9][a-z0-9-]{0,90}", work.name)


def test_the_order_of_the_parts_counts() -> None:
    one = Plan("r", "a", "b", "c", "asset", "m", "d")
    assert one.name != Plan("r", "b", "a", "c", "asset", "m", "d").name


def test_data_that_was_never_uploaded_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    unsent = Dataset.model_validate({**DATASET, "asset": None})
    with pytest.raises(InvalidInput, match="was checked but not uploaded"):
        plan("cpu_demo", unsent, None)


@pytest.mark.slow
def test_the_plan_names_what_the_base_model_record_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    base = records.Model(name="m", version="1", id="i", digest="d" * 64, path="p", lineage=records.Lineage())
    work = plan("cpu_demo", Dataset.model_validate(DATASET), base)
    assert (work.base_model, work.base_model_digest) == ("azureml:m:1", "d" * 64)
    assert work.data_digest == DATASET["digest"]


def test_a_recipe_that_is_not_there_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    with pytest.raises(InvalidInput, match=r"^Recipe training/recipes/no_such\.yaml cannot be read"):
        plan("no_such", Dataset.model_validate(DATASET), None)
