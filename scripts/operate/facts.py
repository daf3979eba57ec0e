"""What a decision to train again is made of: the facts it looks at and the reasons that come of them."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from scripts import records
from scripts.operate.drift import Signal
from scripts.training_job import ENDED_BADLY

BEFORE_ALL = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True)
class Live:
    """The model that has all the traffic. What nobody wrote down is "" or None, and never a reason."""

    model: str
    data_digest: str = ""
    rows: int | None = None
    created_at: datetime | None = None
    job: str = ""
    digest: str = ""
    deployment: str = ""
    since: datetime | None = None  # when it got the traffic, at the latest


@dataclass(frozen=True)
class Job:
    """A training job of this train; `verdict` is the gate's word on its model, "" before there is one.

    `base`: what it started from, "SOURCE REVISION".
    """

    name: str
    status: str
    data_digest: str
    period: str = ""
    created_at: datetime | None = None
    verdict: str = ""
    base: str = ""


@dataclass(frozen=True)
class Drift:
    """What the collected rows of a closed week say against the live model's first ones; `why_none`: why they do not."""

    period: str
    signals: tuple[Signal, ...] = ()
    why_none: str = ""


@dataclass(frozen=True)
class Fresh:
    """The live model's score on newly labelled rows, and the one that let it into production; both so that more is
    better. `then_low` and `now_high` are the cautious ends of their intervals."""

    metric: str = ""
    rows: int = 0
    then: float = 0.0
    then_low: float = 0.0
    now: float = 0.0
    now_high: float = 0.0
    why_none: str = ""


@dataclass(frozen=True)
class Facts:
    """`live` is None when no single deployment has all the traffic; then `why_none` says why."""

    live: Live | None
    data_digest: str
    rows: int
    jobs: tuple[Job, ...] = ()
    why_none: str = ""
    base: str = ""  # what the recipe starts from now; "" when nobody asked
    drift: Drift | None = None  # None: nobody looked
    fresh: Fresh | None = None


class Reason(records.Part):
    """One reason, whether it holds, the job that tried to answer it before (else ""), and what stands against it.

    `known`: False where there is no evidence either way, which is never a reason.
    """

    name: str
    holds: bool
    said: str
    known: bool = True
    period: str = ""
    tried: str = ""
    blocked: str = ""

    @property
    def counts(self) -> bool:
        return self.holds and not self.tried and not self.blocked


def period_of(when: datetime, kind: str) -> str:
    """The calendar period of a time in UTC: 2026-Q4, 2026-11 or 2026-W47."""
    when = when.astimezone(UTC)
    if kind == "week":
        return f"{when.isocalendar().year}-W{when.isocalendar().week:02d}"
    return f"{when.year}-{when.month:02d}" if kind == "month" else f"{when.year}-Q{(when.month + 2) // 3}"


def tried(facts: Facts, counts: Callable[[Job], bool]) -> str:
    """The latest job that trained on the data as it stands and did not fail: "JOB (Completed, verdict fail)"."""
    jobs = [job for job in facts.jobs if job.data_digest == facts.data_digest and job.status not in ENDED_BADLY]
    latest = max(filter(counts, jobs), key=lambda job: job.created_at or BEFORE_ALL, default=None)
    if latest is None:
        return ""
    return f"{latest.name} ({latest.status}, {f'verdict {latest.verdict}' if latest.verdict else 'not judged yet'})"
