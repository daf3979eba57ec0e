"""The verdict: a record bound by digests to the models, the prompts, the policy and the scores that it judged."""

import hashlib
import json
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from eval.atomic import write_atomic
from eval.errors import EvalError, first_problem

Outcome = Literal["pass", "fail", "inconclusive", "invalid"]
EXIT_CODES: dict[Outcome, int] = {"pass": 0, "fail": 1, "inconclusive": 2, "invalid": 3}


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class MetricResult(_Record):
    """One metric over the prompts it is about. `difference` is candidate minus baseline.

    Each interval has alpha in each tail. `interval` belongs to the difference and is null without a baseline;
    `candidate_interval` to the candidate's mean. `more_prompts`: about how many further ones would decide what is
    inconclusive, if the means stay as they are.
    """

    name: str
    kind: Literal["binary", "score"]
    primary: bool
    direction: Literal["higher", "lower"]
    n: int
    clusters: int
    baseline: float | None
    candidate: float | None
    difference: float | None
    interval: tuple[float, float] | None
    candidate_interval: tuple[float, float] | None
    margin: float
    floor: float | None
    more_prompts: int | None
    outcome: Outcome
    reason: str


class SliceResult(_Record):
    """One metric on the prompts that carry a tag's value. "not powered" and "undecided" are not passes."""

    metric: str
    tag: str
    value: str
    n: int
    clusters: int
    baseline: float
    candidate: float
    difference: float
    interval: tuple[float, float] | None
    p_value: float | None
    outcome: Literal["ok", "harm", "undecided", "not powered"]


class GuardResult(_Record):
    """A limit that is not a metric of the answers, such as latency: `value` must be shown to stay below `limit`."""

    name: str
    value: float | None
    interval: tuple[float, float] | None
    limit: float
    outcome: Outcome
    reason: str


class SideCounts(_Record):
    """What came back from one side; errors count rows, not prompts."""

    rows: int
    prompts: int
    model_errors: int
    blocked: int = 0  # refused by a content filter
    infra_errors: int


class Counts(_Record):
    candidate: SideCounts
    baseline: SideCounts | None


class Verdict(_Record):
    """The whole record. `digest` covers everything but itself and `created_at`, so the same evidence gives it again."""

    schema_version: Literal[1] = 1
    outcome: Outcome
    bound: bool
    reason: str
    metrics: list[MetricResult]
    slices: list[SliceResult]
    guards: list[GuardResult]
    latency_ratio: float | None
    counts: Counts
    alpha: float | None
    candidate_model: str | None
    baseline_model: str | None
    policy_digest: str | None
    prompts_digest: str | None
    candidate_scores_digest: str | None
    baseline_scores_digest: str | None
    judge_digest: str | None
    flow_digest: str | None
    data_digest: str | None
    look: int
    caveats: list[str]
    created_at: str
    digest: str = ""

    @property
    def exit_code(self) -> int:
        return EXIT_CODES[self.outcome]

    def sealed(self) -> "Verdict":
        """The same verdict with its digest filled in."""
        return self.model_copy(update={"digest": self._content_digest()})

    def intact(self) -> bool:
        """Whether the digest still fits the content."""
        return self.digest == self._content_digest()

    def _content_digest(self) -> str:
        content = self.model_dump(mode="json", exclude={"digest", "created_at"})
        for side in filter(None, content["counts"].values()):
            if not side["blocked"]:  # as in verdicts from before it was counted, whose digests must still fit
                del side["blocked"]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def invalid_verdict(  # everything but the sentence may be unknown: the evidence may not even have been readable
    reason: str,
    *,
    candidate_model: str | None = None,
    baseline_model: str | None = None,
    bound: bool = False,
    alpha: float | None = None,
    counts: Counts | None = None,
    policy_digest: str | None = None,
    prompts_digest: str | None = None,
    candidate_scores_digest: str | None = None,
    baseline_scores_digest: str | None = None,
    judge_digest: str | None = None,
    flow_digest: str | None = None,
    data_digest: str | None = None,
    look: int = 1,
    caveats: list[str] | None = None,
    now: datetime | None = None,
) -> Verdict:
    """A sealed INVALID verdict that says why nothing can be decided."""
    nothing = SideCounts(rows=0, prompts=0, model_errors=0, infra_errors=0)
    return Verdict(
        outcome="invalid",
        bound=bound,
        reason=reason,
        metrics=[],
        slices=[],
        guards=[],
        latency_ratio=None,
        counts=counts or Counts(candidate=nothing, baseline=None),
        alpha=alpha,
        candidate_model=candidate_model,
        baseline_model=baseline_model,
        policy_digest=policy_digest,
        prompts_digest=prompts_digest,
        candidate_scores_digest=candidate_scores_digest,
        baseline_scores_digest=baseline_scores_digest,
        judge_digest=judge_digest,
        flow_digest=flow_digest,
        data_digest=data_digest,
        look=look,
        caveats=caveats or [],
        created_at=timestamp(now),
    ).sealed()


def timestamp(now: datetime | None = None) -> str:
    """UTC, to the second, ISO 8601."""
    return (now or datetime.now(UTC)).astimezone(UTC).isoformat(timespec="seconds")


def worst_outcome(outcomes: Iterable[Outcome]) -> Outcome:
    """The most severe of several outcomes; of none, invalid, because no evidence is never success."""
    order: list[Outcome] = ["pass", "inconclusive", "fail", "invalid"]
    return max(outcomes, key=order.index, default="invalid")


def write_verdict(path: Path, verdict: Verdict) -> None:
    write_atomic(path, verdict.model_dump_json(indent=2) + "\n")


def read_verdict(path: Path) -> Verdict:
    """Read a verdict and check that nobody edited it. Raises EvalError."""
    try:
        return parse_verdict(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise EvalError(f"{path}: the verdict cannot be read; run `python -m eval.gate` first.") from error


def parse_verdict(text: str | bytes, where: str) -> Verdict:
    """The same for a verdict that is not in a file; `where` is for the sentence."""
    try:
        verdict = Verdict.model_validate_json(text)
    except ValidationError as error:
        raise EvalError(f"{where}: not a verdict ({first_problem(error)}).") from error
    if not verdict.intact():
        raise EvalError(f"{where}: the verdict's digest does not fit its content; run the gate again.")
    return verdict
