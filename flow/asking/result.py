"""What came of asking: one record, whatever happened. A failure is a result, so that a batch keeps every row."""

from dataclasses import dataclass
from typing import Literal

# ok; blocked: a content filter refused the prompt or the answer; model_error: the model's own fault, counts against it;
# infra_error: the network's, the gateway's or the sign-in's, counts against nobody.
Status = Literal["ok", "blocked", "model_error", "infra_error"]


@dataclass(frozen=True)
class Result:
    """`latency_ms` is the wall time of the last attempt in milliseconds, `tokens` counts prompt and answer.

    `answer` is empty unless `status` is ok. `detail` says in a sentence why there is none. `logprobs` is a JSON list
    with a number per token, or "". `deployment` and `model` are who answered, as the endpoint says ("" where it does
    not), `answer_id` is what the endpoint calls this answer when somebody has an opinion of it. `repair`: "repaired" or
    "failed" where the model was asked twice (repair.py); `latency_ms` and `tokens` are then sums, and `attempts` has
    both of each.
    """

    answer: str
    status: Status
    latency_ms: float = 0.0
    tokens: int = 0
    logprobs: str = ""
    detail: str = ""
    deployment: str = ""
    model: str = ""
    finish_reason: str = ""
    answer_id: str = ""
    repair: str = ""
    attempts: tuple[tuple[float, int], ...] = ()


class NoAnswer(Exception):
    """The endpoint gave no answer that says anything about the model; str() is the sentence why.

    `retry`: asking again may help. `after`: seconds that the endpoint asked us to wait.
    """

    def __init__(self, detail: str, *, retry: bool = True, after: float = 0.0) -> None:
        super().__init__(detail)
        self.retry = retry
        self.after = after
