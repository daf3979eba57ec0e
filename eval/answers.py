"""The answers to the held-out prompts: from the ledger where the same question was answered before, else asked for."""

import json
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from eval import ledger
from eval.errors import EvalError, InfraError
from eval.flow import FLOW, decoding, flow_digest
from eval.lines import By
from eval.progress import Reporter
from eval.prompts import Prompt
from eval.summary import digest_of

Question = tuple[Prompt, int]  # a prompt and which repeat of it


class Answer(BaseModel):
    """What the flow said of one question. `latency_ms` is of the time when it was asked, which is `at`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    answer: str
    status: Literal["ok", "blocked", "model_error", "infra_error"]
    latency_ms: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    tokens: Annotated[int, Field(ge=0)]
    detail: str
    logprobs: str = ""  # JSON list of the answer's tokens' log-probabilities, if the endpoint gives them
    at: AwareDatetime


@dataclass(frozen=True)
class Asked:
    """Who is asked, and how. Without a `model` nobody knows whether the same one answers tomorrow."""

    scoring_uri: str
    deployment: str | None = None
    model: str | None = None  # digest of the model
    serving: str = ""  # changes whenever something else about the deployment does
    few_shot: int = 0
    flow: Path = FLOW
    by: By = "promptflow"  # same rows, same answers: no part of what makes an answer
    shape: str = ""  # of the requests (flow/asking/settings.py); "": as the process's environment says

    def keys(self, questions: Sequence[Question]) -> list[str]:
        """What makes an answer the answer to a question, digested; what is expected is no part of that."""
        flow, how = flow_digest(self.flow), json.dumps(decoding(self.flow), sort_keys=True)
        source = (self.model or "", self.serving, flow, how, str(self.few_shot))
        return [digest_of(*source, p.id, json.dumps([p.history, p.text]), str(repeat)) for p, repeat in questions]

    def kept_in(self, out: Path) -> Path:
        """The answers of a known model serve every table in the folder; those of an unknown one only this table's."""
        name = self.model or digest_of(out.name, self.scoring_uri, self.deployment or "")
        kind = "model" if self.model else "unfinished"
        return folder(out) / f"{kind}-{digest_of(name)[:16]}.jsonl"


def folder(out: Path) -> Path:
    """Where answers and scores are kept: beside the tables, hidden, so that it goes when they go."""
    return out.parent / ".kept"


def ask(
    questions: Sequence[Question],
    asked: Asked,
    out: Path,
    *,
    concurrency: int,
    max_lost: float,
    meanwhile: Callable[[], threading.Thread] | None = None,
    fresh: bool = False,
    quiet: bool = False,
) -> tuple[list[Answer], float]:
    """An answer to each question, in order, and the seconds of asking. Each is kept the moment it is there.

    `meanwhile` starts what else can be done while the model works. Answers lost to infrastructure are not kept. Raises
    InfraError as soon as more than the share `max_lost` is.
    """
    keys, path = asked.keys(questions), asked.kept_in(out)
    answers = {} if fresh else _kept(path, keys)
    missing = [number for number in range(len(questions)) if number not in answers]
    if not missing:
        return [answers[number] for number in range(len(questions))], 0.0
    from eval.batch import Flow

    flow = Flow(asked.flow, asked.by)
    other = meanwhile() if meanwhile else None
    report = Reporter(f"Asking {asked.deployment or 'the endpoint'}", len(questions), len(answers), quiet=quiet)
    if answers:
        report.say(f"{len(answers)} of {len(questions)} answers are there from before (--fresh asks again).")
    lost: list[str] = []
    started = time.monotonic()
    with ledger.Ledger(path) as kept:

        def take(number: int, output: dict[str, Any]) -> bool:
            answer = _answer(output)
            answers[missing[number]] = answer
            if answer.status == "infra_error":
                lost.append(answer.detail)
            else:
                kept.add(keys[missing[number]], answer.model_dump(mode="json"))
            return len(lost) <= max_lost * len(questions)

        try:
            flow.run(
                [_inputs(questions[number][0], asked.few_shot) for number in missing],
                {
                    "ENDPOINT_SCORING_URI": asked.scoring_uri,
                    "ENDPOINT_DEPLOYMENT": asked.deployment or "",
                    **({"ENDPOINT_SHAPE": asked.shape} if asked.shape else {}),
                },
                concurrency=concurrency,
                on_output=take,
                tick=lambda: report(len(answers)),
            )
        except KeyboardInterrupt:
            report.say(
                f"{len(answers) - len(lost)} of {len(questions)} answers are kept: the same command goes on there."
            )
            raise
    if len(lost) > max_lost * len(questions):
        raise InfraError(
            f"{len(lost)} of {len(questions)} prompts got no answer from the endpoint, more than {max_lost:.0%}: "
            f"{lost[0]} ({len(answers) - len(lost)} answers are kept; the same command goes on there.)"
        )
    seconds = time.monotonic() - started
    if other:
        other.join()
    return [answers[number] for number in range(len(questions))], seconds


def forget(asked: Asked, out: Path) -> None:
    """Once the table is there: the answers of a model that nobody can name are of no use to another run."""
    if not asked.model:
        asked.kept_in(out).unlink(missing_ok=True)


def _kept(path: Path, keys: Sequence[str]) -> dict[int, Answer]:
    """The kept answers by the question's number; one that is not what we write counts as never given."""
    found = ledger.read(path)
    answers: dict[int, Answer] = {}
    for number, key in enumerate(keys):
        try:
            answer = Answer.model_validate(found[key])
        except (KeyError, ValidationError):
            continue
        if answer.status != "infra_error":
            answers[number] = answer
    return answers


def _inputs(prompt: Prompt, few_shot: int) -> dict[str, Any]:
    return {"input_data": prompt.text, "chat_history": prompt.history, "few_shot": few_shot}


def _answer(output: dict[str, Any]) -> Answer:
    told = {name: output.get(name) for name in ("answer", "status", "latency_ms", "tokens", "detail", "logprobs")}
    try:
        return Answer.model_validate({**told, "at": datetime.now(UTC)})
    except ValidationError as error:
        raise EvalError(f"The prompt flow gave an output that is no answer: {error.errors()[0]['msg']}.") from error
