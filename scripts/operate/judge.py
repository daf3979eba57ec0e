"""Has a judge grade a bounded random sample of the conversations in the two windows that drift compares.

The sample is drawn by the conversations' ids, so a second run draws the same one and asks only for what has no grade
yet. A judge that fails ends the run; what it graded before is kept, and counts for nothing until the rest is there too.
"""

import hashlib
import heapq
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from scripts import azure_ml, records, storage
from scripts.endpoint import Endpoint
from scripts.errors import InvalidInput, Refused
from scripts.operate import collected, judged
from scripts.operate.facts import Live
from scripts.operate.policy import JudgeSample, Retrain
from scripts.operate.retrain_facts import live_model
from scripts.operate.windows import Window, compared
from scripts.settings import Settings

if TYPE_CHECKING:
    from azure.storage.blob import ContainerClient

    from eval.metrics import Metrics

AT_ONCE = 100  # conversations between two times of keeping: what a judge that fails loses at most


class Message(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)

    role: Literal["system", "user", "assistant"]
    content: str


class Conversation(BaseModel):
    """What is read of a row of `content` (serving/collect.py)."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    id: str = Field(min_length=1)
    model: str
    messages: list[Message] = Field(min_length=1)
    answer: str

    @property
    def query(self) -> str:
        """What the answer answers: the user's last text."""
        return self.messages[-1].content if self.messages[-1].role == "user" else ""


class Graded(records.Part):
    """One window: how many conversations were kept, how many have a grade, how many of these are new, their mean."""

    window: str
    kept: int
    graded: int
    new: int
    mean: float


class JudgedWeek(records.Record):
    """`judged-week.json`: what `data judge` did, or why there was nothing to do."""

    model: str
    metric: str
    judge_digest: str = ""
    windows: list[Graded]
    why_none: str = ""


def run(settings: Settings, policy: Retrain, now: datetime, tell: Callable[[str], None] = lambda _: None) -> JudgedWeek:
    """Grade both windows of the live model. Raises as `grade`, and AzureFailed as Azure does."""
    live, why_none = live_model(settings, Endpoint(settings))
    return grade(settings, live, policy, now, tell) if live else _nothing(policy, why_none)


def grade(
    settings: Settings, live: Live, policy: Retrain, now: datetime, tell: Callable[[str], None] = lambda _: None
) -> JudgedWeek:
    """Raises Refused when no text is kept, InvalidInput when no judge is named, EvalError (and its InfraError) when the
    judge fails."""
    sample = _sample(policy)
    metrics, digest = judged.judge(sample)
    windows, why_none = compared(live, policy.drift.reference_days, now)
    if why_none:
        return _nothing(policy, why_none, live.model)
    graded = []
    with azure_ml.explained("Judging the conversations that were collected"):
        box = storage.container(settings)
        for window in windows:
            name = judged.place(settings.endpoint, live, window, digest)
            before = judged.read(box, name, digest)
            after = before
            if after is None or not after.complete:
                rows, kept = drawn(_rows(box, settings, live, window), sample.rows)
                if not rows:
                    raise Refused(_nothing_kept(settings, live, window))
                if kept < policy.drift.min_rows:
                    why = f"{kept:,} conversations are kept from {window} ({policy.drift.min_rows:,} are needed)"
                    return _nothing(policy, why, live.model)
                empty = judged.Judged(
                    model=live.model,
                    window=str(window),
                    judge_digest=digest,
                    metric=sample.metric,
                    kept=kept,
                    sample=len(rows),
                    grades=before.grades if before else {},
                )
                after = _graded(box, name, empty, rows, metrics, tell)
            graded.append(_told(after, len(before.grades) if before else 0))
    return JudgedWeek(model=live.model, metric=sample.metric, judge_digest=digest, windows=graded)


def _sample(policy: Retrain) -> JudgeSample:
    if policy.judge is None:
        raise InvalidInput("No judge is named: set `judge` in the policy (scripts/operate/retrain.yaml shows how).")
    return policy.judge


def _nothing(policy: Retrain, why: str, model: str = "") -> JudgedWeek:
    return JudgedWeek(model=model, metric=_sample(policy).metric, windows=[], why_none=why)


def drawn(rows: Iterable[Conversation], most: int) -> tuple[list[Conversation], int]:
    """At most so many of them, by chance but the same ones each time, and how many there were. Each counts once."""
    seen: set[str] = set()

    def told(rows: Iterable[Conversation]) -> Iterator[Conversation]:
        for row in rows:
            if row.id not in seen:
                seen.add(row.id)
                yield row

    found = heapq.nsmallest(most, told(rows), key=lambda row: hashlib.sha256(row.id.encode()).digest())
    return found, len(seen)


def _rows(box: "ContainerClient", settings: Settings, live: Live, window: Window) -> Iterator[Conversation]:
    """What the model answered in the window, as far as it can be read and there is something that it answers."""
    for line in collected.events(box, settings.endpoint, "content", window, live.deployment):
        for row in collected.parsed(line)[1]:
            try:
                one = Conversation.model_validate(row)
            except ValidationError:
                continue
            if one.model == live.model and one.query.strip():
                yield one


def _nothing_kept(settings: Settings, live: Live, window: Window) -> str:
    off = "" if settings.serving.collect.content else " is off (serving.collect.content in the settings file)"
    return f"No conversation of {live.model} from {window} is kept: the collection `content`{off or ' had none'}."


def _graded(
    box: "ContainerClient",
    name: str,
    document: judged.Judged,
    rows: list[Conversation],
    metrics: "Metrics",
    tell: Callable[[str], None],
) -> judged.Judged:
    """Ask for what has no grade, and keep each hundred as soon as it is there."""
    from eval.engine import score_answers

    grades = {row.id: document.grades[row.id] for row in rows if row.id in document.grades}
    missing = [row for row in rows if row.id not in grades]
    for start in range(0, len(missing), AT_ONCE):
        part = missing[start : start + AT_ONCE]
        scores = score_answers([{"query": row.query, "answer": row.answer} for row in part], metrics)
        # A grade that is not there ends it here: nothing is made of what the judge left out.
        grades |= {row.id: given[document.metric] for row, given in zip(part, scores, strict=True)}
        document = document.model_copy(update={"grades": dict(grades)})
        judged.write(box, name, document)
        tell(f"{document.window}: {len(grades):,} of {document.sample:,} judged")
    return document


def _told(document: judged.Judged, before: int) -> Graded:
    return Graded(
        window=document.window,
        kept=document.kept,
        graded=len(document.grades),
        new=len(document.grades) - before,
        mean=sum(document.grades.values()) / len(document.grades),
    )
