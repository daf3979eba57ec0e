"""What act's log says: results, outputs, summaries and messages, by job and step."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

Entry = dict[str, Any]  # a line of act's log; `name` is the job's, as in Result


@dataclass(repr=False)
class Result:
    """What a run came to. A job is named by its id; in a called workflow `caller/id`; of a matrix `id (values)`.

    Jobs that were skipped are in none of these: `results` is the exact set that ran. (When one of a
    matrix fails, act may say so of the others too; `steps` tells them apart.)
    """

    code: int
    killed: bool
    run_id: int
    artifacts: Path
    results: dict[str, str] = field(default_factory=dict)
    steps: dict[tuple[str, str], str] = field(default_factory=dict)  # (job, step) -> success, failure, skipped
    outputs: dict[tuple[str, str, str], str] = field(default_factory=dict)  # (job, step, name) -> value
    summaries: dict[str, str] = field(default_factory=dict)  # job -> Markdown
    errors: list[str] = field(default_factory=list)  # ::error:: and ::warning:: of the steps
    warnings: list[str] = field(default_factory=list)
    gh: list[list[str]] = field(default_factory=list)  # arguments of each call of gh
    log: list[str] = field(default_factory=list)
    seconds: dict[tuple[str, str], float] = field(default_factory=dict)  # (job, step)

    def __repr__(self) -> str:
        return f"code {self.code}, {self.results}\n" + "\n".join(self.log[-80:])


class Names:
    """Job names as act prints them (`Workflow/Job`, `caller/Workflow/Job`) back to ids."""

    def __init__(self, repository: Path, workflow: str) -> None:
        folder = repository / ".github" / "workflows"
        self._files = {path.name: yaml.safe_load(path.read_text(encoding="utf-8")) for path in folder.glob("*.yml")}
        self._workflow = workflow

    def job(self, entry: Entry) -> str:
        if "job" not in entry:
            return ""
        *callers, _, _ = entry["job"].strip().split("/") if entry["job"].count("/") else ["", ""]
        ids, file = [], self._workflow
        for caller in callers:
            # Of a call within a call act names the inner caller only.
            outer = "" if self._caller(file, caller) else self._way_to(file, caller)
            for each in filter(None, (outer, caller)):
                found = self._caller(file, each) or each
                ids.append(found)
                file = self._called(file, found)
        values = entry.get("matrix") or {}
        matrix = f" ({', '.join(str(value) for value in values.values())})" if values else ""
        return "/".join([*ids, str(entry.get("jobID", "")) + matrix])

    def _jobs(self, file: str) -> dict[str, Any]:
        return dict(self._files.get(file, {}).get("jobs", {}))

    def _caller(self, file: str, word: str) -> str:
        """The id of the calling job of `file` that act calls `word`; "" when there is none."""
        jobs = self._jobs(file).items()
        return next((name for name, job in jobs if "uses" in job and word in (name, job.get("name"))), "")

    def _called(self, file: str, job: str) -> str:
        return str(self._jobs(file).get(job, {}).get("uses", "")).rsplit("/", 1)[-1].partition("@")[0]

    def _way_to(self, file: str, word: str) -> str:
        """The calling job of `file` whose called workflow has the caller `word`."""
        return next((name for name in self._jobs(file) if self._caller(self._called(file, name), word)), "")


def step_of(entry: Entry) -> str:
    return "/".join(entry.get("stepID") or [])


def note(result: Result, entry: Entry) -> None:
    job, step = entry["name"], step_of(entry)
    if "jobResult" in entry:
        result.results[job] = entry["jobResult"]
    if "stepResult" in entry and step and entry.get("stage") == "Main":
        result.steps[job, step] = entry["stepResult"]
        result.seconds[job, step] = round(entry.get("executionTime", 0) / 1e9, 2)
    match entry.get("command"):
        case "set-output":
            result.outputs[job, step, entry["name_of_output"]] = entry["arg"]
        case "summary" if "/" not in step:  # a composite action's is said twice, once by its own step
            result.summaries[job] = result.summaries.get(job, "") + entry["content"]
        case "error":
            result.errors.append(entry["arg"])
        case "warning":
            result.warnings.append(entry["arg"])
    result.log.append(f"{job}: {entry.get('msg', '').rstrip()}")


def parsed(line: str) -> Entry | None:
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    if not isinstance(entry, dict):
        return None
    entry["name_of_output"] = entry.get("name")  # `name` is the job's from here on
    return entry
