"""Alerts and resource providers of the local Azure ML, through azure-mgmt-monitor: taken and refused as Azure does."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from azure.core.exceptions import HttpResponseError

from emulator.providers import ASKED, Unregistered
from tests.emulator.conftest import GROUP, WORKSPACE

SUB = "/subscriptions/s"
ML = "Microsoft.MachineLearningServices"


@pytest.fixture(scope="module")
def monitor(ml_client: Any, credential: Any, emulator_env: dict[str, str]) -> Any:  # noqa: ARG001 (its workspace)
    from azure.mgmt.monitor import MonitorManagementClient

    return MonitorManagementClient(credential, emulator_env["AZURE_SUBSCRIPTION_ID"])


def rule(subscription: str, **changes: Any) -> Any:
    from azure.mgmt.monitor import models

    given = {"metric": "Failed Runs", "aggregation": "Total", "dimensions": [], "scope": WORKSPACE, "minutes": 15}
    given |= {"location": "global", "severity": 2, **changes}
    criterion = models.MetricCriteria(
        name="one",
        metric_name=given["metric"],
        metric_namespace=f"{ML}/workspaces",
        time_aggregation=given["aggregation"],
        operator="GreaterThan",
        threshold=0.0,
        dimensions=[
            models.MetricDimension(name=name, operator="Include", values=["x"]) for name in given["dimensions"]
        ],
    )
    scope = f"/subscriptions/{subscription}/resourceGroups/{GROUP}/providers/{ML}/workspaces/{given['scope']}"
    return models.MetricAlertResource(
        location=given["location"],
        severity=given["severity"],
        enabled=True,
        scopes=[scope],
        evaluation_frequency=timedelta(minutes=5),
        window_size=timedelta(minutes=given["minutes"]),
        criteria=models.MetricAlertSingleResourceMultipleMetricCriteria(all_of=[criterion]),
    )


def test_an_alert_is_kept_listed_and_deleted(monitor: Any, emulator_env: dict[str, str]) -> None:
    known, wanted = monitor.metric_alerts, rule(emulator_env["AZURE_SUBSCRIPTION_ID"])
    known.create_or_update(GROUP, "failed", wanted)
    [found] = known.list_by_resource_group(GROUP)
    assert (found.name, found.window_size) == ("failed", timedelta(minutes=15))
    known.delete(GROUP, "failed")
    assert not list(known.list_by_resource_group(GROUP))


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"metric": "Failing Runs"}, "Couldn't find a metric named Failing Runs"),
        ({"aggregation": "Median"}, "has no Median"),
        ({"dimensions": ["Colour"]}, "has no dimension Colour"),
        ({"scope": "ws-nobody"}, "was not found"),
        ({"minutes": 1}, "windowSize"),
        ({"minutes": 7}, "windowSize"),
        ({"severity": 5}, "severity"),
        ({"location": "eastus2"}, "global"),
    ],
)
def test_an_alert_that_could_never_fire_is_refused(
    monitor: Any, emulator_env: dict[str, str], changes: dict[str, Any], why: str
) -> None:
    with pytest.raises(HttpResponseError, match=why):
        monitor.metric_alerts.create_or_update(GROUP, "bad", rule(emulator_env["AZURE_SUBSCRIPTION_ID"], **changes))


def test_an_action_group_needs_a_short_name_and_addresses(monitor: Any) -> None:
    from azure.mgmt.monitor.models import ActionGroupResource, EmailReceiver

    def make(short: str, *addresses: str) -> Any:
        made = ActionGroupResource(location="Global", group_short_name=short, enabled=True)
        made.email_receivers = [EmailReceiver(name=each, email_address=each) for each in addresses]
        return monitor.action_groups.create_or_update(GROUP, "ag", made)

    for short, addresses, why in (
        ("longer than twelve", ("a@b.example",), "1 to 12"),
        ("short", ("on-call",), "not a valid email"),
        ("short", ("a@b.example", "a@b.example"), "unique"),
    ):
        with pytest.raises(HttpResponseError, match=why):
            make(short, *addresses)
    assert [each.status for each in make("short", "a@b.example").email_receivers] == ["Enabled"]


@pytest.mark.parametrize(
    ("path", "provider"),
    [
        (f"{SUB}/resourceGroups/g/providers/{ML}/workspaces/w", ML),
        (f"{SUB}/providers/{ML}/locations/eastus2/usages", ML),
        (
            f"{SUB}/resourceGroups/g/providers/{ML}/workspaces/w/providers/Microsoft.Insights/diagnosticSettings",
            "Insights",
        ),
        (f"{SUB}/providers/{ML}", None),
        (f"{SUB}/providers/{ML}/register", None),
        (f"{SUB}/resourceGroups/g", None),
    ],
)
def test_whose_a_call_is(path: str, provider: str | None) -> None:
    found = ASKED.fullmatch(path)
    assert (found["namespace"].removeprefix("Microsoft.") if found else None) == (
        provider.removeprefix("Microsoft.") if provider else None
    )


def test_the_sdk_knows_the_refusal_by_its_words() -> None:
    """It takes the provider's name out of the message: the last thing in quotes."""
    for state in ("NotRegistered", "Registering"):
        error: Any = Unregistered(ML, state).body()["error"]
        assert error["code"] == "MissingSubscriptionRegistration"
        assert error["message"].split("'")[-2] == ML
