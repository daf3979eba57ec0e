"""The alerts as data: each can be made in Azure, its numbers are the environment's, and a mistake is one sentence."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from emulator.alerts import METRICS, MINUTES
from scripts import settings
from scripts.doctor.alerts import _told
from scripts.errors import InvalidInput
from scripts.provision import alert_data
from scripts.provision.alert_data import FILE, limit, load, means, series, wanted
from scripts.provision.alerts import KINDS
from scripts.rollout import policy

DEMO, PRODUCTION = Path("scripts/environments/demo.yaml"), Path("scripts/environments/production.yaml")


@pytest.fixture(autouse=True)
def subscription(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_SUBSCRIPTION_ID", "99999999-9999-9999-9999-999999999999")
    monkeypatch.chdir(Path(__file__).parents[2])


def row(**changes: Any) -> dict[str, Any]:
    return {**yaml.safe_load(FILE.read_text())["alerts"][0], **changes}


def test_each_watches_a_metric_that_azure_has() -> None:
    """By Microsoft's pages of supported metrics, as the local Azure ML has them."""
    for each in load():
        aggregations, dimensions = METRICS[KINDS[each.of]][each.metric]
        assert each.aggregation in aggregations
        assert set(each.dimensions) <= set(dimensions)
        assert {each.minutes, each.every} <= set(MINUTES.values())
        assert each.todo


@pytest.mark.parametrize(
    ("rows", "why"),
    [
        ([row(surprise=1)], "surprise"),
        ([row(minutes=7)], "alerts.0.minutes"),
        ([row(minutes=5, every=15)], "too seldom"),
        ([row(severity=5)], "alerts.0.severity"),
        ([row(above="high")], "alerts.0.above"),
        ([row(), row()], "a name of its own"),
    ],
)
def test_a_mistake_in_the_file_is_one_sentence(tmp_path: Path, rows: list[dict[str, Any]], why: str) -> None:
    file = tmp_path / "alerts.yaml"
    file.write_text(yaml.safe_dump({"alerts": rows}))
    with pytest.raises(InvalidInput, match=why):
        load(file)


def test_slow_is_what_the_rollout_calls_slow_and_without_that_half_the_timeout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = settings.load(PRODUCTION)
    slow = next(each for each in load() if each.above == "slow")
    assert policy.load(values.rollout_policy).harm.slow_ms is None
    assert limit(values, slow) == values.serving.request_timeout_ms / 2
    text = values.rollout_policy.read_text().replace("slow_ms: null", "slow_ms: 1500")
    (tmp_path / "policy.yaml").write_text(text)
    monkeypatch.setenv("MLOPS_ROLLOUT_POLICY", str(tmp_path / "policy.yaml"))
    assert limit(settings.load(PRODUCTION), slow) == 1500
    assert "1500 ms" in means(settings.load(PRODUCTION), slow)


def test_an_environment_that_collects_nothing_has_no_alert_about_it(monkeypatch: pytest.MonkeyPatch) -> None:
    every = wanted(settings.load(DEMO))
    assert series(settings.load(DEMO)) == len(every) == len(load())
    for part in ("STATISTICS", "CONTENT", "FEEDBACK"):
        monkeypatch.setenv(f"MLOPS_SERVING__COLLECT__{part}", "false")
    left = wanted(settings.load(DEMO))
    assert {each.name for each in every} - {each.name for each in left} == {"rows-lost"}


def test_a_dimension_with_two_values_is_two_time_series(monkeypatch: pytest.MonkeyPatch) -> None:
    one = alert_data.Alert.model_validate(row(dimensions={"statusCodeClass": ["4xx", "5xx"]}))
    monkeypatch.setattr(alert_data, "load", lambda: (one,))
    assert series(settings.load(DEMO)) == 2


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ("", ()),
        ("a@b.example", ("a@b.example",)),
        ("a@b.example, c@d.example,a@b.example", ("a@b.example", "c@d.example")),
    ],
)
def test_addresses_come_from_the_environment_with_commas(
    monkeypatch: pytest.MonkeyPatch, given: str, found: tuple[str, ...]
) -> None:
    monkeypatch.setenv("MLOPS_ALERT_EMAILS", given)
    assert settings.load(DEMO).alert_emails == found


def test_what_is_no_address_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLOPS_ALERT_EMAILS", "on-call")
    with pytest.raises(InvalidInput, match="alert_emails"):
        settings.load(DEMO)


def group(*states: str, enabled: bool = True, **others: list[Any]) -> SimpleNamespace:
    return SimpleNamespace(enabled=enabled, email_receivers=[SimpleNamespace(status=each) for each in states], **others)


def test_who_unsubscribed_hears_nothing_and_a_webhook_does() -> None:
    assert _told(group("Enabled", "Disabled", "NotSpecified")) == 1
    assert _told(group("Disabled", webhook_receivers=[SimpleNamespace(name="pager")])) == 1
    assert _told(group("Enabled", enabled=False)) == 0
    assert _told(group()) == 0
