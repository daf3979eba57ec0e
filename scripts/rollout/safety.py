"""Answers of both colours put to the content-safety evaluator, the one that the gate uses.

What is in an answer that could not be graded nobody knows: it is neither harmless nor a hit, it is no evidence. Texts
stay here; what leaves are counts, a category and a severity.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from os import environ
from typing import Any

from eval.errors import EvalError
from scripts.errors import InvalidInput
from scripts.rollout.evidence import Count, Graded, Sides
from scripts.rollout.policy import SEVERITIES, Policy, Safety

HIGHEST = 7
AT_ONCE = 8
PATIENCE = 30.0  # seconds for all answers of a look: traffic is watched by the same process
Severities = dict[str, float]
Grades = list[Severities | str]  # of each answer, or why it has none


class Grader:
    """`grade` gives severities by category, or a reason, for each text; `caveat` is what it cannot see."""

    def __init__(self, grade: Callable[[Sequence[str]], Grades], safety: Safety, caveat: str = "") -> None:
        self._grade, self._safety, self.caveat = grade, safety, caveat

    def graded(self, candidate: Sequence[str], stable: Sequence[str] = ()) -> tuple[Graded, str]:
        """What these answers come to, and why some could not be graded; "" when all could."""
        texts = list(dict.fromkeys(text for text in (*candidate, *stable) if text.strip()))
        try:
            found = dict(zip(texts, self._grade(texts), strict=True))
        except EvalError as error:
            found = dict.fromkeys(texts, str(error))
        mine, other = (
            [_checked(found.get(text, "an answer had no text")) for text in side] for side in (candidate, stable)
        )
        why = [each for each in (*mine, *other) if isinstance(each, str)]
        sides = Sides(candidate=self._count(mine), stable=self._count(other))
        return Graded(sides=sides, ungraded=len(why), critical=self._critical(mine)), why[0] if why else ""

    def _count(self, grades: Grades) -> Count:
        known = [max(each.values()) for each in grades if not isinstance(each, str)]
        return Count(requests=len(known), bad=sum(worst >= SEVERITIES[self._safety.block] for worst in known))

    def _critical(self, grades: Grades) -> str:
        said = [(value, name) for each in grades if not isinstance(each, str) for name, value in each.items()]
        worst, category = max(said, default=(0.0, ""))
        if worst < SEVERITIES[self._safety.critical]:
            return ""
        return f"{category.replace('_', ' ')}, severity {worst:g} of {HIGHEST}"


def _checked(grade: Severities | str) -> Severities | str:
    if isinstance(grade, str) or (grade and all(0 <= value <= HIGHEST for value in grade.values())):  # NaN is not
        return grade
    return f"{grade} are no severities from 0 to {HIGHEST}"


def grader_of(policy: Policy) -> Grader | None:
    """None when the policy looks at no answer. Raises InvalidInput when the evaluator lacks what it needs.

    The service is the one of `safety` in eval/metrics.yaml; when nothing is said there, Azure AI Content Safety where
    its address is known, otherwise the local stand-in.
    """
    if not policy.safety.pairs_per_look:
        return None
    from eval.evaluators.safety_azure import ENDPOINT
    from eval.metrics import LOCAL_SAFETY, load_metrics
    from eval.metrics import Safety as Service

    try:
        named = load_metrics().evaluators.get("safety")
        service = named.service if isinstance(named, Service) else "azure" if environ.get(ENDPOINT) else "local"
        if service == "local":
            return Grader(_by_stand_in(), policy.safety, LOCAL_SAFETY)
        return Grader(_by_service(), policy.safety)
    except EvalError as error:
        raise InvalidInput(f"Content safety (policy key `safety`): {error}") from error


def _by_stand_in() -> Callable[[Sequence[str]], Grades]:
    """All sentences of a look at once: one by one they take ten times as long."""
    from eval.evaluators.safety_local import LocalSafety

    evaluator = LocalSafety()

    def grade(texts: Sequence[str]) -> Grades:
        evaluator.prime([{"answer": text} for text in texts], lambda *_: None)
        return [_severities(evaluator(answer=text)) for text in texts]

    return grade


def _by_service() -> Callable[[Sequence[str]], Grades]:
    """Each for itself: one that the service does not grade must not hide the others."""
    from eval.evaluators.safety_azure import AzureSafety

    evaluator = AzureSafety()

    def grade(texts: Sequence[str]) -> Grades:
        return _each(lambda text: _severities(evaluator(answer=text)), texts)

    return grade


def _each(ask: Callable[[str], Severities], texts: Sequence[str], patience: float = PATIENCE) -> Grades:
    pool = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="safety")
    futures = [pool.submit(ask, text) for text in texts]
    wait(futures, timeout=patience)
    pool.shutdown(wait=False, cancel_futures=True)
    return [_outcome(each, patience) for each in futures]


def _outcome(future: Future[Severities], patience: float) -> Severities | str:
    if not future.done() or future.cancelled():
        return f"the content-safety service took more than {patience:g} seconds"
    try:
        return future.result()
    except EvalError as error:
        return str(error)


def _severities(scores: dict[str, Any]) -> Severities:
    return {name: value for name, value in scores.items() if not name.endswith("_defect")}
