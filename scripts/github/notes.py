"""`notes`: a release in Markdown, out of its records alone. What is not on record is said to be missing."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from scripts import records as documents
from scripts.errors import InvalidInput, Refused
from scripts.github import api
from scripts.report import text
from scripts.report.load import Records, load

MISSING = "*not on record*"


class Notes(documents.Record):
    """`notes.json`: what the notes were written from. `missing` names the records that were not there."""

    tag: str | None
    missing: list[str]
    published: str | None


def write(folder: Path, out: Path, *, publish: str | None = None, commit: str | None = None) -> Notes:
    """Write the notes of the records in `folder`; `publish` (OWNER/NAME) makes a release of them as well.

    Raises InvalidInput when there is nothing to write about, Refused to publish what was not promoted.
    """
    found = load(folder)
    if found.empty:
        raise InvalidInput(f"{folder}: there are no records to write notes about.")
    body, tag = markdown(found, approver(folder)), tag_of(found)
    documents.write_text(out, body)
    published = _publish(publish, found, tag, body, commit) if publish else None
    return Notes(tag=tag, missing=missing(found), published=published)


def tag_of(found: Records) -> str | None:
    return f"model-{found.model.version}" if found.model and found.model.version else None


def missing(found: Records) -> list[str]:
    """Records without which a reader cannot know what was released, or why."""
    wanted = {
        "dataset.json": found.dataset,
        "training.json": found.training,
        "model.json": found.model,
        "verdict.json": found.verdict,
        "rollout.json": found.rollout,
    }
    return [name for name, record in wanted.items() if record is None]


def approver(folder: Path) -> str | None:
    """Who approved, when the rollout's record says so."""
    try:
        value = json.loads((folder / "rollout.json").read_text(encoding="utf-8")).get("approved_by")
    except (OSError, ValueError, AttributeError):
        return None
    return value if isinstance(value, str) and value.strip() else None


def markdown(found: Records, approved_by: str | None) -> str:
    sections: tuple[tuple[str, Callable[[Records], list[str]]], ...] = (
        ("Made from", _lineage),
        ("Verdict", _verdict),
        ("Traffic", _traffic),
    )
    name = found.model and f"{found.model.name or 'model'} {found.model.version}"
    lines = [f"# {cell(name) if name else 'A model that is not on record'}", ""]
    lines += [f"> {cell(problem)}" for problem in found.problems]
    lines += [f"> {name} is missing." for name in missing(found) if name not in found.broken] + [""]
    for title, section in sections:
        lines += [f"## {title}", "", *section(found), ""]
    lines += ["## Approved by", "", cell(approved_by) if approved_by else MISSING, ""]
    lines += ["## How to roll back", "", *_rollback(found), ""]
    return "\n".join(lines)


def _lineage(found: Records) -> list[str]:
    model, training, dataset = found.model, found.training, found.dataset
    lineage: dict[str, Any] = model.lineage if model else {}
    rows = {
        "Model digest": model and model.digest,
        "Data": lineage.get("data") or (dataset and dataset.digest),
        "Code": lineage.get("code") or (training and training.code_digest),
        "Recipe": (training and training.recipe.name) or lineage.get("recipe"),
        "Base model": training and training.base_model,
        "Job": lineage.get("job") or (training and training.job_name),
    }
    return ["| | |", "| --- | --- |"] + [
        f"| {key} | {f'`{cell(str(value))}`' if value else MISSING} |" for key, value in rows.items()
    ]


def _verdict(found: Records) -> list[str]:
    verdict = found.verdict
    if verdict is None:
        return [MISSING]
    lines = [f"**{verdict.outcome}**: {cell(verdict.reason) or MISSING}", ""]
    lines += ["| metric | live | candidate | difference | interval |", "| --- | --- | --- | --- | --- |"]
    primary = [metric for metric in verdict.metrics if metric.primary]
    for metric in primary:
        alone = metric.difference is None  # no live model to compare with: the interval is the candidate's own
        interval = text.levels(metric.candidate_interval) if alone else text.interval(metric)
        lines.append(
            f"| {cell(metric.name)} | {text.level(metric, metric.baseline)} | {text.level(metric, metric.candidate)} "
            f"| {text.change(metric, metric.difference)} | {interval} |"
        )
    return lines if primary else [*lines[:2], "No primary metric is on record."]


def _traffic(found: Records) -> list[str]:
    rollout = found.rollout
    if rollout is None:
        return [MISSING]
    lines = [f"**{cell(rollout.state)}**: {cell(rollout.reason or '') or MISSING}", ""]
    lines += ["| candidate's share | requests | errors | decision |", "| --- | --- | --- | --- |"]
    for step in rollout.steps:
        share = MISSING if step.weight is None else f"{step.weight} %"
        asked, failed = step.requests.get(rollout.candidate), step.errors.get(rollout.candidate)
        lines.append(f"| {share} | {text.number(asked)} | {text.number(failed)} | {cell(step.decision) or MISSING} |")
    return lines if rollout.steps else [*lines[:2], "No step is on record."]


def _rollback(found: Records) -> list[str]:
    rollout = found.rollout
    if rollout is None:
        return [f"{MISSING}: without the rollout's record nobody can say which colour was live before."]
    if not rollout.stable:
        return ["This was the first release: no other colour was live before it."]
    endpoint = rollout.endpoint or "ENDPOINT"
    return [
        f"Back to `{cell(rollout.stable)}`, which stays deployed until it is reaped:",
        "",
        "```",
        f'gh workflow run rollback.yml -f endpoint={cell(endpoint)} -f reason="…"',
        f'python -m scripts rollback --to {cell(rollout.stable)} --reason "…"',
        "```",
    ]


def cell(value: str) -> str:
    """Text of a record that stays in its place in a table, mentions nobody and closes no code block."""
    one_line = " ".join(value.split())
    return (
        one_line.replace("`", "'").replace("|", "\\|").replace("<", "&lt;").replace("@", "@\N{ZERO WIDTH NON-JOINER}")
    )


def _publish(repository: str, found: Records, tag: str | None, body: str, commit: str | None) -> str:
    """Make or correct the GitHub release of a promoted model. Returns what was done."""
    if tag is None:
        raise Refused("model.json is not on record: there is no version to publish notes for.")
    if found.rollout is None or found.rollout.state != "PROMOTED":
        state = found.rollout.state if found.rollout else "not on record"
        raise Refused(f"The rollout of {tag} is {state}: only a promoted model becomes a release.")
    root = f"repos/{repository}/releases"
    wanted = {"name": tag, "body": body}
    there = api.find(f"{root}/tags/{tag}")
    if there is None:
        if not commit:
            raise InvalidInput("Which commit was released? Pass --commit SHA, or set GITHUB_SHA.")
        api.call("POST", root, {"tag_name": tag, "target_commitish": commit, **wanted})
        return "created"
    if all(there.get(key) == value for key, value in wanted.items()):
        return "unchanged"
    api.call("PATCH", f"{root}/{there['id']}", wanted)
    return "updated"
