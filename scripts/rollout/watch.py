"""`watchdog`: take back what nobody looks after any more. The decision is pure; on most days it is to do nothing."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Literal

from scripts import records
from scripts.errors import Refused
from scripts.front import Front
from scripts.rollout import back
from scripts.rollout.state import Phase, RolloutState, Weights, all_to, nonzero
from scripts.rollout.store import Store, claim


class Watch(records.Record):
    """`watchdog.json`."""

    endpoint: str
    action: Literal["none", "taken-back"]
    reason: str
    traffic: Weights
    at: datetime


class Verb(StrEnum):
    NONE = "none"
    TAKE_BACK = "take back"
    ASK = "ask"  # no colour is known to be right: a person must say


@dataclass(frozen=True)
class Seen:
    """What the endpoint says. `tag`: its `stable` tag if that colour is deployed, else "".

    `stable_as_judged`, `candidate_as_judged`: the colour still runs the model that the state's verdict is about.
    """

    weights: Weights
    tag: str = ""
    stable_as_judged: bool = True
    candidate_as_judged: bool = True


@dataclass(frozen=True)
class Decision:
    verb: Verb
    reason: str
    to: str = ""


def decide(found: RolloutState | None, seen: Seen, now: datetime, stale: timedelta) -> Decision:
    """What the watchdog does about this state and these weights."""
    live = nonzero(seen.weights)
    if found is None:
        return _without_state(live, seen)
    if not found.under_way:
        return _promoted(found, live, seen) if found.phase is Phase.PROMOTED else _taken_back(found, live, seen)
    if found.silent_for(now) <= stale:
        return Decision(Verb.NONE, f"a rollout of {found.candidate} is under way, {found.whose(now)}")
    why = f"the rollout was abandoned in {found.phase.value}, {found.whose(now)}"
    return Decision(Verb.TAKE_BACK, why, found.stable)


def _without_state(live: Weights, seen: Seen) -> Decision:
    if len(live) <= 1:
        return Decision(Verb.NONE, "no rollout has run and traffic is not split")
    if seen.tag:
        return Decision(Verb.TAKE_BACK, f"traffic is split {live} without a rollout (drift)", seen.tag)
    return Decision(Verb.ASK, f"Traffic is split {live} without a rollout, and no tag says which colour is stable")


def _taken_back(found: RolloutState, live: Weights, seen: Seen) -> Decision:
    if live == all_to(found.stable):
        return Decision(Verb.NONE, f"the last rollout was taken back and {found.stable or 'nobody'} has all traffic")
    # After a first release was taken back, a person may have released something else by hand.
    if not found.stable and len(live) == 1 and not (found.candidate in live and seen.candidate_as_judged):
        return Decision(Verb.NONE, f"traffic is {live} after a first release that was taken back")
    return Decision(Verb.TAKE_BACK, f"the rollout was taken back, but traffic is {live} (drift)", found.stable)


def _promoted(found: RolloutState, live: Weights, seen: Seen) -> Decision:
    if len(live) <= 1:
        return Decision(Verb.NONE, f"the last rollout has ended and traffic is {live}")
    why = f"Traffic is split {live} after the rollout of {found.candidate} had ended (drift)"
    # The promoted colour is what is stable now, as long as it is the model that was promoted.
    for colour, as_judged in ((found.candidate, seen.candidate_as_judged), (found.stable, seen.stable_as_judged)):
        if as_judged and colour:
            return Decision(Verb.TAKE_BACK, why, colour)
    return Decision(Verb.ASK, why)


def observe(endpoint: Front, found: RolloutState | None) -> Seen:
    """Look at the endpoint; digests are asked for only where the decision needs them."""
    weights = endpoint.traffic()
    deployed = endpoint.deployments()
    if found is None:
        tag = endpoint.tags().get("stable", "")
        return Seen(weights, tag if tag in deployed else "")
    if found.under_way:
        return Seen(weights)
    return Seen(
        weights,
        "",
        not back.not_as_it_was(found, endpoint),
        found.candidate in deployed and endpoint.deployment_digest(found.candidate) == found.candidate_model,
    )


def watch(
    endpoint: Front,
    store: Store,
    stale: timedelta,
    tell: Callable[[str], None],
    *,
    grace_seconds: float = back.GRACE_SECONDS,
) -> Watch:
    """Raises Refused when traffic is wrong and no colour is known to be right, AzureFailed as Azure does."""
    last = Decision(Verb.NONE, "")
    was: Weights = {}

    def choose(found: RolloutState | None) -> RolloutState | None:
        nonlocal last, was
        seen = observe(endpoint, found)
        last, was = decide(found, seen, records.now(), stale), seen.weights
        if last.verb is Verb.ASK:
            raise Refused(f'{last.reason}: say which with `python -m scripts rollback --to COLOUR --reason "…"`.')
        if last.verb is Verb.NONE:
            return None
        return back.going_back(found, last.to, f"watchdog: {last.reason}", endpoint.name, was)

    tenure = claim(store, choose)
    if tenure is None:
        return Watch(endpoint=endpoint.name, action="none", reason=last.reason, traffic=was, at=records.now())
    done = back.write_back(endpoint, tenure, last.to, tenure.state.reason, was, tell, grace_seconds)
    return Watch(endpoint=done.endpoint, action="taken-back", reason=last.reason, traffic=done.traffic, at=done.at)
