"""Where everything came from: the digests that bind data, code, model, policy, verdict and rollout together."""

from __future__ import annotations

from collections.abc import Iterator

from scripts.report import roles, text
from scripts.report.load import Records
from scripts.report.views import Provenance


def provenance(records: Records) -> list[Provenance]:
    """The rows that the records have, in the order of the train."""
    return [row for row in _rows(records) if row.value]


def mismatches(records: Records) -> list[str]:
    """A sentence for each pair of records that should speak of the same thing and does not."""
    dataset, training, model, deployed = records.dataset, records.training, records.model, records.candidate
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
        (
            "the candidate",
            model and model.digest,
            "model.json",
            deployed and deployed.model_digest,
            "deployment-candidate.json",
        ),
        (
            "the candidate",
            verdict and verdict.candidate_model,
            "verdict.json",
            deployed and deployed.model_digest,
            "deployment-candidate.json",
        ),
        (
            "the live model",
            verdict and verdict.baseline_model,
            "verdict.json",
            roles.stable_model(records)[1],
            "deployment-stable.json" if records.stable else "live.json",
        ),
        ("the verdict", verdict and verdict.digest, "verdict.json", rollout and rollout.verdict_digest, "rollout.json"),
    ]
    found = [
        f"The records do not agree on {what}: {one} has {text.short(a)}, {other} has {text.short(b)}."
        for what, a, one, b, other in pairs
        if a and b and _bare(a) != _bare(b)
    ]
    found += _colours(records)
    if roles.judged_alone(verdict) and roles.live_seen(records):
        found.append("The verdict compares the candidate with nothing, although a live model is on record.")
    tables = {t.digest for t in records.scores}
    for side, digest in (
        ("candidate's", verdict and verdict.candidate_scores_digest),
        ("live model's", verdict and verdict.baseline_scores_digest),
    ):
        if digest and records.scores and digest not in tables:
            found.append(f"The scores in this folder are not the {side} scores that the verdict judged.")
    return found


def _colours(records: Records) -> list[str]:
    """Where the records put a role on two colours: a rollout moves traffic by colour, so one of them is wrong."""
    rollout, stable, candidate, live = records.rollout, records.stable, records.candidate, records.live
    if rollout is None:
        return []
    said = [
        ("live model", rollout.stable, "deployment-stable.json", stable.deployment if stable else None),
        ("live model", rollout.stable, "live.json", live.stable if live else None),
        ("candidate", rollout.candidate, "deployment-candidate.json", candidate.deployment if candidate else None),
    ]
    return [
        f"The records do not agree on the {role}'s colour: "
        f"rollout.json has {moved or 'none'}, {file} has {name or 'none'}."
        for role, moved, file, name in said
        if name is not None and name != moved
    ]


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
        if training.cost:
            yield Provenance("Training cost", training.cost.said, copy=False)
            yield Provenance("Cost as estimated", training.cost.estimated, copy=False)
    if model:
        yield Provenance("Model", roles.model_name(model), copy=False)
        yield Provenance("Model digest", model.digest or "")
    if verdict:
        yield Provenance("Verdict digest", verdict.digest or "")
        yield Provenance("Candidate model judged", verdict.candidate_model or "")
        yield Provenance("Live model judged", verdict.baseline_model or "")
        yield Provenance("Policy digest", verdict.policy_digest or "")
        yield Provenance("Prompts digest", verdict.prompts_digest or "")
        yield Provenance("Flow digest", verdict.flow_digest or "")
        yield Provenance("Judge digest", verdict.judge_digest or "")
        yield Provenance("Look at these models", "the second" if verdict.look > 1 else "the first", copy=False)
        yield Provenance("Judged at", verdict.created_at or "", copy=False)
    if rollout:
        yield Provenance("Endpoint", rollout.endpoint or "", copy=False)
        yield Provenance("Approved by", rollout.approved_by or "", copy=False)
        yield Provenance("Rollout ended", rollout.ended_at or "", copy=False)
