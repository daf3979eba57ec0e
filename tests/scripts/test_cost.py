"""What things cost: an unknown price is no number, a cap is never passed, what was measured beats a guess."""

import json
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from scripts import records, settings
from scripts.__main__ import app
from scripts.cost import estimate, hours, prices, runs
from scripts.cost.hours import Hours, Past, Span, Work
from scripts.errors import InvalidInput, Refused
from scripts.report.facts import facts
from scripts.report.load import load as load_records
from scripts.report.markdown import markdown
from scripts.report.provenance import provenance
from scripts.rollout.policy import load as load_policy
from scripts.train import Plan, train

ROOT = Path(__file__).parents[2]
FIXTURES = ROOT / "tests/scripts/fixtures/report"
TODAY = date(2026, 11, 22)
A100, EAST = "Standard_NC24ads_A100_v4", "eastus"
positive = st.floats(0.01, 1e4)
past_runs = st.builds(
    lambda tokens, train, start: Past(tokens, train, train + start),
    st.integers(1, 10**10),
    st.floats(0.001, 200),
    st.floats(0, 5),
)


def price(**changes: Any) -> dict[str, Any]:
    row = {"size": A100, "region": EAST, "dedicated": 4.0, "low_priority": None, "looked_up": TODAY, "source": "page"}
    return {**row, **changes}


def table(*rows: dict[str, Any]) -> prices.Table:
    return prices.Table.model_validate({"currency": "USD", "prices": list(rows)})


def rate(per_hour: float | None = 4.0, **changes: Any) -> prices.Rate:
    return prices.rate(table(price(dedicated=per_hour, **changes)), A100, EAST, "dedicated", TODAY)


def work(tokens: int = 10_000_000, **changes: Any) -> Work:
    base = "microsoft/Phi-3.5-mini-instruct"
    given_ = {"recipe": "a100_lora", "base": base, "adapters": True, "device": "gpu", "instances": 1, "processes": 1}
    return Work.model_validate({**given_, "tokens": tokens, **changes})


def test_the_shipped_table_has_a_date_and_a_page_for_each_price_and_knows_what_it_does_not_know(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AZURE_SUBSCRIPTION_ID", "33333333-3333-3333-3333-333333333333")
    shipped = prices.load()
    known = [each for each in shipped.prices if each.dedicated or each.low_priority]
    assert known
    assert all(each.source and each.source.startswith("https://") and each.looked_up for each in known)
    for file in (ROOT / "scripts/environments").glob("*.yaml"):  # each size of our own is there, known or not
        values = settings.load(file)
        listed = {(each.size, each.region) for each in shipped.prices}
        assert {(size, values.location) for size in (values.compute.size, values.serving.instance_type)} <= listed


@pytest.mark.parametrize(
    ("rows", "why"),
    [
        ([price(dedicated=0)], "greater than 0"),
        ([price(dedicated=float("nan"))], "prices.0.dedicated"),
        ([price(looked_up=None)], "needs looked_up and source"),
        ([price(source=None)], "needs looked_up and source"),
        ([price(), price(region="East US")], "is there twice"),
        ([price(surprise=1)], "surprise"),
    ],
)
def test_a_table_that_cannot_be_right_is_one_sentence(tmp_path: Path, rows: list[Any], why: str) -> None:
    path = tmp_path / "prices.yaml"
    path.write_text(yaml.safe_dump({"currency": "USD", "prices": rows}))
    with pytest.raises(InvalidInput, match=why):
        prices.load(path)


def test_an_unknown_price_is_said_with_what_another_region_costs_and_an_old_one_is_warned_of() -> None:
    elsewhere = prices.rate(table(price()), A100, "eastus2", "dedicated", TODAY)
    assert elsewhere.per_hour is None
    assert "(it has 4 in eastus)" in elsewhere.said
    assert prices.rate(table(price()), A100.upper(), "East US", "dedicated", TODAY).per_hour == 4.0
    assert prices.rate(table(price()), A100, EAST, "low_priority", TODAY).per_hour is None
    ages = {days: bool(rate(looked_up=TODAY - timedelta(days=days)).warning) for days in (0, 180, 181)}
    assert ages == {0: False, 180: False, 181: True}


@given(st.none() | positive, st.integers(1, 10**10), st.lists(past_runs, max_size=8), st.integers(1, 8), positive)
def test_a_cap_is_never_passed_and_what_is_unknown_never_counts_as_cheap(
    per_hour: float | None, tokens: int, past: list[Past], instances: int, cap: float
) -> None:
    asked = estimate.of_work(work(tokens, instances=instances), "a100_lora", rate(per_hour), past)
    estimate.check(None, asked)
    try:
        estimate.check(cap, asked)
    except Refused:
        assert asked.cost is None or asked.cost.high > cap
    else:
        assert asked.cost is not None
        assert asked.cost.high <= cap
    assert (asked.cost is None) == (per_hour is None)
    if asked.cost:
        assert 0 < asked.cost.low <= asked.cost.likely <= asked.cost.high
    assert asked.hours.basis == ("measured" if past else "estimated")


@given(st.integers(1, 10**9), past_runs)
def test_a_run_like_the_last_one_takes_as_long_and_more_tokens_take_longer(tokens: int, run: Past) -> None:
    again = hours.hours(work(run.tokens), A100, [run])
    assert again.span is not None
    assert again.span.likely == pytest.approx(run.hours)
    assert again.span.low <= run.hours <= again.span.high
    more = hours.hours(work(run.tokens + tokens), A100, [run])
    assert more.span is not None
    assert more.span.likely >= again.span.likely


@pytest.mark.parametrize("broken", [Past(0, 1, 2), Past(10, 0, 1), Past(10, 3, 2), Past(10, float("nan"), 1)])
def test_a_measurement_that_cannot_be_is_none(broken: Past) -> None:
    assert hours.hours(work(), A100, [broken]).basis == "estimated"


@pytest.mark.parametrize(
    ("changes", "size"),
    [({"base": "somebody/model"}, A100), ({"device": "cpu"}, "Standard_E16s_v3"), ({}, "Standard_NC999_B300_v9")],
)
def test_without_a_run_or_an_estimate_the_cost_is_unknown(changes: dict[str, Any], size: str) -> None:
    asked = estimate.of_work(
        work(**changes), "r", prices.rate(table(price(size=size)), size, EAST, "dedicated", TODAY), []
    )
    assert (asked.hours.basis, asked.cost) == ("unknown", None)
    with pytest.raises(Refused, match="With a cap of 5 USD that is refused"):
        estimate.check(5, asked)
    with pytest.raises(Refused):
        estimate.check(5, estimate.of_work(None, "r", rate(), []))


def test_the_work_of_a_recipe_is_its_tokens_in_all_epochs_or_steps() -> None:
    recipe = yaml.safe_load((ROOT / "training/recipes/a100_lora.yaml").read_text())
    assert hours.work("r", recipe, 1000, 10).tokens == 1000
    assert hours.work("r", recipe, 1000, 10, epochs=3).tokens == 3000
    steps = {**recipe, "run": {**recipe["run"], "epochs": None, "max_steps": 5}}
    assert hours.work("r", steps, 1000, 10).tokens == 5 * 2 * 4 * 4096
    unpacked = {**steps, "data": {**recipe["data"], "packing": False}}
    assert hours.work("r", unpacked, 1000, 10).tokens == 5 * 2 * 4 * 100


def test_only_runs_of_this_recipe_on_this_size_that_say_how_long_they_took_are_evidence() -> None:
    told = {"recipe": "r", "size": A100, "planned_tokens": "100", "train_hours": "1.5", "hours": "2"}
    others = [
        {**told, "recipe": "other"},
        {**told, "size": "Standard_E16s_v3"},
        {**told, "sweep": "lora"},
        {**told, "hours": "long"},
        {name: value for name, value in told.items() if name != "train_hours"},
        {},
    ]
    assert runs.past([*others, told], "r", A100.lower()) == [Past(100, 1.5, 2.0)]


@given(st.floats(-10, 1000), st.integers(1, 8), st.none() | positive)
def test_what_a_job_did_cost_is_its_time_on_all_nodes_or_unknown(
    minutes: float, nodes: int, per_hour: float | None
) -> None:
    began = datetime(2026, 11, 22, tzinfo=UTC)
    lasted = timedelta(minutes=minutes)
    done = estimate.paid(began, began + lasted, nodes, rate(per_hour), "")
    seconds = lasted.total_seconds()
    assert (done.node_hours is None) == (seconds <= 0)
    assert (done.amount is None) == (seconds <= 0 or per_hour is None)
    if done.amount is not None and per_hour is not None:
        assert done.amount == pytest.approx(seconds / 3600 * nodes * per_hour, abs=1e-4 * (1 + per_hour))
    assert estimate.paid(began, None, nodes, rate(per_hour), "").amount is None


def test_a_rollout_costs_a_second_colour_until_the_old_one_may_go() -> None:
    policy = load_policy()
    doubled = estimate.capacity(policy, 2, rate())
    assert doubled.extra and doubled.both
    least = (3 * policy.bake.minutes + policy.bake.post_minutes) / 60 + policy.retention_hours
    assert doubled.hours.low == pytest.approx(least)
    assert doubled.hours.high > least + policy.approval.wait_hours
    assert doubled.extra.low == pytest.approx(least * 2 * 4.0)
    assert doubled.both.low == pytest.approx(2 * doubled.extra.low)
    assert estimate.capacity(policy, 2, rate(None)).extra is None


def cost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *options: str) -> tuple[Any, dict[str, str], Any]:
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("AZURE_SUBSCRIPTION_ID", "0")
    monkeypatch.setenv("GITHUB_OUTPUT", str(tmp_path / "outputs"))
    out = tmp_path / "cost.json"
    given_ = ["cost", "--recipe", "a100_lora", "--offline", "--config", "scripts/environments/production.yaml"]
    ran = CliRunner().invoke(
        app, [*given_, "--dataset", str(FIXTURES / "promoted/dataset.json"), "--out", str(out), *options]
    )
    lines = (tmp_path / "outputs").read_text().splitlines()
    return ran, dict(line.split("=", 1) for line in lines), records.read(estimate.Cost, out)


def test_the_command_leaves_a_record_and_refuses_what_is_above_the_cap(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLOPS_LOCATION", "eastus")
    ran, outputs, done = cost(tmp_path, monkeypatch, "--max-cost", "1")
    assert isinstance(ran.exception, Refused)
    assert (outputs["basis"], outputs["currency"]) == ("estimated", "USD")
    assert done.training.cost is not None
    assert float(outputs["high"]) == pytest.approx(done.training.cost.high, abs=0.01)
    assert (done.cap, done.warnings) == (1, [])
    monkeypatch.setenv("MLOPS_MAX_TRAINING_COST", "0.5")  # an option is no way round the settings' cap
    assert isinstance(cost(tmp_path, monkeypatch, "--max-cost", "99")[0].exception, Refused)


def test_a_price_that_nobody_looked_up_is_said_and_refused_only_under_a_cap(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran, outputs, done = cost(tmp_path, monkeypatch)
    assert ran.exception is None
    assert (outputs["low"], outputs["high"], done.training.cost) == ("", "", None)
    assert isinstance(cost(tmp_path, monkeypatch, "--max-cost", "99999")[0].exception, Refused)


class Jobs:
    """A workspace without jobs; to submit one is a failure of the test."""

    def get(self, name: str) -> Any:
        from azure.core.exceptions import ResourceNotFoundError

        raise ResourceNotFoundError(name)

    def list(self) -> list[Any]:
        return []

    def create_or_update(self, _: Any) -> Any:
        raise AssertionError("something was submitted")


def plan_of(recipe: str) -> Plan:
    return Plan(
        recipe=recipe,
        recipe_digest="r",
        code_digest="c",
        data_digest="d",
        data_asset="azureml:a:1",
        base_model="b",
        base_model_digest="m",
        load=work(),
    )


def test_train_refuses_before_anything_is_uploaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("AZURE_SUBSCRIPTION_ID", "0")
    ml = SimpleNamespace(jobs=Jobs(), compute=SimpleNamespace(get=lambda _: SimpleNamespace(tier="low_priority")))
    monkeypatch.setattr("scripts.azure_ml.client", lambda _: ml)
    values = settings.load(Path("scripts/environments/production.yaml"))
    asked = plan_of("a100_lora")
    told: list[str] = []
    for plan in (asked, asked.model_copy(update={"load": None})):
        with pytest.raises(Refused, match="With a cap of 10 USD that is refused"):
            train(values, plan, max_cost=10, tell=told.append)
    assert "no low-priority price" in told[0]


def test_a_job_that_went_on_from_a_checkpoint_is_no_measurement(monkeypatch: pytest.MonkeyPatch) -> None:
    began = datetime(2026, 11, 22, tzinfo=UTC)
    times = SimpleNamespace(start_time_utc=began, end_time_utc=began + timedelta(hours=2))
    kept: list[Any] = []
    jobs = SimpleNamespace(_runs_operations=SimpleNamespace(get_run=lambda _: times), create_or_update=kept.append)
    ml = cast(Any, SimpleNamespace(jobs=jobs, compute=SimpleNamespace(get=lambda _: SimpleNamespace(tier="dedicated"))))
    monkeypatch.setenv("AZURE_SUBSCRIPTION_ID", "0")
    values = settings.load(ROOT / "scripts/environments/demo.yaml")
    plan = plan_of("r")
    told = json.loads((FIXTURES / "promoted/training.json").read_text())["metrics"]
    for resumed in (5, None):
        job = cast(Any, SimpleNamespace(name="j", status="Completed", tags={"size": A100}))
        metrics = records.TrainingMetrics.model_validate({**told, "resumed_from_step": resumed})
        done = runs.settle(ml, values, plan, job, metrics)
        assert (done.node_hours, done.amount) == (2.0, None)  # the price in the demo's region is not known
        assert len(kept) == (0 if resumed else 1)
    assert kept[0].tags["hours"] == "2.000000"


def test_the_report_shows_what_training_did_cost(tmp_path: Path) -> None:
    folder = tmp_path / "promoted"
    folder.mkdir()
    training = json.loads((FIXTURES / "promoted/training.json").read_text())
    began = datetime(2026, 11, 22, tzinfo=UTC)
    for per_hour, shown in ((4.0, "6.00 USD"), (None, "unknown")):
        done = estimate.paid(began, began + timedelta(hours=1.5), 1, rate(per_hour), "3 to 9 USD")
        (folder / "training.json").write_text(json.dumps({**training, "cost": done.model_dump(mode="json")}))
        found = load_records(folder)
        assert records.read(records.Training, folder / "training.json").cost == done
        assert next(fact.value for fact in facts(found) if fact.label == "Training cost") == shown
        assert next(row.value for row in provenance(found) if row.what == "Training cost") == done.said
        assert "**Training cost:** " in markdown(found, "page")


def test_spans_and_hours_do_not_take_nan() -> None:
    with pytest.raises(ValueError, match="finite"):
        Hours(basis="measured", span=Span(low=1, likely=float("nan"), high=2), said="")
