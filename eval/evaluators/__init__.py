"""How an answer is scored: plain callables with the columns as named arguments, returning a dict of numbers.

An engine (promptflow-evals or azure-ai-evaluation) calls them; none of them knows which. No **kwargs: engines read it
as a column. Columns: `query`, `answer`, `expected`, `context`, `logprobs`. An evaluator returns {} for an answer that
it does not apply to. One that is better off seeing all answers first (batches, requests in flight) has a `prime`.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, runtime_checkable

from eval.evaluators.structured import exact_match, field_accuracy, json_schema, json_valid, parsed
from eval.evaluators.words import f1, format_check, perplexity, refusal, rouge_l
from eval.metrics import Format, JsonSchema, Metrics, Safety, Settings

__all__ = [
    "COLUMNS",
    "EVALUATORS",
    "Evaluator",
    "Primed",
    "build",
    "exact_match",
    "f1",
    "field_accuracy",
    "json_valid",
    "parsed",
    "perplexity",
    "refusal",
    "rouge_l",
]

COLUMNS = ("query", "answer", "expected", "context", "logprobs")
Evaluator = Callable[..., dict[str, float]]
Row = Mapping[str, str]
Progress = Callable[[int, int], None]


@runtime_checkable
class Primed(Protocol):
    """An evaluator that works on all answers at once and is then asked for each."""

    def prime(self, rows: Sequence[Row], progress: Progress) -> None: ...


# Evaluators without settings.
EVALUATORS: dict[str, Evaluator] = {
    "exact_match": exact_match,
    "json_valid": json_valid,
    "field_accuracy": field_accuracy,
    "f1": f1,
    "rouge_l": rouge_l,
    "refusal": refusal,
    "perplexity": perplexity,
}


def build(metrics: Metrics) -> dict[str, Evaluator]:
    """The callables that `metrics` asks for, by name. Raises EvalError when one lacks what it needs."""
    return {
        name: EVALUATORS.get(name) or _made(name, settings, metrics) for name, settings in metrics.evaluators.items()
    }


def _made(name: str, settings: Settings, metrics: Metrics) -> Evaluator:
    if isinstance(settings, JsonSchema):
        return json_schema(settings.file)
    if isinstance(settings, Format):
        return format_check(settings.pattern, settings.max_length)
    # The others load models or clients, so they are imported only when asked for.
    if name == "similarity":
        from eval.evaluators.similarity import Similarity

        return Similarity()
    if isinstance(settings, Safety) and settings.service == "azure":
        from eval.evaluators.safety_azure import AzureSafety

        return AzureSafety()
    if isinstance(settings, Safety):
        from eval.evaluators.safety_local import LocalSafety

        return LocalSafety()
    from eval.evaluators.judge import Judgement

    return Judgement(name, metrics)
