"""`gate`: hand the score tables to the decider in `eval`, and choose the bar when the live model has several."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from eval.verdict import Verdict


def judge(
    candidate: Path, baselines: Sequence[Path], policy: Path, candidate_model: str, baseline_model: str
) -> "Verdict":
    """The verdict on `candidate`. Of several baseline tables (zero-shot, few-shot, …) the one with the highest
    mean of the policy's first primary metric is used: choosing the maximum can only make the bar higher.

    Raises EvalError for tables or a policy that cannot be read.
    """
    from eval.decide import decide
    from eval.policy import load_policy
    from eval.scores import read_scores

    rules = load_policy(policy)
    primary = next(iter(rules.primary))
    tables = [read_scores(path) for path in baselines]
    bar = max(tables, key=lambda table: table.mean(primary))
    return decide(read_scores(candidate), bar, rules, candidate_model=candidate_model, baseline_model=baseline_model)
