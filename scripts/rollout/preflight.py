"""What is looked at before a rollout has a state: when one of these fails, nothing has been touched."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from scripts import room
from scripts.errors import AzureFailed, Refused
from scripts.front import Front
from scripts.rollout.monitor import monitor_of
from scripts.rollout.observation import STANDS
from scripts.rollout.policy import Policy
from scripts.settings import Settings

if TYPE_CHECKING:
    from eval.verdict import Verdict

LOOK_BACK = timedelta(minutes=10)


def whole(endpoint: Front, *colours: str) -> None:
    """Raises Refused for a deployment that Azure does not call whole: to it, or back to it, nothing can be moved."""
    deployed = endpoint.deployments()
    for name in filter(None, colours):
        state = getattr(deployed.get(name), "provisioning_state", "not there")
        if state != STANDS:
            told = getattr(state, "value", state)
            raise Refused(f"Deployment {name} is {told}: a rollout begins when both colours are {STANDS}.")


def fresh(verdict: "Verdict", policy: Policy, now: datetime) -> None:
    """Raises Refused for a verdict that is older than the policy allows: what it compared may have changed since."""
    age = now - datetime.fromisoformat(verdict.created_at)
    if age > timedelta(hours=policy.verdict_max_age_hours):
        raise Refused(
            f"The verdict is from {verdict.created_at[:16].replace('T', ' ')}, older than "
            f"{policy.verdict_max_age_hours:g} hours: evaluate and gate again."
        )


def roomy(settings: Settings, endpoint: Front, stable: str, candidate: str, least: int = 1) -> None:
    """Raises Refused when the quota has no room for as many instances of the candidate as the stable has, or for the
    `least` that autoscale gives to what is live."""
    deployed = endpoint.deployments()
    mine, other = deployed[candidate], deployed.get(stable)
    have, need = int(mine.instance_count or 1), max(int(other.instance_count or 1) if other else 1, least)
    if need > have:
        room.check(settings, f"Deployment {candidate} at 100 %", str(mine.instance_type), need, have)


def by_azure(settings: Settings, front: Front, policy: Policy) -> Callable[[str, str, datetime], None]:
    """A check that the candidate can be given all the instances it will need, and that the requests of both colours can
    be counted; where there are no weights there is neither. Raises Refused with what Azure said."""

    def check(stable: str, candidate: str, now: datetime) -> None:
        if not front.weighs:
            return
        roomy(settings, front, stable, candidate, settings.serving.scale.min_instances)
        if policy.evidence != "users":
            return
        try:
            colours = [name for name in (stable, candidate) if name]
            monitor_of(settings, settings.endpoint).minutes(colours, now - LOOK_BACK, now)
        except AzureFailed as error:
            raise Refused(f"Nobody could see how the candidate does, so no traffic moves: {error}") from error

    return check
