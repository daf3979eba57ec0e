"""A training job is named by what goes into it, and by nothing else."""

import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.manifest import Dataset
from scripts import records
from scripts.errors import InvalidInput
from scripts.train import Plan, plan
from scripts.training_job import wait

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
    changed = work.model_copy(update={part: other})
    assert (changed.name == work.name) == (getattr(work, part) == other)
    assert work.model_copy(update={"data_asset": "azureml:tickets:2"}).name == work.name
    assert re.fullmatch(r"[a-z0-9][a-z0-9-]{0,90}", work.name)


def made(recipe_digest: str, code_digest: str, period: str = "") -> Plan:
    return Plan(
        recipe="r",
        recipe_digest=recipe_digest,
        code_digest=code_digest,
        data_digest="c",
        data_asset="asset",
        base_model="m",
        base_model_digest="d",
        period=period,
    )


def test_the_order_of_the_parts_counts() -> None:
    assert made("a", "b").name != made("b", "a").name


def test_a_period_makes_another_job_and_no_period_the_same_as_ever() -> None:
    names = {made("a", "b", period).name for period in ("", "2026-Q4", "2027-Q1")}
    assert len(names) == 3
    assert made("a", "b", "2026-Q4").name == made("a", "b", "2026-Q4").name


@pytest.mark.parametrize("recipe", ["../secrets", "a b", "", "x" * 61, "$(id)"])
def test_a_recipe_is_a_name_and_not_a_path(recipe: str) -> None:
    with pytest.raises(InvalidInput, match="--recipe takes the name of a file"):
        plan(recipe, Dataset.model_validate(DATASET), None)


@pytest.mark.parametrize("period", ["2026 Q4", "a/b", "x" * 41, "a\nb"])
def test_a_period_is_a_short_name(period: str) -> None:
    with pytest.raises(InvalidInput, match="--period must be a short name"):
        plan("cpu_demo", Dataset.model_validate(DATASET), None, period)


class FakeJobs:
    """A job that is Running until it was looked at `looks` times."""

    def __init__(self, looks: int) -> None:
        self.looks, self.seen = looks, 0

    def get(self, name: str) -> SimpleNamespace:
        self.seen += 1
        return SimpleNamespace(name=name, status="Completed" if self.seen >= self.looks else "Running")


@pytest.mark.parametrize(("looks", "seconds", "ended"), [(3, 3600.0, True), (3, 0.0, False), (1, 3600.0, True)])
def test_waiting_ends_with_the_job_or_with_the_wait(looks: int, seconds: float, ended: bool) -> None:
    jobs = FakeJobs(looks)
    running = SimpleNamespace(name="job", status="Running")
    seen = wait(cast(Any, SimpleNamespace(jobs=jobs)), cast(Any, running), seconds, pause=lambda _: None)
    assert (seen.status == "Completed") is ended
    assert jobs.seen == (looks if ended else 0)


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
