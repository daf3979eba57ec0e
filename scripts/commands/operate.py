"""Day 2: `retrain-decision`, `data feedback` and `reap`."""

from pathlib import Path
from typing import Annotated

import typer

from scripts import settings
from scripts.commands.model import data_app
from scripts.commands.options import Config, Out
from scripts.errors import AzureFailed
from scripts.outputs import console, finish, table

app = typer.Typer()


@app.command("retrain-decision")
def retrain_decision(
    source: Annotated[Path, typer.Option(help="Conversations to train on (JSONL).")] = Path("data/tickets.jsonl"),
    held_out: Annotated[Path, typer.Option(help="The gate's prompts, never trained on.")] = Path("data/heldout.jsonl"),
    policy: Annotated[Path, typer.Option(help="What counts as a reason.")] = Path("scripts/operate/retrain.yaml"),
    recipe: Annotated[
        str, typer.Option(envvar="RECIPE", help="The recipe that would train: has its base model moved on?")
    ] = "",
    fresh: Annotated[
        Path | None, typer.Option(help="Score table of the live model on newly labelled rows (`evaluate`).")
    ] = None,
    config: Config = None,
    out: Out = Path("out/retrain.json"),
) -> None:
    """Say whether a new model should be trained now, and why. Exit code 0 both ways.

    Example: `python -m scripts retrain-decision --out out/retrain.json`
    """
    from scripts import records
    from scripts.operate import policy as policies
    from scripts.operate.retrain import decide
    from scripts.operate.retrain_facts import gather

    rules = policies.load(policies.Retrain, policy)
    now = records.now()
    done = decide(gather(settings.load(config), source, held_out, rules, now, recipe=recipe, fresh=fresh), rules, now)
    period = f" --period {done.period}" if done.period else ""
    finish(
        done,
        out,
        said=done.said,
        then=f"python -m scripts data, then train{period}" if done.retrain else "nothing, until the next look",
        outputs={"retrain": str(done.retrain).lower(), "reason": done.said, "period": done.period},
    )
    rows = [
        (each.name, "yes" if each.holds else "no", each.said, each.tried or each.blocked or "-")
        for each in done.reasons
    ]
    table(("reason", "holds", "because", "tried as, or what stands against it"), rows)
    signals = [
        (each.about, each.name, _number(each.p_value), _number(each.effect), f"{each.least:g}", each.said)
        for each in done.signals
    ]
    table(("drift of", "signal", "p", "effect", "matters from", "so"), signals)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"


@data_app.command("feedback")
def data_feedback(
    file: Annotated[Path, typer.Option("--out", help="The review file; rows in it, and their labels, stay.")] = Path(
        "review.jsonl"
    ),
    days: Annotated[int, typer.Option(min=1, max=365, help="How far back, today included.")] = 30,
    config: Config = None,
    record: Annotated[Path, typer.Option("--record", help="Where the record of this step is written.")] = Path(
        "out/feedback.json"
    ),
) -> None:
    """Bring collected conversations whose answer got a thumbs-down into a file for labelling.

    Example: `python -m scripts data feedback --out review.jsonl`
    """
    from scripts import records
    from scripts.operate.feedback import take

    done = take(settings.load(config), days, file, records.now())
    finish(
        done,
        record,
        said=f"{done.down} answers were called bad from {done.days}, {done.added} new ones are in {file} to label",
        then=f"write the right answers under `label`, then python -m scripts data check {file}"
        if done.found
        else "nothing",
        outputs={"review_rows": str(done.added)},
    )


@app.command()
def reap(
    apply: Annotated[
        bool, typer.Option("--apply/--no-apply", help="Do it. Without it, only say what would be done.")
    ] = False,
    policy: Annotated[Path, typer.Option(help="How long what is kept.")] = Path("scripts/operate/reap.yaml"),
    config: Config = None,
    out: Out = Path("out/reap.json"),
) -> None:
    """Find what nobody uses: colours, endpoints, old models, checkpoints, clusters; with --apply clear it away.

    Example: `python -m scripts reap`
    """
    from scripts.operate import clear
    from scripts.operate import policy as policies

    rules = policies.load(policies.Reap, policy)
    done = clear.reap(
        settings.load(config),
        config,
        rules,
        apply=apply,
        tell=lambda line: console.print(f"  {line}", highlight=False, markup=False),
    )
    found = sum(finding.doable for finding in done.findings)
    removed = sum(each.state == "done" for each in done.done)
    kept = len(done.findings) - found
    looked = f"{found} to clear away, {kept} to keep or to look at"
    said = f"Reaped {done.endpoint}: {looked}" + (
        f", {removed} cleared away" if apply else "; dry run, nothing touched"
    )
    finish(
        done,
        out,
        said=said,
        then="python -m scripts reap --apply" if found and not apply else "nothing, until the next look",
        outputs={"found": str(found), "removed": str(removed)},
        good=not done.failed,
    )
    rows = [(each.kind, each.name, each.action, each.why, each.cost) for each in done.findings]
    table(("kind", "name", "what to do", "why", "cost of leaving it"), rows)
    if done.failed:
        failures = "; ".join(f"{each.kind} {each.name}: {each.said}" for each in done.failed)
        raise AzureFailed(f"{len(done.failed)} of {found} could not be cleared away: {failures}")
