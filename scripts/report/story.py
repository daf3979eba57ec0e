"""What happened, in the words of a release manager: one headline, one sentence of why, what to do next.

Rules read from top to bottom; the first that applies speaks. Success is said only where the records prove it: a rollout
that says PROMOTED while the traffic read back says otherwise is a warning, and a broken record is never good news.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from scripts.report import models as m
from scripts.report import roles, text
from scripts.report.load import Records
from scripts.report.scores import primary

Tone = Literal["good", "bad", "warn", "info"]
ICONS: dict[Tone, str] = {"good": "✓", "bad": "✕", "warn": "!", "info": "i"}
UNTOUCHED = "There was no rollout, so traffic is as it was."
FIRST = "There is no earlier model to go back to: this is the first release."
READ_TRAFFIC = "Read the endpoint's traffic before anything else."


@dataclass(frozen=True)
class Story:
    """`why` and `next` are one or two sentences; `next` may hold a command between backquotes."""

    tone: Tone
    headline: str
    why: str
    next: str
    icon: str = ""

    @property
    def sign(self) -> str:
        return self.icon or ICONS[self.tone]


def final_traffic(records: Records) -> dict[str, int]:
    """The weights in force at the end: the rollout's last write, else what the deployments were created with.

    Empty where the records do not tell.
    """
    if records.rollout_lost:
        return {}
    if records.rollout:
        return dict(records.rollout.writes[-1].traffic) if records.rollout.writes else {}
    both = [d for d in (records.stable, records.candidate) if d]
    weights = {d.deployment: d.weight for d in both if d.deployment and d.weight is not None}
    if records.live and records.live.stable and not records.stable:
        weights = {records.live.stable: 100, **weights}
    return weights


def tell(records: Records) -> Story:
    """The headline of the page."""
    if records.rollout_lost:
        left = "a record that cannot be used" if "rollout.json" in records.broken else "no record"
        why = "Traffic may have moved, and nobody can tell from this page which model is live."
        return Story("warn", f"Outcome unknown: the rollout left {left}", why, READ_TRAFFIC)
    if records.rollout:
        return _rolled(records, records.rollout)
    if "verdict.json" in records.broken:
        why = "A verdict that cannot be used counts as none, and there is no rollout among the records."
        return Story("warn", "Outcome unknown: the verdict cannot be used", why, "Run the gate again.")
    if records.verdict:
        return _judged(records, records.verdict)
    return _stopped(records)


def _rolled(records: Records, rollout: m.Rollout) -> Story:
    why = sentence(rollout.reason or "the rollout record gives no reason")
    stable, candidate, traffic = rollout.stable, rollout.candidate, final_traffic(records)
    if not stable and rollout.state in ("ROLLED_BACK", "ROLLBACK_STUCK"):
        return _first_taken_back(rollout, why)
    back = f'`python -m scripts rollback --to {stable} --reason "…"`'
    if rollout.state == "PROMOTED":
        return _promoted(records, rollout, back)
    if rollout.state == "ROLLED_BACK":
        if traffic.get(stable) != 100:
            said = f"the last weights written were {text.traffic(traffic)}" if traffic else "no weights were written"
            return Story(
                "warn", f"Rolled back, but {stable} is not seen to serve 100 %", f"{why} But {said}.", READ_TRAFFIC
            )
        following = f"Look at the step that failed and at the errors of {candidate} below before another try."
        return Story("bad", f"Rolled back: {stable} serves 100 %", why, following, "↩")
    if rollout.state == "ROLLBACK_STUCK":
        headline = f"Rollback is stuck: {stable} may not serve everything"
        return Story("bad", headline, why, f"Act now: {back} gives {stable} all traffic.")
    return Story("info", f"Rollout under way: {rollout.state}", why, "Draw this page again when it has ended.")


def _first_taken_back(rollout: m.Rollout, why: str) -> Story:
    """A first release has no model to come back to: taken back means that nobody serves."""
    nobody = bool(rollout.writes) and not any(rollout.writes[-1].traffic.values())
    if rollout.state == "ROLLED_BACK" and nobody:
        following = f"Look at the step that failed and at the errors of {rollout.candidate} below before another try."
        return Story("bad", "First release taken back: no model serves", why, following, "↩")
    return Story("bad", f"First release not taken back: {rollout.candidate} may still serve", why, READ_TRAFFIC)


def _promoted(records: Records, rollout: m.Rollout, back: str) -> Story:
    seen = next((s.traffic_read_back for s in reversed(rollout.steps) if s.traffic_read_back), {})
    serves = f"{rollout.candidate} serves 100 %"
    if seen.get(rollout.candidate) != 100:
        said = f"The traffic read back last is {text.traffic(seen)}" if seen else "No traffic was read back"
        headline = f"Promoted, but {rollout.candidate} is not seen to serve 100 %"
        return Story("warn", headline, f"{said}, although the rollout says PROMOTED.", READ_TRAFFIC)
    if records.verdict is None or records.verdict.outcome != "pass":
        said = f"says {records.verdict.outcome}" if records.verdict else "is not among the records"
        why = f"The verdict {said}, although the rollout says PROMOTED."
        return Story(
            "warn",
            f"Released without a passing verdict: {serves}",
            why,
            "Find out why" + (f"; {back} takes it back." if rollout.stable else "."),
        )
    following = f"To take it back: {back}." if rollout.stable else FIRST
    gained = _gain(records) or reason(records.verdict)
    why = " ".join(part for part in (gained, sentence(rollout.reason or "")) if part)
    return Story("good", f"Released: {serves}", why, following)


def _gain(records: Records) -> str:
    metric = next((x for x in records.verdict.metrics if x.name == primary(records)), None) if records.verdict else None
    if metric is None or metric.difference is None:
        return ""
    unit = " points" if text.is_share(metric) else ""
    levels = f"from {text.level(metric, metric.baseline)} to {text.level(metric, metric.candidate)}"
    return f"{sentence(text.name(metric.name))[:-1]} went {levels} ({text.change(metric, metric.difference)}{unit})."


def reason(verdict: m.Verdict) -> str:
    """The gate's own sentence, with the metrics named as everywhere on the page."""
    words = verdict.reason or "the verdict gives no reason"
    for metric in verdict.metrics:
        words = words.replace(metric.name, text.name(metric.name))
    return sentence(words)


def sentence(words: str) -> str:
    """With a capital first and a full stop at the end."""
    words = words.strip()
    return words and words[0].upper() + words[1:] + ("" if words[-1] in ".!?" else ".")


_JUDGED: dict[m.Outcome, tuple[Tone, str, str]] = {
    "fail": ("bad", "Refused at the gate: the candidate is not good enough", "Start with the worst examples below."),
    "inconclusive": (
        "warn",
        "Undecided at the gate: too little evidence",
        "Add held-out prompts, then evaluate again.",
    ),
    "invalid": (
        "warn",
        "No decision at the gate: the evidence is not valid",
        "Mend the evaluation, then run it again.",
    ),
}


def _judged(records: Records, verdict: m.Verdict) -> Story:
    why = reason(verdict)
    candidate = roles.candidate(records)
    serving = f"{candidate} has had all traffic since it was deployed"
    already = bool(candidate) and final_traffic(records).get(candidate) == 100
    if verdict.outcome != "pass":
        tone, headline, following = _JUDGED[verdict.outcome]
        return Story(
            tone, headline, why, f"{f'There was no rollout, and {serving}.' if already else UNTOUCHED} {following}"
        )
    if not verdict.bound:
        headline = "Passed at the gate, but the verdict names no model"
        return Story("warn", headline, why, "A rollout refuses it: run the gate with both models' digests.")
    if already:
        headline = f"Passed at the gate: {candidate} serves 100 %"
        return Story("info", headline, why, f"Nothing is left to do: {serving}.", "✓")
    command = f"`python -m scripts rollout run --candidate {candidate or 'COLOUR'}`"
    following = f"If you approve it, this comes next: {command}."
    return Story("info", "Passed at the gate, not rolled out", why, following, "✓")


def _stopped(records: Records) -> Story:
    refused = [c for c in records.dataset.checks if c.severity == "error" and c.count != 0] if records.dataset else []
    job = records.training
    if job and job.status.lower() in ("failed", "canceled", "cancelled", "notresponding"):
        why = f"Job {job.job_name or 'without a name'} made no model that could be judged."
        return Story(
            "bad", f"Stopped at training: the job is {job.status}", why, "Read the job's log, then train again."
        )
    if refused and not job:
        why = sentence(refused[0].message or f"check {refused[0].code} found errors")
        return Story("bad", "Stopped at the data checks", why, "Mend the rows named below, then run the step again.")
    if records.empty:
        why = "The train left no record that can be used in this folder."
        return Story("warn", "Nothing to report: no records", why, "Run the train: `make demo`.")
    last = f"The last stage on record is “{records.seconds[-1].stage}”; there" if records.seconds else "There"
    why = f"{last} is no verdict and no rollout."
    return Story("warn", "Stopped before the gate", why, "Read the log of the last stage.")
