"""A job on a low-priority cluster that lost its node goes on; one that is broken, or was cancelled, does not."""

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scripts import records, resubmit
from scripts.errors import AzureFailed
from scripts.settings import Settings
from scripts.train import Plan, Waiting, train
from scripts.training_size import Scale

from .made_up_training import put_in_place
from .operate.conftest import Azure, azure

__all__ = ["azure"]

# Writes one checkpoint a try, as a node that is taken away in between leaves them, and is done with the third.
TRAINING = """
import argparse, json, pathlib, shutil, sys
parser = argparse.ArgumentParser()
for name in ("recipe", "data", "output", "adapter", "checkpoints"):
    parser.add_argument("--" + name)
kept = pathlib.Path(parser.parse_args().checkpoints)
step = len(list(kept.glob("checkpoint-*/complete.json")))
if step == STUCK:
    sys.exit("error: it is broken here.")
if step < 3:
    folder = kept / f"checkpoint-{step + 1}"
    folder.mkdir(parents=True)
    (folder / "complete.json").write_text("{}")
    sys.exit("error: the node was taken away.")
pathlib.Path("outputs").mkdir(exist_ok=True)
pathlib.Path("outputs/training_metrics.json").write_text(pathlib.Path("metrics.json").read_text())
"""
Write = Callable[[int], None]


@given(st.lists(st.integers(1, 10**6)), st.lists(st.integers(1, 10**6)))
def test_only_whole_checkpoints_count_and_the_newest_of_them(whole: list[int], torn: list[int]) -> None:
    names = [f"checkpoints/w/checkpoint-{step}/complete.json" for step in whole]
    names += [f"checkpoints/w/checkpoint-{step}/{file}" for step in torn for file in ("model", "complete.json.part")]
    assert resubmit.newest(names) == max(whole, default=0)


def plan(name: str) -> Plan:
    parts = dict.fromkeys(("recipe_digest", "code_digest", "base_model_digest"), "")
    return Plan(
        recipe="cpu_demo", data_asset="azureml:tickets:1", data_digest=name, base_model="hub",
        scale=Scale(device="cpu", instances=1, processes_per_instance=1), checkpoints=True, **parts,
    )  # fmt: skip


@pytest.fixture
def low_priority(azure: Azure) -> Settings:
    compute = azure.settings.compute.model_copy(update={"tier": "low_priority"})
    return azure.settings.model_copy(update={"compute": compute})


@pytest.fixture
def write(azure: Azure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Put the training code in place; it never gets beyond the checkpoint of this number."""
    return lambda stuck: put_in_place(azure, tmp_path, TRAINING.replace("STUCK", str(stuck)), monkeypatch)


def tries(azure: Azure, work: Plan) -> list[str]:
    return sorted(str(job.name) for job in azure.ml.jobs.list() if str(job.name).startswith(work.name))


@pytest.mark.slow
def test_a_job_that_loses_its_node_thrice_is_resubmitted_until_it_is_done(
    azure: Azure, low_priority: Settings, write: Write
) -> None:
    write(-1)
    work = plan("thrice")
    done = train(low_priority, work)
    assert isinstance(done, records.Training)
    assert done.job_name == f"{work.name}-retry3"
    assert tries(azure, work) == [work.name, *(f"{work.name}-retry{number}" for number in (1, 2, 3))]
    began = [azure.ml.jobs.get(name).tags[resubmit.FROM_STEP] for name in tries(azure, work)]
    assert began == ["0", "1", "2", "3"]


@pytest.mark.slow
def test_a_job_that_gets_no_further_is_not_paid_for_again(azure: Azure, low_priority: Settings, write: Write) -> None:
    write(1)
    work = plan("stuck")
    for _ in range(2):  # nor when the schedule comes back
        with pytest.raises(AzureFailed):
            train(low_priority, work)
        assert tries(azure, work) == [work.name, f"{work.name}-retry1"]


@pytest.mark.slow
def test_a_wait_that_is_over_leaves_the_next_try_to_the_next_run(low_priority: Settings, write: Write) -> None:
    write(-1)
    work = plan("waiting")
    seen = [train(low_priority, work, wait_seconds=0) for _ in range(2)]
    assert all(isinstance(each, Waiting) for each in seen)
    assert isinstance(train(low_priority, work, wait_seconds=120), records.Training)


@pytest.mark.slow
def test_on_dedicated_nodes_a_failed_job_stays_failed(azure: Azure, low_priority: Settings, write: Write) -> None:
    write(-1)
    work = plan("dedicated")
    with pytest.raises(AzureFailed, match=r"ended as Failed.*the node was taken away"):
        train(azure.settings, work)
    assert tries(azure, work) == [work.name]
    cancelled = resubmit.goes_on(low_priority, work, "Canceled", {resubmit.FROM_STEP: "0"})
    failed = resubmit.goes_on(low_priority, work, "Failed", {resubmit.FROM_STEP: "0"})
    assert (cancelled, failed) == (None, 1)
