"""What a rollout remembers: one small document that outlives the process which runs it.

It is kept beside no process (see `store`), so whoever comes next can go on or take the traffic back.
"""

from datetime import datetime, timedelta
from enum import StrEnum
from typing import Self

from pydantic import Field

from scripts import records
from scripts.rollout.approval import Approval
from scripts.rollout.evidence import Evidence
from scripts.rollout.words import one_line

Weights = dict[str, int]


class Phase(StrEnum):
    PROVISIONING = "PROVISIONING"  # the candidate is to stand, with the model that was judged and enough instances
    SMOKE = "SMOKE"  # requests to it alone
    SHADOW = "SHADOW"  # a copy of the traffic
    AWAIT_APPROVAL = "AWAIT_APPROVAL"
    SET = "SET"  # the weight of this step is to be written
    BAKE = "BAKE"  # it was read back; requests are being judged
    POST_BAKE = "POST_BAKE"  # the same at 100 %
    HELD = "HELD"  # not enough was seen in time, or nothing can be seen: traffic stays, a person is called
    ROLLING_BACK = "ROLLING_BACK"  # stable is to get everything
    ROLLBACK_STUCK = "ROLLBACK_STUCK"  # the same, and it has failed before: a person is called, it goes on trying
    PROMOTED = "PROMOTED"
    ROLLED_BACK = "ROLLED_BACK"


TERMINAL = (Phase.PROMOTED, Phase.ROLLED_BACK)
GOING_BACK = (Phase.ROLLING_BACK, Phase.ROLLBACK_STUCK, Phase.ROLLED_BACK)


class Smoke(records.Part):
    """Requests by direct header: how many in all, and the row of good or of bad ones that they end with."""

    sent: int = Field(default=0, ge=0)
    good_row: int = Field(default=0, ge=0)
    bad_row: int = Field(default=0, ge=0)

    def plus(self, ok: bool) -> Self:
        rows = (self.good_row + 1, 0) if ok else (0, self.bad_row + 1)
        return type(self)(sent=self.sent + 1, good_row=rows[0], bad_row=rows[1])


class RolloutState(records.Record):
    """`rollouts/ENDPOINT.json` in the workspace's storage.

    `stable` is where everything goes when something is wrong ("": to nobody, before a first release). `candidate` is ""
    when a person moved traffic without a rollout. `epoch` rises by one whenever a process takes the state over.
    `plan` are the candidate's weights in order, `step` its index, `since` when the phase began. `standing` and `mirror`
    are the weights last read back, `previous` those before them, `intent` and `intent_mirror` those about to be
    written, `tries` how often. `seen_until`: minutes before it have been counted. `updated_at` is the heartbeat of
    `runner`.
    """

    endpoint: str
    stable: str
    candidate: str
    stable_model: str = ""
    candidate_model: str = ""
    verdict_digest: str = ""
    policy_digest: str = ""
    approval: Approval | None = None
    epoch: int = Field(ge=1)
    runner: str
    phase: Phase
    since: datetime
    plan: list[int] = Field(default_factory=list)
    step: int = Field(default=0, ge=0)
    smoke: Smoke = Smoke()
    slow_ms: float | None = None
    evidence: Evidence = Evidence()
    seen_until: datetime | None = None
    blind_since: datetime | None = None
    held_since: datetime | None = None
    standing: Weights
    mirror: Weights = Field(default_factory=dict)
    previous: Weights | None = None
    intent: Weights | None = None
    intent_mirror: Weights = Field(default_factory=dict)
    tries: int = Field(default=0, ge=0)
    writes: list[records.Write] = Field(default_factory=list)
    steps: list[records.Step] = Field(default_factory=list)
    reason: str
    retain_until: datetime | None = None
    started_at: datetime
    updated_at: datetime

    @property
    def under_way(self) -> bool:
        return self.phase not in TERMINAL

    @property
    def approved_by(self) -> str | None:
        return self.approval.approved_by if self.approval else None

    @property
    def weight(self) -> int:
        """The candidate's weight at this step, in percent; 0 when there is no step."""
        return self.plan[self.step] if self.step < len(self.plan) else 0

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


def tags(at: RolloutState, live: str) -> dict[str, str]:
    """The state mirrored into the endpoint's tags: for people who look there, and for rebuild.py. `live` is the colour
    that is right if nobody knows anything else."""
    return {
        "rollout": at.phase.value,
        "stable": live,
        "rollout-reason": one_line(at.reason),
        "rollout-stable": at.stable,
        "rollout-candidate": at.candidate,
        "rollout-epoch": str(at.epoch),
        "rollout-stable-model": at.stable_model,
        "rollout-candidate-model": at.candidate_model,
        "rollout-verdict": at.verdict_digest,
    }
