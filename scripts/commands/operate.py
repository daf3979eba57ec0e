"""Day 2: `retrain-decision`, `data judge`, `data feedback` and `reap`."""

from pathlib import Path
from typing import Annotated

import typer

from scripts import settings
from scripts.commands.model import data_app
from scripts.commands.options import Config, Out
from scripts.errors import AzureFailed
from scripts.outputs import console, finish, table

app = typer.Typer()
REAP = Path("scripts/operate/reap.yaml")


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
        (each.name, _word(each.holds, each.known), each.said, each.tried or each.blocked or "-")
        for each in done.reasons
    ]
    table(("reason", "holds", "because", "tried as, or what stands against it"), rows)
    signals = [
        (each.about, each.name, _number(each.p_value), _number(each.effect), f"{each.least:g}", each.said)
        for each in done.signals
    ]
    table(("drift of", "signal", "p", "effect", "matters from", "so"), signals)


def _word(holds: bool, known: bool) -> str:
    return "yes" if holds else "no" if known else "unknown"


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


@data_app.command("judge")
def data_judge(
    policy: Annotated[Path, typer.Option(help="Names the judge, under `judge`.")] = Path(
        "scripts/operate/retrain.yaml"
    ),
    config: Config = None,
    out: Out = Path("out/judged-week.json"),
) -> None:
    """Have a judge grade a sample of collected conversations, for the drift that `retrain-decision` looks at.

    Example: `python -m scripts data judge`
    """
    from scripts import records
    from scripts.operate import judge
    from scripts.operate import policy as policies

    rules = policies.load(policies.Retrain, policy)
    done = judge.run(settings.load(config), rules, records.now(), lambda line: console.print(f"  {line}"))
    new = sum(each.new for each in done.windows)
    means = " and ".join(f"{each.mean:.2f} over {each.graded:,} from {each.window}" for each in done.windows)
    said = (
        f"Nothing was judged: {done.why_none}" if done.why_none else f"{done.metric}: {means}; {new:,} grades are new"
    )
    then = "nothing, until the next week is over" if done.why_none else "python -m scripts retrain-decision"
    finish(done, out, said=said, then=then, outputs={"judged": str(new)})
    rows = [
        (each.window, f"{each.kept:,}", f"{each.graded:,}", f"{each.new:,}", f"{each.mean:.3f}")
        for each in done.windows
    ]
    table(("window", "conversations kept", "graded", "of these new", f"mean {done.metric}"), rows)


@app.command()
def reap(
    apply: Annotated[
        bool, typer.Option("--apply/--no-apply", help="Do it. Without it, only say what would be done.")
    ] = False,
    policy: Annotated[Path, typer.Option(help="How long what is kept.")] = REAP,
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
    again = f"python -m scripts reap --apply{'' if policy == REAP else f' --policy {policy}'}"
    found = sum(finding.doable for finding in done.findings)
    removed = sum(each.state == "done" for each in done.done)
    kept = len(done.findings) - found
    looked = f"{found} to clear away, {kept} to keep or to look at"
    said = f"{'Reaped' if apply else 'Looked at'} {done.endpoint}: {looked}" + (
        f", {removed} cleared away" if apply else "; dry run, nothing touched"
    )
    finish(
        done,
        out,
        said=said,
        then=again if found and not apply else "nothing, until the next look",
        outputs={"found": str(found), "removed": str(removed)},
        good=not done.failed,
    )
    rows = [(each.kind, each.name, each.action, each.why, each.cost) for each in done.findings]
    table(("kind", "name", "what to do", "why", "cost of leaving it"), rows)
    if done.failed:
        failures = "; ".join(f"{each.kind} {each.name}: {each.said}" for each in done.failed)
        raise AzureFailed(f"{len(done.failed)} of {found} could not be cleared away: {failures}")
