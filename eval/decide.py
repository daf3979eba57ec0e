"""The gate as a function of two score tables and a policy: no files, no clock but a time stamp, no chance but a seed.

Order of judgement: validity; every primary metric against the baseline and its floor; guards; harm on slices.
Passing needs all of them, so the primary claims need no correction for multiplicity (intersection-union).
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from eval.compare import judge_metric
from eval.guards import judge_guards
from eval.looks import first_alpha, second_alpha
from eval.policy import Policy
from eval.scores import prompts_digest, scores_digest
from eval.slices import judge_slices
from eval.summary import RunSummary
from eval.tables import Rows, count, pair, refused
from eval.validity import Side, why_invalid, why_unlike
from eval.verdict import (
    Counts,
    GuardResult,
    MetricResult,
    Outcome,
    SliceResult,
    Verdict,
    invalid_verdict,
    timestamp,
    worst_outcome,
)


@dataclass(frozen=True)
class Earlier:
    """An earlier look at the same two models: its verdict, and what the candidate was asked then."""

    verdict: Verdict
    rows: Rows = ()


def decide(
    candidate: Rows,
    baseline: Rows | None,
    policy: Policy,
    *,
    candidate_model: str | None = None,
    baseline_model: str | None = None,
    runs: tuple[RunSummary | None, RunSummary | None] = (None, None),
    data_digest: str | None = None,
    earlier: Earlier | None = None,
    aa: bool = False,
    now: datetime | None = None,
) -> Verdict:
    """Judge `candidate` against `baseline` (None: a first release, floors only).

    `candidate_model` and `baseline_model` are model digests; without them the verdict is not bound to what it judged.
    `runs` are the summaries of the candidate's and the baseline's evaluation. `data_digest` is of what the candidate
    was trained on, for the record. `earlier` makes this a second look. `aa` allows the same model on both sides, to
    check the gate itself. `now` fills `created_at` and tells the age of the answers.
    """
    bound = bool(candidate_model) and (baseline is None or bool(baseline_model))
    sides: list[Side] = [("candidate", candidate, runs[0], candidate_model)]
    sides += [("baseline", baseline, runs[1], baseline_model)] if baseline is not None else []
    problem = why_invalid(candidate, baseline, policy) or why_unlike(sides, policy, now or datetime.now(UTC))
    if not problem and bound and candidate_model == baseline_model and not aa:
        problem = "Candidate and baseline are the same model, so there is nothing to compare; use --aa to do it anyway."
    look, alpha, wrong = _look(candidate, policy, (candidate_model, baseline_model), earlier)
    counts = Counts(candidate=count(candidate), baseline=None if baseline is None else count(baseline))
    about: dict[str, Any] = {
        "policy_digest": policy.digest(),
        "prompts_digest": prompts_digest(candidate),
        "candidate_scores_digest": scores_digest(candidate),
        "baseline_scores_digest": None if baseline is None else scores_digest(baseline),
        "candidate_model": candidate_model,
        "baseline_model": baseline_model,
        "judge_digest": runs[0].judge_digest if runs[0] else None,
        "flow_digest": runs[0].flow_digest if runs[0] else None,
        "data_digest": data_digest,
        "look": look,
        "caveats": [*(runs[0].caveats if runs[0] else []), *refused(counts)],
    }
    if problem := problem or wrong:
        return invalid_verdict(problem, bound=bound, alpha=policy.alpha, counts=counts, now=now, **about)
    pairs = {metric.name: pair(metric, candidate, baseline) for metric in policy.metrics}
    metrics = [judge_metric(metric, pairs[metric.name], policy, alpha) for metric in policy.metrics]
    slices = judge_slices(policy, pairs, candidate) if baseline is not None else []
    guards = judge_guards(policy, candidate, baseline, alpha)
    outcome, reason = conclude(metrics, guards, slices)
    return Verdict(
        outcome=outcome,
        bound=bound,
        reason=reason,
        metrics=metrics,
        slices=slices,
        guards=guards,
        latency_ratio=next((guard.value for guard in guards if guard.name == "latency"), None),
        counts=counts,
        alpha=alpha,
        created_at=timestamp(now),
        **about,
    ).sealed()


def _look(
    candidate: Rows, policy: Policy, models: tuple[str | None, str | None], earlier: Earlier | None
) -> tuple[int, float, str | None]:
    """(which look this is, the level it is judged at, why it may not be)."""
    if earlier is None:
        return 1, first_alpha(policy.alpha, policy.looks), None
    before = earlier.verdict
    look = before.look + 1
    if look > policy.looks:
        times = "once" if policy.looks == 1 else "twice"
        return look, policy.alpha, f"The policy lets a candidate be judged {times}, and that was done: {before.reason}"
    if (before.candidate_model, before.baseline_model) != models or before.policy_digest != policy.digest():
        return (
            look,
            policy.alpha,
            "The earlier verdict is about other models or another policy: no second look.",
        )
    asked = {row.prompt_id for row in candidate}
    seen = {row.prompt_id for row in earlier.rows} if prompts_digest(earlier.rows) == before.prompts_digest else set()
    level = second_alpha(policy.alpha, before.counts.candidate.prompts, len(asked), len(asked & seen))
    return look, level, None


def conclude(metrics: list[MetricResult], guards: list[GuardResult], slices: list[SliceResult]) -> tuple[Outcome, str]:
    """The verdict and its reason, one sentence about whatever weighs most."""
    judged: list[tuple[Outcome, str]] = [(metric.outcome, metric.reason) for metric in metrics if metric.primary]
    judged += [(guard.outcome, guard.reason) for guard in guards]
    judged += [
        (
            "fail",
            f"{slice_.metric} changed by {slice_.difference:+.3f} where {slice_.tag} is {slice_.value}, harm that "
            "chance does not explain",
        )
        for slice_ in slices
        if slice_.outcome == "harm"
    ]
    outcome = worst_outcome(outcome for outcome, _ in judged)
    text = next(reason for judged_outcome, reason in judged if judged_outcome == outcome)
    return outcome, text + "."
