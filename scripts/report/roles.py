"""Who plays which part: the live model (stable) and the candidate, on whatever colours they are.

Colours swap with every release, so nothing else in this package may know one by heart.
"""

from __future__ import annotations

from scripts.report import models as m
from scripts.report.load import Records
from scripts.report.scores import BASELINES


def stable(records: Records) -> str:
    """The deployment that was live before; "" in a first release and where no record says."""
    if records.rollout:
        return records.rollout.stable
    deployed = (records.stable.deployment if records.stable else None) or ""
    return deployed or (records.live.stable if records.live else "")


def candidate(records: Records) -> str:
    """The deployment on trial; "" where no record says."""
    if records.rollout:
        return records.rollout.candidate
    deployed = (records.candidate.deployment if records.candidate else None) or ""
    return deployed or (records.live.idle if records.live else "")


def stable_model(records: Records) -> tuple[str, str]:
    """(name:version, digest) of the live model; empty where no record says."""
    if records.stable:
        return (records.stable.model or "").removeprefix("azureml:"), records.stable.model_digest or ""
    if records.live and records.live.model:
        return model_name(records.live.model), records.live.model.digest or ""
    return "", ""


def model_name(model: m.Model) -> str:
    return f"{model.name or ''}:{'' if model.version is None else model.version}".strip(":")


def first_release(records: Records) -> bool:
    """Whether the records prove that nothing was live before: what is merely missing proves nothing."""
    nobody = records.live is not None and not records.live.stable
    return not live_seen(records) and (
        nobody or (records.rollout is not None and not records.rollout.stable) or judged_alone(records.verdict)
    )


def live_seen(records: Records) -> bool:
    """Whether any record shows that a model was live before."""
    tables = any(records.table(name) for name in BASELINES)
    return bool(stable(records)) or records.stable is not None or tables


def judged_alone(verdict: m.Verdict | None) -> bool:
    """Whether a verdict compared the candidate with nothing: only the floors counted."""
    if verdict is None or verdict.outcome == "invalid" or not verdict.metrics:
        return False
    return not verdict.baseline_scores_digest and all(x.baseline is None for x in verdict.metrics)
