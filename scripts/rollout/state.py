"""What a rollout remembers: one small document that outlives the process which runs it.

It is kept beside no process (see `store`), so whoever comes next can go on or take the traffic back.
"""

import os
import socket
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Self

from pydantic import Field

from scripts import records
from scripts.rollout.decide import Outcome, Phase, State

Weights = dict[str, int]
TERMINAL = (Phase.PROMOTED, Phase.ROLLED_BACK)
GOING_BACK = (Phase.ROLLING_BACK, Phase.ROLLED_BACK)
TAG_LENGTH = 200  # Azure takes 256


class Tally(records.Part):
    """All requests of the rollout so far. Fisher's test needs no more, so it goes on after a runner died."""

    candidate_ok: int = Field(default=0, ge=0)
    candidate_failed: int = Field(default=0, ge=0)
    stable_ok: int = Field(default=0, ge=0)
    stable_failed: int = Field(default=0, ge=0)

    def plus(self, outcomes: Sequence[Outcome]) -> Self:
        def count(by_candidate: bool, ok: bool) -> int:
            return sum(each.by_candidate is by_candidate and each.ok is ok for each in outcomes)

        return self.model_copy(
            update={
                "candidate_ok": self.candidate_ok + count(True, True),
                "candidate_failed": self.candidate_failed + count(True, False),
                "stable_ok": self.stable_ok + count(False, True),
                "stable_failed": self.stable_failed + count(False, False),
            }
        )

    def outcomes(self) -> list[Outcome]:
        """The same counts as outcomes; their order is lost and does not matter to the test."""
        return [
            *[Outcome(True, True)] * self.candidate_ok,
            *[Outcome(True, False)] * self.candidate_failed,
            *[Outcome(False, True)] * self.stable_ok,
            *[Outcome(False, False)] * self.stable_failed,
        ]


class RolloutState(records.Record):
    """`rollouts/ENDPOINT.json` in the workspace's storage.

    `stable` is where everything goes when something is wrong ("": to nobody, before a first release). `candidate` is ""
    when a person moved traffic without a rollout. `epoch` rises by one whenever a process takes the state over.
    `plan` are the candidate's weights in order, `step` its index; `standing` the weights last read back; `intent` those
    about to be written. `updated_at` is the heartbeat of `runner`.
    """

    endpoint: str
    stable: str
    candidate: str
    stable_model: str = ""
    candidate_model: str = ""
    verdict_digest: str = ""
    approved_by: str | None = None
    epoch: int = Field(ge=1)
    runner: str
    phase: Phase
    plan: list[int] = Field(default_factory=list)
    step: int = Field(default=0, ge=0)
    looks: int = Field(default=0, ge=0)
    tally: Tally = Tally()
    standing: Weights
    intent: Weights | None = None
    writes: list[records.Write] = Field(default_factory=list)
    steps: list[records.Step] = Field(default_factory=list)
    reason: str
    started_at: datetime
    updated_at: datetime

    @property
    def under_way(self) -> bool:
        return self.phase not in TERMINAL

    @property
    def weight(self) -> int:
        """The candidate's weight at this step, in percent; 0 when there is no step."""
        return self.plan[self.step] if self.step < len(self.plan) else 0

    def decider(self) -> State:
        return State(self.phase, self.step, self.looks, self.reason)

    def split(self, weight: int) -> Weights:
        """The map to write for a weight of the candidate; {} takes everything from everybody."""
        if not self.stable:
            return {self.candidate: weight} if weight else {}
        return {self.stable: 100 - weight, self.candidate: weight}

    def silent_for(self, now: datetime) -> timedelta:
        return now - self.updated_at

    def changed(self, **changes: object) -> Self:
        """A checked copy with a fresh heartbeat."""
        return type(self).model_validate({**dict(self), "updated_at": records.now(), **changes})

    def whose(self, now: datetime) -> str:
        """Who runs it and how fresh that is, for a sentence."""
        minutes = int(self.silent_for(now).total_seconds() // 60)
        return f"run by {self.runner}, last heard of {minutes} minutes ago"


def nonzero(weights: Weights) -> Weights:
    return {name: weight for name, weight in weights.items() if weight}


def all_to(colour: str) -> Weights:
    """Everything to one colour; "" is nobody."""
    return {colour: 100} if colour else {}


def runner() -> str:
    """Where this process runs: the workflow run's address, elsewhere host:pid."""
    return run_url() or f"{socket.gethostname()}:{os.getpid()}"


def run_url() -> str:
    """The address of this workflow run; "" outside of one."""
    parts = [os.environ.get(name, "") for name in ("GITHUB_SERVER_URL", "GITHUB_REPOSITORY", "GITHUB_RUN_ID")]
    return "{}/{}/actions/runs/{}".format(*parts) if all(parts) else ""


def whole(text: str) -> str:
    """A person's text as it can be kept in a record: bytes that are no text are replaced, nothing is cut."""
    return text.encode("utf-8", "replace").decode("utf-8")


def one_line(text: str) -> str:
    """A person's text for a tag, an output or a sentence: one line of printable characters, cut."""
    line = " ".join("".join(c if c.isprintable() else " " for c in whole(text)).split())
    return line if len(line) <= TAG_LENGTH else line[: TAG_LENGTH - 1] + "…"


def tags(phase: Phase, stable: str, reason: str) -> dict[str, str]:
    """The state mirrored into the endpoint's tags, for people who look there."""
    return {"rollout": phase.value, "stable": stable, "rollout-reason": one_line(reason)}
