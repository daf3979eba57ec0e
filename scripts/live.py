"""`live`: which colour has the traffic, what it runs, and which colour is free for a candidate."""

from collections.abc import Mapping

from scripts import records
from scripts.endpoint import Endpoint
from scripts.errors import Refused
from scripts.settings import Settings

COLOURS = ("blue", "green")


def idle_colour(traffic: Mapping[str, int]) -> tuple[str, str]:
    """(stable, idle): the deployment with all the traffic ("" before the first release) and the free colour.

    Raises Refused while traffic is split: then neither colour is free.
    """
    live = [name for name, weight in traffic.items() if weight]
    free = [colour for colour in COLOURS if colour not in live]
    if len(live) > 1:
        split = ", ".join(f"{name} {weight}%" for name, weight in traffic.items())
        raise Refused(f"Traffic is split ({split}): a rollout is under way; wait for its end or roll it back.")
    return (live[0] if live else ""), free[0]


def colours(settings: Settings, endpoint: Endpoint) -> tuple[str, str]:
    """(stable, idle) of the endpoint as it is; while a rollout is under way, its stable and its candidate.

    So a release whose runner died with traffic on the candidate, all of it even, finds its own candidate again. Raises
    Refused when traffic is split and no rollout says why, AzureFailed when the rollout's state cannot be read.
    """
    traffic = endpoint.traffic()
    return unsettled(settings, traffic) or idle_colour(traffic)


def unsettled(settings: Settings, traffic: Mapping[str, int]) -> tuple[str, str] | None:
    """(stable, candidate) of a rollout that is under way and has made this traffic; None where there is none."""
    from scripts.rollout.store import BlobStore

    held = BlobStore(settings).read() if traffic else None
    if held and held.state.under_way and set(traffic) <= {held.state.stable, held.state.candidate}:
        return held.state.stable, held.state.candidate
    return None


def live(settings: Settings) -> records.Live:
    """Ask Azure. Raises Refused while traffic is split without a rollout, AzureFailed as Azure does."""
    endpoint = Endpoint(settings)
    stable, idle = colours(settings, endpoint)
    model = endpoint.deployed_model(stable) if stable else None
    return records.Live(
        endpoint=endpoint.name,
        stable=stable,
        idle=idle,
        model=model,
        scoring_uri=endpoint.scoring_uri(),
        deployments={name: model_name(str(each.model)) for name, each in sorted(endpoint.deployments().items())},
    )


def model_name(identity: str) -> str:
    """NAME:VERSION of a model's ARM id, which ends in …/models/NAME/versions/VERSION; "" for anything else."""
    parts = identity.split("/")[-4:]
    return f"{parts[1]}:{parts[3]}" if len(parts) == 4 and parts[::2] == ["models", "versions"] else ""
