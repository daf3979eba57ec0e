"""Should a new model be trained now? A pure function of facts, a policy and the time. No I/O, no clock."""

from datetime import datetime

from scripts import records
from scripts.operate.drift import Signal
from scripts.operate.facts import Facts, Reason
from scripts.operate.policy import Retrain
from scripts.operate.reasons import REASONS


class Decision(records.Record):
    """`retrain.json`: the answer, the sentence that explains it, and every reason and signal that was looked at.

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
    signals: list[Signal]
    decided_at: datetime


def decide(facts: Facts, policy: Retrain, now: datetime) -> Decision:
    """Yes when a reason holds that has not been tried; no while any fact it needs is missing."""
    known = facts.live and facts.data_digest
    reasons = [reason(facts, policy, now) for reason in REASONS] if known else []
    chosen = next((reason for reason in reasons if reason.counts), None)
    return Decision(
        retrain=chosen is not None,
        said=_sentence(facts, reasons, chosen),
        reason=chosen.name if chosen else "",
        period=chosen.period if chosen else "",
        live_model=facts.live.model if facts.live else "",
        data_digest=facts.data_digest,
        rows=facts.rows,
        reasons=reasons,
        signals=list(facts.drift.signals) if facts.drift else [],
        decided_at=now,
    )


def _sentence(facts: Facts, reasons: list[Reason], chosen: Reason | None) -> str:
    if not reasons:
        return f"No retraining: {facts.why_none or 'the live model or the data is unknown'}."
    if chosen:
        return f"Retrain: {chosen.said}."
    for reason in reasons:
        if reason.holds and reason.tried:
            return f"No retraining: {reason.said}, but that was already tried as {reason.tried}."
    for reason in reasons:
        if reason.holds:
            return f"No retraining: {reason.said}, but {reason.blocked}."
    unknown = [reason.name for reason in reasons if not reason.known]
    none = f"no reason holds (looked at {', '.join(reason.name for reason in reasons if reason.known)})"
    parts = [none] * (len(unknown) < len(reasons)) + [f"nothing is known of {', '.join(unknown)}"] * bool(unknown)
    return f"No retraining: {'; '.join(parts)}."
