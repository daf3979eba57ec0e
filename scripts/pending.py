"""`pending`: the release whose training job has ended while nobody waited for it. `resume.yml` goes on with it.

A release is a commit, a recipe and a period, kept as tags on its job. It is finished business when its model has a
verdict, when its failed job was reported once, or when it is older than anybody would want to release. Of several, only
the newest counts: the older ones are superseded by it.
"""

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from scripts import azure_ml, job_verdicts, records
from scripts.settings import Settings
from scripts.training_job import ENDED, REPORTED, status

MAX_AGE = timedelta(days=14)
COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class Job:
    """What Azure says of one training job, and the verdict on its model ("" for none)."""

    name: str
    status: str
    tags: Mapping[str, str]
    created: datetime | None
    verdict: str = ""


class Release(records.Part):
    """What a workflow needs to go on with a release."""

    job_name: str
    status: str
    commit: str
    recipe: str
    period: str


class Pending(records.Record):
    """`pending.json`. `reason` is one sentence, with and without a release."""

    release: Release | None
    reason: str


def choose(jobs: Iterable[Job], now: datetime, active: Collection[str] = ()) -> Pending:
    """The release to go on with. `active`: commits that a workflow run is working on right now."""
    ended = [
        job
        for job in jobs
        if job.status in ENDED
        and COMMIT.fullmatch(job.tags.get("commit", ""))
        and job.created
        and job.created >= now - MAX_AGE
    ]
    if not ended:
        return Pending(release=None, reason="no training job of a release has ended lately")
    job = max(ended, key=lambda job: (job.created, job.name))
    finished = {
        f"its model was judged: {job.verdict}": bool(job.verdict),
        "its failure was reported": REPORTED in job.tags,
        "a run is working on it": job.tags["commit"] in active,
    }
    if why := next((reason for reason, true in finished.items() if true), None):
        return Pending(release=None, reason=f"the newest job, {job.name}, needs nobody: {why}")
    release = Release(
        job_name=job.name,
        status=job.status,
        commit=job.tags["commit"],
        recipe=job.tags.get("recipe", ""),
        period=job.tags.get("period", ""),
    )
    return Pending(release=release, reason=f"{job.name} is {job.status} and no run went on with it")


def pending(settings: Settings, active: Collection[str] = ()) -> Pending:
    """Ask Azure. Raises AzureFailed as Azure does."""
    ml = azure_ml.client(settings)
    with azure_ml.explained("Looking for a release to go on with"):
        found = [job for job in ml.jobs.list() if job.experiment_name == settings.experiment]
        verdicts = job_verdicts.of_jobs(ml, settings.model, found)
    jobs = [
        Job(
            str(job.name),
            status(job),
            job.tags or {},
            job.creation_context.created_at if job.creation_context else None,
            verdicts.get(str(job.name), ""),
        )
        for job in found
    ]
    return choose(jobs, records.now(), active)
