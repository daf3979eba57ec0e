"""Should a new model be trained now? A pure function of facts, a policy and the time. No I/O, no clock."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from scripts import records
from scripts.operate.policy import Retrain
from scripts.training_job import ENDED_BADLY

SECONDS_A_DAY = 86_400
BEFORE_ALL = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True)
class Live:
    """The model that has all the traffic. What nobody wrote down is "" or None, and never a reason."""

    model: str
    data_digest: str = ""
    rows: int | None = None
    created_at: datetime | None = None
    job: str = ""


@dataclass(frozen=True)
class Job:
    """A training job of this train; `verdict` is the gate's word on its model, "" before there is one."""

    name: str
    status: str
    data_digest: str
    period: str = ""
    created_at: datetime | None = None
    verdict: str = ""


@dataclass(frozen=True)
class Facts:
    """`live` is None when no single deployment has all the traffic; then `why_none` says why."""

    live: Live | None
    data_digest: str
    rows: int
    jobs: tuple[Job, ...] = ()
    why_none: str = ""


class Reason(records.Part):
    """One reason, whether it holds, and the job that tried to answer it before (else "")."""

    name: str
    holds: bool
    said: str
    period: str = ""
    tried: str = ""


class Decision(records.Record):
    """`retrain.json`: the answer, the sentence that explains it, and every reason that was looked at.

    `period` is part of the training job's name: "" where the data alone makes it a new one.
    """

    retrain: bool
    said: str
    reason: str = ""
    period: str = ""
    live_model: str = ""
    data_digest: str
    rows: int
    reasons: list[Reason]
    decided_at: datetime


def decide(facts: Facts, policy: Retrain, now: datetime) -> Decision:
    """Yes when a reason holds that has not been tried; no while any fact it needs is missing."""
    known = facts.live and facts.data_digest
    reasons = [new_data(facts, policy), age(facts, policy, now)] if known else []
    chosen = next((reason for reason in reasons if reason.holds and not reason.tried), None)
    return Decision(
        retrain=chosen is not None,
        said=_sentence(facts, reasons, chosen),
        reason=chosen.name if chosen else "",
        period=chosen.period if chosen else "",
        live_model=facts.live.model if facts.live else "",
        data_digest=facts.data_digest,
        rows=facts.rows,
        reasons=reasons,
        decided_at=now,
    )


def new_data(facts: Facts, policy: Retrain) -> Reason:
    """The data is not what the live model learned from, and enough of it is new."""
    live = facts.live
    if live is None or not live.data_digest:
        return Reason(name="data", holds=False, said="the live model does not say which data it was trained on")
    if live.data_digest == facts.data_digest:
        return Reason(name="data", holds=False, said=f"the data is what {live.model} was trained on")
    tried = _tried(facts, lambda _: True)
    if not live.rows or live.rows < 0:
        said = f"the data changed, by how much is unknown (the data of {live.model} has no `rows` tag)"
        return Reason(name="data", holds=policy.changed_data_of_unknown_size, said=said, tried=tried)
    new = facts.rows - live.rows
    enough = new >= policy.min_new_rows or new / live.rows >= policy.min_new_share
    said = f"the data changed and has {new:+,} rows ({live.rows:,} → {facts.rows:,})"
    limit = f"{policy.min_new_rows:,} rows or {policy.min_new_share:.0%} are needed"
    return Reason(name="data", holds=enough, said=said if enough else f"{said}; {limit}", tried=tried)


def age(facts: Facts, policy: Retrain, now: datetime) -> Reason:
    """The live model is old. Its period is part of the job's name, so that the same data is trained on again once."""
    live, period = facts.live, period_of(now, policy.age_period)
    if live is None or live.created_at is None:
        return Reason(name="age", holds=False, said="the live model's age is unknown")
    days = (now - live.created_at).total_seconds() / SECONDS_A_DAY
    if days < 0:
        said = f"{live.model} seems to be from the future ({live.created_at:%Y-%m-%d}); a clock is wrong"
        return Reason(name="age", holds=False, said=said)
    said = f"{live.model} is {days:.0f} days old (at most {policy.max_age_days:g})"
    if days <= policy.max_age_days:
        return Reason(name="age", holds=False, said=said)

    def same_period(job: Job) -> bool:
        # A release of this data that began for another reason in this period also answers this one.
        began = job.created_at is not None and period_of(job.created_at, policy.age_period) == period
        return job.period == period or (began and job.name != live.job)

    return Reason(name="age", holds=True, said=said, period=period, tried=_tried(facts, same_period))


def period_of(when: datetime, kind: str) -> str:
    """The calendar period of a time in UTC: 2026-Q4 or 2026-11."""
    when = when.astimezone(UTC)
    return f"{when.year}-{when.month:02d}" if kind == "month" else f"{when.year}-Q{(when.month + 2) // 3}"


def _tried(facts: Facts, counts: Callable[[Job], bool]) -> str:
    """The latest job that trained on the data as it stands and did not fail: "JOB (Completed, verdict fail)"."""
    jobs = [job for job in facts.jobs if job.data_digest == facts.data_digest and job.status not in ENDED_BADLY]
    latest = max(filter(counts, jobs), key=lambda job: job.created_at or BEFORE_ALL, default=None)
    if latest is None:
        return ""
    return f"{latest.name} ({latest.status}, {f'verdict {latest.verdict}' if latest.verdict else 'not judged yet'})"


def _sentence(facts: Facts, reasons: list[Reason], chosen: Reason | None) -> str:
    if not reasons:
        return f"No retraining: {facts.why_none or 'the live model or the data is unknown'}."
    if chosen:
        return f"Retrain: {chosen.said}."
    for reason in reasons:
        if reason.holds:
            return f"No retraining: {reason.said}, but that was already tried as {reason.tried}."
    return f"No retraining: {', and '.join(reason.said for reason in reasons)}."
