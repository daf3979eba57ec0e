"""Minutes out of what Azure counted: whole ones only, sums kept, bad told from good, and no number out of nonsense."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from azure.core.exceptions import HttpResponseError
from azure.monitor.query import LogsQueryPartialResult, LogsQueryResult
from azure.monitor.querymetrics import MetricsQueryResult
from hypothesis import given
from hypothesis import strategies as st

from scripts import settings as environments
from scripts.errors import AzureFailed, InvalidInput
from scripts.rollout.monitor import BAD, LogsMonitor, MetricsMonitor, Minute, monitor_of
from scripts.rollout.monitor_logs import read_counts
from scripts.rollout.monitor_metrics import _complete, _totals, asking, read_series
from scripts.rollout.monitor_minutes import MINUTE, Count, minute, plain, quantity, status, tally, whole, whole_minutes

T0 = datetime(2026, 3, 1, 12, tzinfo=UTC)
DEMO = Path(__file__).parents[3] / "scripts" / "environments" / "demo.yaml"
TIMES = st.datetimes(datetime(2020, 1, 1), datetime(2030, 1, 1), timezones=st.just(UTC))
CODES = st.sampled_from((0, 100, 200, 201, 302, 400, 404, 408, 424, 429, 499, 500, 503, 599))
COUNTS = st.lists(
    st.builds(
        Count,
        st.sampled_from(("blue", "green", "Green", "other")),
        st.integers(0, 3).map(lambda n: T0 + n * MINUTE),
        CODES,
        st.integers(0, 50),
    ),
    max_size=40,
)


@given(TIMES, st.timedeltas(timedelta(0), timedelta(hours=2)), TIMES, st.integers(0, 5))
def test_only_whole_minutes_that_are_over_are_asked_for(
    since: datetime, span: timedelta, now: datetime, delay: int
) -> None:
    until = since + span
    start, end = whole_minutes(since, until, timedelta(minutes=delay), now)
    for edge in (start, end):
        assert (edge.second, edge.microsecond) == (0, 0)
    assert since <= start < since + MINUTE
    assert end <= until
    assert end <= now - timedelta(minutes=delay)
    # … and none that is over is left out.
    assert end + MINUTE > min(until, now - timedelta(minutes=delay))


def test_times_are_utc_and_must_have_a_zone() -> None:
    there = timezone(timedelta(hours=5, minutes=30))
    start, end = whole_minutes(T0.astimezone(there), T0.astimezone(there) + MINUTE, timedelta(0), T0 + MINUTE)
    assert (start, end) == (T0, T0 + MINUTE)
    assert start.tzinfo is UTC
    with pytest.raises(ValueError, match="zone"):
        whole_minutes(T0.replace(tzinfo=None), T0, timedelta(0), T0)


@given(COUNTS)
def test_sums_are_the_rows_and_other_peoples_faults_are_no_ones(counts: Sequence[Count]) -> None:
    found = tally(counts, ["blue", "green", "unknown"])
    assert list(found) == ["blue", "green", "unknown"]
    assert found["unknown"] == []
    for name in ("blue", "green"):
        own = [count for count in counts if count.deployment.lower() == name]
        assert sum(m.good for m in found[name]) == sum(c.requests for c in own if 200 <= c.code < 300)
        assert sum(m.bad for m in found[name]) == sum(
            c.requests for c in own if c.code in (0, 408, 424, 429) or c.code >= 500
        )
        # A minute is there when something was counted in it, whatever it was, and only then.
        assert [m.at for m in found[name]] == sorted({c.at for c in own if c.requests})
        assert all(m.slow is None for m in found[name])


def test_every_bad_code_has_its_reason() -> None:
    assert set(BAD) == {0, 408, 424, 429, *range(500, 600)}
    assert all(BAD.values())


def test_slow_ones_are_counted_among_those_that_count() -> None:
    counts = [Count("blue", T0, 200, 5, 2), Count("blue", T0, 408, 1, 1), Count("blue", T0, 404, 9, 9)]
    assert tally(counts, ["blue"]) == {"blue": [Minute(T0, 5, 1, 3)]}


@given(st.integers(0, 10**9))
def test_counts_are_read_as_they_are(number: int) -> None:
    assert whole(number, "x") == whole(float(number), "x") == number


NONSENSE = st.one_of(
    st.sampled_from((math.nan, math.inf, -math.inf, None, True, "3", [], {})),
    st.floats(max_value=-1e-9, allow_nan=False),
    st.integers(max_value=-1),
)


@given(NONSENSE)
def test_what_is_no_number_is_azures_failure(value: Any) -> None:
    for read in (whole, quantity):
        with pytest.raises(AzureFailed):
            read(value, "x")


def test_a_fraction_is_a_mean_and_no_count() -> None:
    assert quantity(2.5, "x") == 2.5
    with pytest.raises(AzureFailed, match="request-log"):
        whole(2.5, "x")


@pytest.mark.parametrize("value", ["", "2xx", "-1", "99", "600", "20O", None, "٢٠٠", "2e2", 1000])
def test_what_is_no_status_is_azures_failure(value: Any) -> None:
    with pytest.raises(AzureFailed, match="status code"):
        status(value, "statusCode")


def test_statuses_come_as_numbers_or_text() -> None:
    assert [status(value, "x") for value in ("200", 200, "0", "599")] == [200, 200, 0, 599]


@pytest.mark.parametrize("value", [T0.replace(second=1), T0.replace(tzinfo=None), "2026-03-01T12:00:00Z", None])
def test_what_is_no_minute_is_azures_failure(value: Any) -> None:
    with pytest.raises(AzureFailed, match="minute"):
        minute(value, "x")


@pytest.mark.parametrize("name", ["", "a'b", "blue' or deployment eq '*", "a b", "*", "-x", "a\n"])
def test_names_cannot_change_the_question(name: str) -> None:
    with pytest.raises(InvalidInput, match="no name"):
        plain(["blue", name])


def series(data: Sequence[Any], *, interval: str = "PT1M", **dimensions: str) -> list[MetricsQueryResult]:
    """An answer of the metrics data plane, read by the SDK: `data` are the means of the minutes from T0 on."""
    points = [
        {"timeStamp": f"{T0 + n * MINUTE:%Y-%m-%dT%H:%M:%SZ}", **({} if mean is ... else {"average": mean})}
        for n, mean in enumerate(data)
    ]
    names = [{"name": {"value": name}, "value": value} for name, value in dimensions.items()]
    metric = {"name": {"value": "RequestsPerMinute"}, "timeseries": [{"metadatavalues": names, "data": points}]}
    return [MetricsQueryResult._from_generated({"interval": interval, "timespan": "x", "value": [metric]})]


def read(*results: Any) -> Any:
    return [found for each in results for found in read_series(each, T0, T0 + 10 * MINUTE)]


def test_points_without_a_value_are_no_minutes() -> None:
    found = read(series([..., 3.0, None, 0.0], deployment="blue", statuscode="200"))
    assert tally(_complete(_totals(found, "statuscode"), []), ["blue"])["blue"] == [Minute(T0 + MINUTE, 3, 0)]


def test_points_outside_the_question_are_left_out() -> None:
    found = read_series(series([1.0, 2.0, 3.0], deployment="blue", statuscode="200"), T0 + MINUTE, T0 + 2 * MINUTE)
    assert [mean for _, points in found for _, mean in points] == [2.0]


@pytest.mark.parametrize("value", [math.nan, -1.0, 1.5, "3", True])
def test_a_strange_value_anywhere_is_azures_failure(value: Any) -> None:
    with pytest.raises(AzureFailed):
        _totals(read(series([1.0, value], deployment="blue", statuscode="200")), "statuscode")


def test_another_grain_or_too_many_series_is_azures_failure() -> None:
    with pytest.raises(AzureFailed, match="minutes"):
        read(series([1.0], interval="PT5M", deployment="blue", statuscode="200"))
    with pytest.raises(AzureFailed, match="series"):
        read_series(series([1.0], deployment="blue", statuscode="200") * 1000, T0, T0 + MINUTE)


def test_a_strange_status_is_azures_failure_once_it_counts_something() -> None:
    assert _totals(read(series([0.0, ...], deployment="blue", statuscode="")), "statuscode") == {}
    with pytest.raises(AzureFailed, match="status code"):
        _totals(read(series([1.0], deployment="blue", statuscode="unknown")), "statuscode")


def test_series_that_the_split_left_out_are_noticed() -> None:
    """The eight 424 are a mean of four, and four are missing when the split hides those the model did not answer."""
    coarse = read(series([4.0], deployment="blue", statuscode="424"))
    three, five = (
        series([mean], deployment="blue", statuscode="424", modelstatuscode=told)
        for mean, told in ((3.0, "500"), (5.0, "400"))
    )
    assert list(_complete(_totals(read(three, five), "statuscode"), coarse)) == [Count("blue", T0, 424, 8)]
    for less in (read(three), []):
        with pytest.raises(AzureFailed, match="do not add up"):
            _complete(_totals(less, "statuscode"), coarse)


def table(rows: Sequence[Sequence[Any]], *names: str, error: str | None = None) -> Any:
    types = {"DeploymentName": "string", "ResponseCode": "int", "Minute": "datetime", "Requests": "long"}
    columns = [{"name": name, "type": types.get(name, "long")} for name in names]
    body = {"tables": [{"name": "PrimaryResult", "columns": columns, "rows": rows}]}
    if error is None:
        return LogsQueryResult._from_generated(body)
    return LogsQueryPartialResult(tables=[], partial_error=SimpleNamespace(message=error))


LOG = ("DeploymentName", "ResponseCode", "Minute", "Requests", "Slow")
ROW = ["blue", 200, "2026-03-01T12:00:00Z", 7, 2]


def test_rows_of_the_request_log_are_counts() -> None:
    assert read_counts(table([ROW], *LOG)) == [Count("blue", T0, 200, 7, 2)]
    assert read_counts(table([ROW[:-1]], *LOG[:-1])) == [Count("blue", T0, 200, 7)]
    assert read_counts(table([], *LOG)) == []


@pytest.mark.parametrize(("column", "value"), [(1, "x"), (2, "soon"), (2, None), (3, 1.5), (3, None), (4, -1)])
def test_rows_that_make_no_sense_are_azures_failure(column: int, value: Any) -> None:
    row = [*ROW]
    row[column] = value
    with pytest.raises(AzureFailed):
        read_counts(table([row], *LOG))


def test_half_an_answer_is_none() -> None:
    with pytest.raises(AzureFailed, match="in part"):
        read_counts(table([ROW], *LOG, error="too much"))
    with pytest.raises(AzureFailed, match="in part"):
        read_counts(LogsQueryResult(tables=[]))


def test_a_refusal_names_the_role_and_an_answer_of_no_shape_is_one_sentence() -> None:
    refusal = SimpleNamespace(status_code=403, reason="Forbidden", headers={}, text=lambda: "")
    with pytest.raises(AzureFailed, match="Monitoring Reader on /subscriptions/s"):  # noqa: SIM117
        with asking("Counting", "Monitoring Reader on /subscriptions/s"):
            raise HttpResponseError("no", response=refusal)
    for strange in (KeyError("values"), ValueError("<html>"), AttributeError("x"), IndexError("x")):
        with pytest.raises(AzureFailed, match=r"^Counting: .*cannot be read"), asking("Counting", "x"):
            raise strange


def settings(tmp_path: Path, **change: object) -> environments.Settings:
    path = tmp_path / "environment.yaml"
    path.write_text(yaml.safe_dump({**yaml.safe_load(DEMO.read_text()), **change}))
    return environments.load(path)


class TestSettings:
    @pytest.fixture(autouse=True)
    def _signed_in(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AZURE_SUBSCRIPTION_ID", "s")

    def test_they_choose_the_monitor(self, tmp_path: Path) -> None:
        assert isinstance(monitor_of(settings(tmp_path), "e"), MetricsMonitor)
        assert isinstance(monitor_of(settings(tmp_path, monitor="request-log"), "e"), LogsMonitor)

    @pytest.mark.parametrize(
        ("change", "said"),
        [
            ({"monitor": "guess"}, "monitor"),
            ({"monitor": "request-log", "log_analytics_workspace_id": ""}, "request-log needs"),
            ({"log_analytics_workspace_id": "my-workspace"}, "log_analytics_workspace_id"),
            ({"monitor_delay_minutes": -1}, "monitor_delay_minutes"),
        ],
    )
    def test_what_is_wrong_is_named(self, tmp_path: Path, change: dict[str, object], said: str) -> None:
        with pytest.raises(InvalidInput, match=said):
            settings(tmp_path, **change)

    def test_the_request_log_without_a_workspace_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(InvalidInput, match="log_analytics_workspace_id"):
            LogsMonitor(settings(tmp_path, log_analytics_workspace_id=""), "e")
