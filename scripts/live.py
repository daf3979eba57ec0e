"""`live`: which colour has the traffic, what it runs, and which colour is free for a candidate."""

from collections.abc import Mapping

from scripts import records
from scripts.endpoint import Endpoint
from scripts.errors import Refused
from scripts.settings import Settings

COLOURS = ("blue", "green")


def idle_colour(traffic: Mapping[str, int], mirror: Mapping[str, int] | None = None) -> tuple[str, str]:
    """(stable, idle): the deployment with all the traffic ("" before the first release) and the free colour.

    Raises Refused while traffic is split: then neither colour is free.
    """
    taken = {name for name, weight in {**(mirror or {}), **traffic}.items() if weight}
    free = [colour for colour in COLOURS if colour not in taken]
    live = [name for name, weight in traffic.items() if weight]
    if len(live) > 1 or not free:
        split = ", ".join(f"{name} {weight}%" for name, weight in traffic.items())
        raise Refused(f"Traffic is split ({split}): a rollout is under way; wait for its end or roll it back.")
    return (live[0] if live else ""), free[0]


def live(settings: Settings) -> records.Live:
    """Ask Azure. Raises Refused while traffic is split, AzureFailed as Azure does."""
    endpoint = Endpoint(settings)
    stable, idle = idle_colour(endpoint.traffic())
    model = endpoint.deployed_model(stable) if stable else None
    return records.Live(endpoint=endpoint.name, stable=stable, idle=idle, model=model)
