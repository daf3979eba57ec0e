"""The way back: `rollback` and `rollout abort`. Works while a rollout runs, waits, or has died.

First the state says that everything goes back, so that whoever runs the rollout learns it before the next raise; then
the weights are written, and looked at again a little later, because a write of the other process may have been on its
way to Azure.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from scripts import records
from scripts.errors import AzureFailed, InvalidInput, Refused
from scripts.front import Front
from scripts.rollout import state
from scripts.rollout.state import Phase, RolloutState, Weights, all_to, nonzero
from scripts.rollout.store import Fenced, Store, Tenure, claim
from scripts.rollout.words import one_line, runner, whole

ROLLBACK_TRIES = 5
RETRY_SECONDS = 5.0  # times the number of the try: Azure refuses a write while another one is under way
GRACE_SECONDS = 5.0


class Rollback(records.Record):
    """`rollback.json`: who took the traffic back to where, and why. `to` is "" when nobody gets any.

    `state_kept`: whether the rollout's state says so too (storage may be what failed).
    """

    endpoint: str
    to: str
    was: Weights
    traffic: Weights
    reason: str
    runner: str
    epoch: int | None
    state_kept: bool
    at: datetime


@dataclass(frozen=True)
class Wish:
    """What a person asks for. `to` None: where the state says; `only_under_way`: Refused when no rollout is."""

    reason: str
    to: str | None = None
    only_under_way: bool = False


def give_all(endpoint: Front, to: str, tags: dict[str, str], tell: Callable[[str], None]) -> Weights:
    """Everything to one colour ("" is nobody), several tries; the weights read back. Raises the last AzureFailed."""
    for attempt in range(1, ROLLBACK_TRIES + 1):
        try:
            # Names with weight 0 show in Azure what was taken; a map that names a deleted deployment is refused.
            named = dict.fromkeys(endpoint.traffic(), 0) if to and attempt == 1 else {}
            return endpoint.set_traffic({**named, **all_to(to)}, tags)
        except AzureFailed as error:
            if attempt == ROLLBACK_TRIES:
                raise
            tell(f"  the way back failed, trying again: {error}")
            time.sleep(RETRY_SECONDS * attempt)
    raise AssertionError("unreachable")


def roll_back(
    endpoint: Front,
    store: Callable[[], Store],
    wish: Wish,
    tell: Callable[[str], None],
    *,
    grace_seconds: float = GRACE_SECONDS,
) -> Rollback:
    """Raises InvalidInput for a colour that is not deployed, Refused when it is not known where back is, AzureFailed
    when the weights do not read back. Storage that fails does not stop a rollback that names its colour."""
    if wish.to is not None and not endpoint.exists(wish.to):
        raise InvalidInput(
            f"Endpoint {endpoint.name} has no deployment {wish.to}: choose one of {sorted(endpoint.deployments())}."
        )
    reason, was = whole(wish.reason), endpoint.traffic()
    tenure: Tenure | None = None
    try:
        tenure = claim(
            store(), lambda found: going_back(found, destination(found, wish, endpoint), reason, endpoint.name, was)
        )
    except AzureFailed as error:
        if wish.to is None:
            raise AzureFailed(f"{error} To roll back without the state, name the colour with --to.") from error
        tell(f"  the state could not be kept: {error}")
    to = tenure.state.stable if tenure else str(wish.to)
    return write_back(endpoint, tenure, to, reason, was, tell, grace_seconds)


def destination(found: RolloutState | None, wish: Wish, endpoint: Front) -> str:
    """The colour that everything goes back to. Raises Refused, InvalidInput when the state does not say."""
    if wish.only_under_way and not (found and found.under_way):
        raise Refused(
            f"No rollout of {endpoint.name} is under way: `python -m scripts rollback` takes a finished one back."
        )
    if wish.to is not None:
        return wish.to
    if found is None:
        raise InvalidInput(
            f"There has been no rollout on {endpoint.name}, so nobody knows what back is: "
            f"name the colour with --to, one of {sorted(endpoint.deployments())}."
        )
    if found.phase is Phase.PROMOTED and (why := not_as_it_was(found, endpoint)):
        raise Refused(f"{why}: name the colour with --to, one of {sorted(endpoint.deployments())}.")
    return found.stable


def not_as_it_was(found: RolloutState, endpoint: Front) -> str:
    """Why the colour that was stable before a promotion cannot simply be gone back to; "" when it can.

    The next candidate may have been deployed on it since, and nobody has judged that one.
    """
    if not found.stable:
        return f"{found.candidate} was the first release, there is nothing before it"
    if not endpoint.exists(found.stable):
        return f"Deployment {found.stable}, which was stable before, is gone"
    if found.stable_model and endpoint.deployment_digest(found.stable) != found.stable_model:
        return f"Deployment {found.stable}, which was stable before, runs another model now"
    return ""


def going_back(found: RolloutState | None, to: str, reason: str, endpoint: str, was: Weights) -> RolloutState:
    """The state that says: everything goes back to `to`. Pure but for clock and process."""
    now = records.now()
    write = records.Write(at=now, traffic={**dict.fromkeys(was, 0), **all_to(to)} if to else {})
    if found is None:  # no rollout, but one that begins now must learn that a person moved traffic
        return RolloutState(
            endpoint=endpoint,
            stable=to,
            candidate="",
            epoch=1,
            runner=runner(),
            phase=Phase.ROLLING_BACK,
            since=now,
            standing=nonzero(was),
            intent=all_to(to),
            tries=1,
            writes=[write],
            reason=reason,
            started_at=now,
            updated_at=now,
        )
    return found.changed(
        stable=to,
        epoch=found.epoch + 1,
        runner=runner(),
        phase=Phase.ROLLING_BACK,
        since=now,
        intent=all_to(to),
        intent_mirror={},
        tries=1,
        writes=[*found.writes, write],
        reason=reason,
    )


def write_back(
    endpoint: Front,
    tenure: Tenure | None,
    to: str,
    reason: str,
    was: Weights,
    tell: Callable[[str], None],
    grace_seconds: float,
) -> Rollback:
    """Write, look again after a while, write again if need be, confirm in the state. Raises AzureFailed."""
    said = {"stable": to, "rollback": one_line(reason)}
    tags = {**state.tags(tenure.state.changed(phase=Phase.ROLLED_BACK), to), **said} if tenure else said
    for _ in range(ROLLBACK_TRIES):
        give_all(endpoint, to, tags, tell)
        time.sleep(grace_seconds)
        seen = endpoint.traffic()
        if seen == all_to(to):
            break
        tell(f"  somebody wrote {seen} meanwhile, writing again")
    else:
        raise AzureFailed(f"Endpoint {endpoint.name} does not stay on {to or 'no traffic'}: it says {seen}.")
    kept = tenure is not None and _confirmed(tenure, to, tell)
    return Rollback(
        endpoint=endpoint.name,
        to=to,
        was=was,
        traffic=seen,
        reason=reason,
        runner=runner(),
        epoch=tenure.state.epoch if tenure else None,
        state_kept=kept,
        at=records.now(),
    )


def _confirmed(tenure: Tenure, to: str, tell: Callable[[str], None]) -> bool:
    try:
        tenure.put(phase=Phase.ROLLED_BACK, intent=None, standing=all_to(to), mirror={}, tries=0)
    except (Fenced, AzureFailed) as error:  # traffic is back; another way back may be under way as well
        tell(f"  {error}")
        return False
    return True
