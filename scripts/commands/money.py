"""What things cost: `cost`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from scripts import records, settings
from scripts.commands.options import Config, MaxCost, Out
from scripts.outputs import finish, table, told

if TYPE_CHECKING:
    from scripts.cost.hours import Span

app = typer.Typer()


@app.command()
def cost(
    recipe: Annotated[str, typer.Option(help="A file name in training/recipes, without .yaml.")],
    dataset: Annotated[Path, typer.Option(help="The dataset.json of `data`.")] = Path("out/dataset.json"),
    sweep: Annotated[str, typer.Option(help="A search: a file name in training/sweeps, without .yaml.")] = "",
    max_cost: MaxCost = None,
    prices: Annotated[Path, typer.Option(help="The price table.")] = Path("scripts/cost/prices.yaml"),
    offline: Annotated[bool, typer.Option("--offline", help="Ask Azure nothing: no earlier runs are known.")] = False,
    config: Config = None,
    out: Out = Path("out/cost.json"),
) -> None:
    """Say what a training job, and both colours of its rollout, will cost; refuse what is above the cap.

    Example: `python -m scripts cost --recipe a100_lora --max-cost 50`
    """
    from data.manifest import Dataset
    from scripts import azure_ml, routes, train
    from scripts.cost import estimate, runs
    from scripts.cost import prices as price_table

    values, listed = settings.load(config), price_table.load(prices)
    work = train.plan(recipe, records.read(Dataset, dataset), None, uploaded=False, search=sweep)
    asked = routes.named(work.route).forecast(values, work, listed, ml=None if offline else azure_ml.client(values))
    doubled = runs.rollout(values, listed)
    hourly = doubled.rate
    cap = estimate.lowest(max_cost, values.max_training_cost)
    rates = (asked.rate, hourly)
    warnings = sorted({each.warning for each in rates if each.warning})
    finish(
        estimate.Cost(training=asked, rollout=doubled, cap=cap, warnings=warnings),
        out,
        said=f"What training {recipe} costs: {asked.said}",
        then="python -m scripts train",
        outputs={
            "basis": asked.hours.basis,
            "low": f"{asked.cost.low:.2f}" if asked.cost else "",
            "high": f"{asked.cost.high:.2f}" if asked.cost else "",
            "currency": listed.currency,
        },
        good=asked.cost is not None,
    )
    rows = [
        ("training", _many(asked.instances * asked.trials, asked.rate.size), *_told(asked.hours.span, asked.cost)),
        ("rollout, second colour", _many(doubled.instances, hourly.size), *_told(doubled.hours, doubled.extra)),
        ("rollout, both colours", _many(2 * doubled.instances, hourly.size), *_told(doubled.hours, doubled.both)),
    ]
    table(("what", "instances", "hours", f"cost ({listed.currency})"), rows)
    priced = {each.said: (each.said, str(each.looked_up or "unknown"), each.source or "unknown") for each in rates}
    table(("price", "looked up", "source"), list(priced.values()))
    for warning in warnings:
        told(warning)
    estimate.check(cap, asked)


def _many(count: int, size: str) -> str:
    return f"{count} × {size}"


def _told(hours: "Span | None", amount: "Span | None") -> tuple[str, str]:
    return _span(hours), _span(amount)


def _span(span: "Span | None") -> str:
    return f"{span.low:,.2f} to {span.high:,.2f}" if span else "unknown"
