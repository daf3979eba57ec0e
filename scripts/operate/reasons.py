"""The reasons to train again: each a small function of facts, policy and time. What is not known is never a reason."""

from datetime import datetime

from scripts.operate.drift import ANSWERS, PROMPTS, Signal
from scripts.operate.facts import Facts, Job, Reason, period_of, tried
from scripts.operate.policy import Retrain

SECONDS_A_DAY = 86_400


def new_data(facts: Facts, policy: Retrain, _: datetime | None = None) -> Reason:
    """The data is not what the live model learned from, and enough of it is new."""
    live = facts.live
    if live is None or not live.data_digest:
        said = "the live model does not say which data it was trained on"
        return Reason(name="data", holds=False, said=said, known=False)
    if live.data_digest == facts.data_digest:
        return Reason(name="data", holds=False, said=f"the data is what {live.model} was trained on")
    before = tried(facts, lambda _: True)
    if not live.rows or live.rows < 0:
        said = f"the data changed, by how much is unknown (the data of {live.model} has no `rows` tag)"
        return Reason(name="data", holds=policy.changed_data_of_unknown_size, said=said, tried=before, known=False)
    new = facts.rows - live.rows
    enough = new >= policy.min_new_rows or new / live.rows >= policy.min_new_share
    said = f"the data changed and has {new:+,} rows ({live.rows:,} → {facts.rows:,})"
    limit = f"{policy.min_new_rows:,} rows or {policy.min_new_share:.0%} are needed"
    return Reason(name="data", holds=enough, said=said if enough else f"{said}; {limit}", tried=before)


def base_model(facts: Facts, policy: Retrain, _: datetime) -> Reason:
    """The recipe starts from another base model, or another revision of it, than the live model did."""
    started = next((job.base for job in facts.jobs if facts.live and job.name == facts.live.job), "")
    if not facts.base or not started:
        said = "nobody said which recipe would train (--recipe)"
        if facts.base:
            said = "the live model does not say from which base revision it started"
        return Reason(name="base model", holds=False, said=said, known=False)
    if started == facts.base:
        return Reason(name="base model", holds=False, said=f"the base model is still {facts.base}")
    said = f"the recipe starts from {facts.base}, the live model started from {started}"
    return Reason(
        name="base model",
        holds=policy.base_model,
        said=said,
        tried=tried(facts, lambda job: job.base == facts.base),
    )


def score(facts: Facts, policy: Retrain, _: datetime) -> Reason:
    """On freshly labelled rows the live model is worse than the verdict found it, by more than chance could do."""
    fresh = facts.fresh
    if fresh is None or fresh.why_none:
        why = fresh.why_none if fresh else "no scores of freshly labelled rows were given (--fresh)"
        return Reason(name="score", holds=False, said=f"no evidence about the score: {why}", known=False)
    if fresh.rows < policy.min_fresh_rows:
        why = f"{fresh.rows} fresh rows, {policy.min_fresh_rows} are needed"
        return Reason(name="score", holds=False, said=f"no evidence about the score: {why}", known=False)
    drop = fresh.then_low - fresh.now_high
    holds = drop > 0 and fresh.then - fresh.now >= policy.min_score_drop
    said = (
        f"{fresh.metric} on {fresh.rows:,} fresh rows is {fresh.now:.3f} (at most {fresh.now_high:.3f}), "
        f"the verdict had {fresh.then:.3f} (at least {fresh.then_low:.3f})"
    )
    return _with_other_data(facts, "score", holds, said)


def prompts(facts: Facts, _: Retrain, __: datetime) -> Reason:
    """The requests are not what they were in the live model's first week."""
    return _drifted(facts, PROMPTS)


def answers(facts: Facts, _: Retrain, __: datetime) -> Reason:
    """The answers are not what they were in the live model's first week."""
    return _drifted(facts, ANSWERS)


def age(facts: Facts, policy: Retrain, now: datetime) -> Reason:
    """The live model is old. Its period is part of the job's name, so that the same data is trained on again once."""
    live, period = facts.live, period_of(now, policy.age_period)
    if live is None or live.created_at is None:
        return Reason(name="age", holds=False, said="the live model's age is unknown", known=False)
    days = (now - live.created_at).total_seconds() / SECONDS_A_DAY
    if days < 0:
        said = f"{live.model} seems to be from the future ({live.created_at:%Y-%m-%d}); a clock is wrong"
        return Reason(name="age", holds=False, said=said, known=False)
    said = f"{live.model} is {days:.0f} days old (at most {policy.max_age_days:g})"
    if days <= policy.max_age_days:
        return Reason(name="age", holds=False, said=said)
    return Reason(name="age", holds=True, said=said, period=period, tried=_tried_in(facts, period, policy.age_period))


def _tried_in(facts: Facts, period: str, kind: str) -> str:
    """A release of this data that began for another reason in this period also answers this one."""

    def same_period(job: Job) -> bool:
        began = job.created_at is not None and period_of(job.created_at, kind) == period
        return job.period == period or (began and facts.live is not None and job.name != facts.live.job)

    return tried(facts, same_period)


def _drifted(facts: Facts, name: str) -> Reason:
    drift = facts.drift
    if drift is None or drift.why_none:
        why = drift.why_none if drift else "nobody looked"
        return Reason(name=name, holds=False, said=f"no evidence about the {name}: {why}", known=False)
    mine = [signal for signal in drift.signals if signal.about == name]
    found = [signal for signal in mine if signal.drifted]
    known = [signal for signal in mine if signal.p_value is not None]
    if found:
        said = f"the {name} of {drift.period} drifted: {', '.join(map(_worded, found))}"
    elif known:
        said = f"the {name} of {drift.period} are as they were ({len(known)} of {len(mine)} signals known)"
    else:
        said = f"no evidence about the {name}: no signal of {drift.period} is known"
        return Reason(name=name, holds=False, said=said, known=False)
    return _with_other_data(facts, name, bool(found), said)


def _worded(signal: Signal) -> str:
    return f"{signal.name} {signal.effect:.3g} (from {signal.least:g} on)"


def _with_other_data(facts: Facts, name: str, holds: bool, said: str) -> Reason:
    """A reason that training helps against only with other data than the live model's; on that, once."""
    if not holds or facts.live is None:
        return Reason(name=name, holds=False, said=said)
    blocked = ""
    if not facts.live.data_digest:
        blocked = "the live model does not say which data it was trained on"
    elif facts.live.data_digest == facts.data_digest:
        blocked = "the data is still what the live model learned from, so label newer rows first"
    return Reason(name=name, holds=True, said=said, tried=tried(facts, lambda _: True), blocked=blocked)


REASONS = (new_data, base_model, score, prompts, answers, age)
