"""Where everything came from: the digests that bind data, code, model, policy, verdict and rollout together."""

from __future__ import annotations

from collections.abc import Iterator

from scripts.report import text
from scripts.report.load import Records
from scripts.report.views import Provenance


def provenance(records: Records) -> list[Provenance]:
    """The rows that the records have, in the order of the train."""
    return [row for row in _rows(records) if row.value]


def mismatches(records: Records) -> list[str]:
    """A sentence for each pair of records that should speak of the same thing and does not."""
    dataset, training, model, green = records.dataset, records.training, records.model, records.green
    verdict, rollout = records.verdict, records.rollout
    pairs = [
        (
            "the training data",
            dataset and dataset.digest,
            "dataset.json",
            training and training.data_digest,
            "training.json",
        ),
        ("the tuned model", training and training.model_digest, "training.json", model and model.digest, "model.json"),
        ("the candidate", model and model.digest, "model.json", green and green.model_digest, "deployment-green.json"),
        (
            "the candidate",
            verdict and verdict.candidate_model,
            "verdict.json",
            green and green.model_digest,
            "deployment-green.json",
        ),
        (
            "the baseline",
            verdict and verdict.baseline_model,
            "verdict.json",
            records.blue and records.blue.model_digest,
            "deployment-blue.json",
        ),
        ("the verdict", verdict and verdict.digest, "verdict.json", rollout and rollout.verdict_digest, "rollout.json"),
    ]
    found = [
        f"The records do not agree on {what}: {one} has {text.short(a)}, {other} has {text.short(b)}."
        for what, a, one, b, other in pairs
        if a and b and _bare(a) != _bare(b)
    ]
    tables = {t.digest for t in records.scores}
    for side, digest in (
        ("candidate", verdict and verdict.candidate_scores_digest),
        ("baseline", verdict and verdict.baseline_scores_digest),
    ):
        if digest and records.scores and digest not in tables:
            found.append(f"The scores in this folder are not the {side} scores that the verdict judged.")
    return found


def _bare(digest: str) -> str:
    return digest.removeprefix("sha256:")


def _rows(records: Records) -> Iterator[Provenance]:
    dataset, training, model = records.dataset, records.training, records.model
    verdict, rollout = records.verdict, records.rollout
    if dataset:
        yield Provenance("Data", f"{dataset.name or 'dataset'} {dataset.version or ''}".strip(), copy=False)
        yield Provenance("Data digest", dataset.digest or "")
        yield Provenance("Data asset", dataset.asset or "")
    if training:
        how = "attached to a finished job: nothing was trained again" if training.attached else training.status
        yield Provenance("Training job", training.job_name or "")
        yield Provenance("Job ended", how, copy=False)
        yield Provenance("Recipe", f"{training.recipe.name or ''}", copy=False)
        yield Provenance("Recipe digest", training.recipe.digest or "")
        yield Provenance("Code digest", training.code_digest or "")
        yield Provenance("Base model", training.base_model or "", copy=False)
        yield Provenance("Base model digest", training.base_model_digest or "")
        yield Provenance("Compute", training.compute or "", copy=False)
    if model:
        yield Provenance(
            "Model", f"{model.name or ''}:{'' if model.version is None else model.version}".strip(":"), copy=False
        )
        yield Provenance("Model digest", model.digest or "")
    if verdict:
        yield Provenance("Verdict digest", verdict.digest or "")
        yield Provenance("Candidate model judged", verdict.candidate_model or "")
        yield Provenance("Baseline model judged", verdict.baseline_model or "")
        yield Provenance("Policy digest", verdict.policy_digest or "")
        yield Provenance("Prompts digest", verdict.prompts_digest or "")
        yield Provenance("Judged at", verdict.created_at or "", copy=False)
    if rollout:
        yield Provenance("Endpoint", rollout.endpoint or "", copy=False)
        yield Provenance("Rollout ended", rollout.ended_at or "", copy=False)
