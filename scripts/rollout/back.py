"""`rollback`: one colour gets everything, now. Works whatever a rollout is doing."""

from scripts import records
from scripts.endpoint import Endpoint
from scripts.errors import InvalidInput
from scripts.settings import Settings


class Rollback(records.Record):
    """`rollback.json`: who took the traffic back to where, and why."""

    endpoint: str
    was: dict[str, int]
    traffic: dict[str, int]
    reason: str


def roll_back(settings: Settings, colour: str, reason: str) -> Rollback:
    """Raises InvalidInput for a colour that is not deployed, AzureFailed when the weights do not read back."""
    endpoint = Endpoint(settings)
    if not endpoint.exists(colour):
        raise InvalidInput(
            f"Endpoint {endpoint.name} has no deployment {colour}: choose one of {sorted(endpoint.deployments())}."
        )
    was = endpoint.traffic()
    traffic = endpoint.set_traffic({**dict.fromkeys(was, 0), colour: 100}, {"stable": colour, "rollback": reason[:200]})
    return Rollback(endpoint=endpoint.name, was=was, traffic=traffic, reason=reason)
