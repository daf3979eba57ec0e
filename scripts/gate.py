"""`gate`: hand the score tables to the decider in `eval`, and choose the bar when the live model has several."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from scripts.errors import InvalidInput

if TYPE_CHECKING:
    from eval.decide import Earlier
    from eval.policy import MetricPolicy
    from eval.scores import ScoreRow
    from eval.verdict import Verdict


def judge(
    candidate: Path,
    baselines: Sequence[Path],
    policy: Path,
    candidate_model: str,
    baseline_model: str | None,
    *,
    data_digest: str | None = None,
    earlier: "Earlier | None" = None,
) -> "Verdict":
    """The verdict on `candidate`; both models are digests.

    Of several baseline tables (zero-shot, few-shot, …) the best by the first primary metric is the bar: choosing the
    maximum can only make it harder to pass. A first release has neither `baseline_model` nor tables: floors only.
    Raises EvalError for tables or a policy that cannot be read, InvalidInput when one of the two is missing.
    """
    from eval.decide import decide
    from eval.policy import load_policy
    from eval.scores import read_scores
    from eval.summary import beside, read_summary

    if bool(baselines) != (baseline_model is not None):
        missing = "a score table (--baseline)" if baseline_model is not None else "its model"
        raise InvalidInput(f"The live model's {missing} is missing: without it nothing can be compared.")
    rules = load_policy(policy)
    mine = read_scores(candidate, rules.required())
    bars = [(read_scores(path, rules.required()), read_summary(beside(path))) for path in baselines]
    primary = next((metric for metric in rules.metrics if metric.primary), None)
    bar, run = max(bars, key=lambda one: _mean(one[0], primary) if primary else 0.0, default=(None, None))
    return decide(
        mine,
        bar,
        rules,
        candidate_model=candidate_model,
        baseline_model=baseline_model,
        runs=(read_summary(beside(candidate)), run),
        data_digest=data_digest,
        earlier=earlier,
    )


def _mean(rows: Sequence["ScoreRow"], metric: "MetricPolicy") -> float:
    """Mean over the rows it is about, where one without an answer counts as the worst value; higher is better."""
    from eval.tables import applies

    values = [
        row.metrics[metric.name] if row.status == "ok" else metric.worst for row in rows if applies(metric.only, row)
    ]
    mean = sum(values) / len(values) if values else metric.worst
    return mean if metric.direction == "higher" else -mean
