"""What an environment costs for being there: an unknown price is no number and never 0, and the sum says its date."""

from datetime import date
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from scripts import settings
from scripts.cost import prices
from scripts.cost.standing import DAYS_A_MONTH, HOURS_A_MONTH, REGISTRY, SERIES, Month, month, word
from scripts.settings import Settings

ROOT = Path(__file__).parents[2]
TODAY, BEFORE = date(2026, 11, 22), date(2026, 10, 1)
amounts = st.none() | st.floats(0.01, 1e3)


@pytest.fixture(scope="module")
def production() -> Settings:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AZURE_SUBSCRIPTION_ID", "99999999-9999-9999-9999-999999999999")
        return settings.load(ROOT / "scripts/environments/production.yaml")


def dated(price: float | None, day: date = TODAY) -> dict[str, Any]:
    return {"looked_up": day, "source": "page"} if price else {"looked_up": None, "source": None}


def asked(
    values: Settings, hour: float | None, registry: float | None, alert: float | None, day: date = TODAY
) -> Month:
    where = {"region": values.location}
    size = {"size": values.serving.instance_type, "dedicated": hour, "low_priority": None, **where, **dated(hour, day)}
    services = [
        {"service": REGISTRY, "per": "day", "price": registry, **where, **dated(registry)},
        {"service": SERIES, "per": "month", "price": alert, **where, **dated(alert)},
    ]
    table = prices.Table.model_validate({"currency": "USD", "prices": [size], "services": services})
    return month(values, 6, table, TODAY)


def test_the_sum_is_of_the_hours_the_days_and_the_series_of_a_month(production: Settings) -> None:
    found = asked(production, 4.0, 0.5, 0.1, BEFORE)
    assert found.at_least == pytest.approx(4 * HOURS_A_MONTH + 0.5 * DAYS_A_MONTH + 0.6, abs=0.01)
    assert (found.unknown, found.prices_of) == ([], BEFORE)  # the oldest price is the sum's date
    assert str(BEFORE) in found.said


@given(hour=amounts, registry=amounts, alert=amounts)
def test_an_unknown_price_is_named_and_never_counts_as_nothing(
    production: Settings, hour: float | None, registry: float | None, alert: float | None
) -> None:
    found = asked(production, hour, registry, alert)
    standing = [each for each in found.parts if each.basis == "standing"]
    missing = [each.what for each in standing if each.a_month is None]
    assert found.unknown == missing
    assert len(missing) == [hour, registry, alert].count(None)
    assert all(word(each, "USD") == "unknown" for each in standing if each.what in missing)
    assert all(name in found.said for name in missing)
    assert found.at_least == pytest.approx(sum(each.a_month or 0 for each in standing), abs=0.01)
    assert found.said.startswith("unknown") is (len(missing) == 3)


def test_what_is_charged_by_use_has_no_price_and_the_idle_cluster_costs_nothing(production: Settings) -> None:
    parts = {each.what: each for each in asked(production, None, None, None).parts}
    assert parts[f"cluster {production.compute.name}"].a_month == 0
    used = [each for each in parts.values() if each.basis == "use"]
    assert {each.a_month for each in used} == {None}
    assert {word(each, "USD") for each in used} == {"by use"}
    assert "request log" not in parts
    logged = production.model_copy(update={"log_analytics_workspace_id": "4" * 8})
    assert "request log" in {each.what for each in asked(logged, None, None, None).parts}


def test_the_shipped_table_knows_each_part_by_name_and_a_price_needs_its_source(production: Settings) -> None:
    shipped = prices.load()
    assert all(prices.service(shipped, name, production.location) for name in (REGISTRY, SERIES))
    found = month(production, 6, shipped, TODAY)
    assert found.prices_of == prices.newest(shipped)
    row = {"service": REGISTRY, "region": "eastus2", "per": "day", "price": 1.0, "looked_up": None, "source": None}
    with pytest.raises(ValidationError, match="needs looked_up and source"):
        prices.Service.model_validate(row)
    twice = {**row, "price": None}
    with pytest.raises(ValidationError, match="is there twice"):
        prices.Table.model_validate({"currency": "USD", "prices": [], "services": [twice, twice]})
