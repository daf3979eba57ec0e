"""Autoscale of the live colour: one owner of the instance count at a time.

While a rollout is under way the count is the rollout's: it gives the candidate as many instances as the stable has, and
the stable keeps what it has, because the way back needs them and autoscale takes minutes. So nobody has a rule then.
Otherwise the colour with all the traffic has its tier's rule, and no other colour has one.
"""

from collections.abc import Callable, Mapping
from typing import Any

from azure.core.exceptions import ResourceNotFoundError

from scripts import azure_ml
from scripts.endpoint import Endpoint
from scripts.errors import AzureFailed
from scripts.provision import names
from scripts.settings import Scale, ScaleRule, Settings

PROFILE = "load"


def owner(weights: Mapping[str, int], *, rolling_out: bool) -> str:
    """The colour that has a rule; "" for none. Pure."""
    live = [name for name, weight in weights.items() if weight == 100]
    return live[0] if live and not rolling_out else ""


def settle(settings: Settings, *, rolling_out: bool) -> str:
    """Bring the rules in line, and return whose is on. Touches nothing where the settings scale nothing.

    Raises AzureFailed.
    """
    scale = settings.serving.scale
    if not scale.on:
        return ""
    from azure.mgmt.monitor import MonitorManagementClient

    endpoint = Endpoint(settings)
    deployed = endpoint.deployments()
    mine = owner(endpoint.traffic(), rolling_out=rolling_out)
    known = MonitorManagementClient(azure_ml.credential(), settings.subscription_id).autoscale_settings
    for name, deployment in deployed.items():
        what = setting_name(settings, name)
        with azure_ml.explained(f"Setting the autoscale of {name}"):
            if name == mine:
                wanted = setting(settings, str(deployment.id), scale)
                known.create_or_update(settings.resource_group, what, wanted)
            else:
                try:
                    known.delete(settings.resource_group, what)
                except ResourceNotFoundError:
                    continue
    return mine


def settle_or_tell(settings: Settings, tell: Callable[[str], None]) -> None:
    """The same where traffic has moved already: that it cannot scale by itself undoes nothing, but is said."""
    try:
        settle(settings, rolling_out=False)
    except AzureFailed as error:
        tell(f"  the live colour has no autoscale rule: {error}")


def setting_name(settings: Settings, colour: str) -> str:
    return f"{settings.endpoint}-{colour}"


def setting(settings: Settings, deployment_id: str, scale: Scale) -> dict[str, Any]:
    """The setting as Azure Monitor takes it. Its default is what it falls back to when it can read no metric."""
    rules = [
        _rule(deployment_id, scale, rule, direction)
        for rule, direction in ((scale.out, "Increase"), (scale.back, "Decrease"))
        if rule
    ]
    capacity = {"minimum": scale.min_instances, "maximum": scale.max_instances}
    capacity["default"] = settings.serving.instance_count
    return {
        "location": settings.location,
        "tags": names.MADE_BY,
        "properties": {
            "enabled": True,
            "targetResourceUri": deployment_id,
            "profiles": [
                {"name": PROFILE, "capacity": {key: str(value) for key, value in capacity.items()}, "rules": rules}
            ],
        },
    }


def _rule(deployment_id: str, scale: Scale, rule: ScaleRule, direction: str) -> dict[str, Any]:
    return {
        "metricTrigger": {
            "metricName": scale.metric,
            "metricResourceUri": deployment_id,
            "timeGrain": _iso(1),
            "statistic": "Average",
            "timeWindow": _iso(rule.minutes),
            "timeAggregation": "Average",
            "operator": "GreaterThan" if direction == "Increase" else "LessThan",
            "threshold": rule.threshold,
        },
        "scaleAction": {
            "direction": direction,
            "type": "ChangeCount",
            "value": str(rule.instances),
            "cooldown": _iso(rule.cooldown_minutes),
        },
    }


def _iso(minutes: int) -> str:
    return f"PT{minutes}M"
