"""What old releases leave behind, and what of it may go: model versions and checkpoints. Pure functions."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from scripts.operate.finding import Finding, first, younger
from scripts.operate.policy import Reap

PASSED = "pass"
GIGABYTE = 1e9
HOURS_A_DAY = 24
VERSION_DIGITS = 12  # scripts/register.py names a version by its digest


@dataclass(frozen=True)
class ModelVersion:
    """A version of the environment's model that is not archived. `digest` and `job`: the tags of `register`, "" for a
    version that somebody else made. `used_by`: whatever runs it or trains from it now."""

    name: str
    version: str
    digest: str
    job: str
    created_at: datetime | None
    verdict: str = ""
    used_by: tuple[str, ...] = ()

    @property
    def ours(self) -> bool:
        return bool(self.job and self.digest) and self.version == self.digest[:VERSION_DIGITS]


@dataclass(frozen=True)
class Checkpoints:
    """A folder of checkpoints. `tries`: the statuses of the jobs of our experiment that write there; none: not ours.
    `written_at`: its newest blob. `registered`: the model of one of these jobs is."""

    name: str
    tries: tuple[str, ...]
    written_at: datetime | None
    gigabytes: float = 0.0
    registered: bool = False


def models(versions: Sequence[ModelVersion], named: frozenset[str], policy: Reap, now: datetime) -> list[Finding]:
    """Every version of ours that is older than the policy asks for. `named`: digests that a rollout's state or an
    endpoint's tags name: live, candidate, and the way back."""
    ours = [each for each in versions if each.ours]
    passed = [each for each in ours if each.verdict == PASSED]
    # One whose age nobody knows may be the newest.
    passed.sort(key=lambda each: (each.created_at is None, each.created_at or now), reverse=True)
    last = {each.version for each in passed[: policy.keep_models]}
    old = [each for each in ours if not younger(each.created_at, policy.model_days * HOURS_A_DAY, now)]
    return [_model(each, each.version in last, named, policy) for each in old]


def _model(model: ModelVersion, last: bool, named: frozenset[str], policy: Reap) -> Finding:
    used = ", ".join(model.used_by)
    kept = first(
        (used, f"{used} uses it, and Azure refuses to delete a model that is deployed"),
        (model.digest in named, "a rollout's state or an endpoint's tags name it: live, candidate or the way back"),
        (last, f"it is one of the last {policy.keep_models} that passed the gate"),
    )
    return Finding(
        kind="model",
        name=f"{model.name}:{model.version}",
        action="keep" if kept else policy.old_models,
        why=kept or f"older than {policy.model_days:g} days, and nothing runs it or names it",
        cost="storage of its files, which are its job's",
    )


def checkpoints(found: Sequence[Checkpoints], ended: Sequence[str], policy: Reap, now: datetime) -> list[Finding]:
    """`ended`: the statuses of jobs that have ended."""
    return [_checkpoints(each, ended, policy, now) for each in found]


def _checkpoints(folder: Checkpoints, ended: Sequence[str], policy: Reap, now: datetime) -> Finding:
    finding = Finding(
        kind="checkpoints",
        name=folder.name,
        action="delete",
        why="",
        cost=f"{folder.gigabytes:,.1f} GB of storage",
    )
    if not folder.tries:
        who = "no job of this experiment is named so: ask who needs them"
        return finding.model_copy(update={"action": "report", "why": who})
    finished = "Completed" in folder.tries and folder.registered
    long = policy.checkpoint_days * HOURS_A_DAY
    kept = first(
        (any(status not in ended for status in folder.tries), "their job is under way"),
        (folder.written_at is None, "their age is unknown"),
        (
            younger(folder.written_at, policy.retention_hours, now),
            f"written less than {policy.retention_hours:g} h ago",
        ),
        (
            not finished and younger(folder.written_at, long, now),
            f"a retry would go on from them (written less than {policy.checkpoint_days:g} days ago)",
        ),
    )
    why = "their job has completed and its model is registered" if finished else f"older than {long / 24:g} days"
    return finding.model_copy(update={"action": "keep", "why": kept} if kept else {"why": why})
