"""Who is told when something goes wrong: an action group with the addresses of the settings, and the data's alerts.

Receivers that a person added in the portal stay, and so does an alert that a person switched off.
"""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from azure.core.exceptions import ResourceNotFoundError

from scripts.provision import names
from scripts.provision.alert_data import Alert, limit, means, wanted
from scripts.provision.place import LEARNING, Place
from scripts.provision.resource import Resource

NOBODY = "nobody will be told, unless somebody adds a receiver by hand: write `alert_emails` into the settings file"
OURS = "settings: "  # how the names of receivers begin that come from the settings
SHORT_NAME = 12  # Azure takes no more; it is the sender's name in text messages
KINDS = {"endpoint": f"{LEARNING}/workspaces/onlineEndpoints", "workspace": f"{LEARNING}/workspaces"}
SCOPES: dict[str, Callable[[Place], str]] = {
    "endpoint": lambda place: place.endpoint_id,
    "workspace": lambda place: place.workspace_id,
}


def resources(place: Place) -> list[Resource]:
    """The action group, then the alerts that call it."""
    return [action_group(place), *(metric_alert(place, each) for each in wanted(place.settings))]


def action_group(place: Place) -> Resource:
    settings, known = place.settings, place.monitor.action_groups
    group, name = settings.resource_group, names.action_group(settings)

    def receivers(found: Any, *, ours: bool) -> list[Any]:
        every = getattr(found, "email_receivers", None) or []
        return [each for each in every if str(each.name).startswith(OURS) is ours]

    def create() -> None:
        from azure.mgmt.monitor.models import ActionGroupResource, EmailReceiver

        try:
            made = known.get(group, name)
        except ResourceNotFoundError:
            made = ActionGroupResource(location="Global", tags=names.MADE_BY, enabled=True)
            made.group_short_name = settings.endpoint[:SHORT_NAME]
        kept = {str(each.email_address): each for each in receivers(made, ours=True)}
        new = [
            kept.get(address) or EmailReceiver(name=OURS + address, email_address=address, use_common_alert_schema=True)
            for address in settings.alert_emails
        ]
        made.email_receivers = [*receivers(made, ours=False), *new]
        known.create_or_update(group, name, made)

    return Resource(
        "action group",
        name,
        lambda: known.get(group, name),
        create,
        where=group,
        why=f"tells {', '.join(settings.alert_emails)} of alerts" if settings.alert_emails else NOBODY,
        differs=lambda found: (
            {str(each.email_address) for each in receivers(found, ours=True)} != set(settings.alert_emails)
        ),
        stays=names.foreign,
        remove=lambda: known.delete(group, name),
    )


def metric_alert(place: Place, alert: Alert) -> Resource:
    known, group = place.monitor.metric_alerts, place.settings.resource_group
    name = names.alert(place.settings, alert.name)

    def create() -> None:
        made = rule(place, alert)
        there = resource.found()
        made.enabled = getattr(there, "enabled", True)
        known.create_or_update(group, name, made)

    resource = Resource(
        "metric alert",
        name,
        lambda: known.get(group, name),
        create,
        where=place.settings.endpoint if alert.of == "endpoint" else place.settings.workspace,
        why=means(place.settings, alert),
        differs=lambda found: _essence(found) != _essence(rule(place, alert)),
        stays=names.foreign,
        remove=lambda: known.delete(group, name),
    )
    return resource


def rule(place: Place, alert: Alert) -> Any:
    """The alert as Azure wants it. Its description is in the e-mail, so it says what to do."""
    from azure.mgmt.monitor import models

    criterion = models.MetricCriteria(
        name=alert.name,
        metric_name=alert.metric,
        metric_namespace=KINDS[alert.of],
        time_aggregation=alert.aggregation,
        operator="GreaterThan",
        threshold=limit(place.settings, alert),
        dimensions=[
            models.MetricDimension(name=name, operator="Include", values=values)
            for name, values in alert.dimensions.items()
        ],
    )
    return models.MetricAlertResource(
        location="global",
        tags=names.MADE_BY,
        description=f"{means(place.settings, alert)}. What to do: {alert.todo}."[:1000],
        severity=alert.severity,
        enabled=True,
        auto_mitigate=True,
        scopes=[SCOPES[alert.of](place)],
        evaluation_frequency=timedelta(minutes=alert.every),
        window_size=timedelta(minutes=alert.minutes),
        criteria=models.MetricAlertSingleResourceMultipleMetricCriteria(all_of=[criterion]),
        actions=[models.MetricAlertAction(action_group_id=place.action_group_id)],
    )


def _essence(alert: Any) -> tuple[Any, ...]:
    """What makes one alert another, but whether it is switched on: that is for people."""
    criteria = [
        (
            *(
                str(part).lower()
                for part in (one.metric_name, one.metric_namespace, one.time_aggregation, one.operator)
            ),
            float(one.threshold),
            sorted((each.name, *sorted(each.values)) for each in one.dimensions or []),
        )
        for one in getattr(alert.criteria, "all_of", None) or []
    ]
    called = sorted(str(each.action_group_id).lower() for each in alert.actions or [])
    scopes = sorted(str(each).lower() for each in alert.scopes or [])
    times = alert.severity, alert.evaluation_frequency, alert.window_size, alert.description
    return criteria, called, scopes, times
