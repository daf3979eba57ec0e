"""From data to a registered model: `data` and `data check`, `plan`, `train`, `pending`, `register`."""

from pathlib import Path
from typing import Annotated

import typer

from scripts import records, settings
from scripts.commands.options import Config, MaxCost, Out
from scripts.errors import InvalidInput, Refused
from scripts.outputs import finish, table, told

app = typer.Typer()


data_app = typer.Typer()
app.add_typer(data_app, name="data")
Tokenizer = Annotated[
    Path | None, typer.Option(help="Folder of the model's tokenizer: exact token counts instead of approximate ones.")
]
Template = Annotated[
    Path | None, typer.Option(help="Chat template with {% generation %} blocks; default: the tokenizer's own.")
]
Source = Annotated[str, typer.Option(help="Conversations to train on: JSONL, parquet, a folder, or a YAML of sources.")]
HeldOut = Annotated[
    str | None,
    typer.Option(help="The gate's prompts, never trained on. auto: a tenth of the source. Default: as the YAML says."),
]


@data_app.callback(invoke_without_command=True)
def data(
    context: typer.Context,
    source: Source = "data/tickets.jsonl",
    held_out: HeldOut = None,
    folder: Annotated[Path, typer.Option(help="Where the checked splits are written.")] = Path("out/data"),
    tokenizer: Tokenizer = None,
    template: Template = None,
    recipe: Annotated[
        str | None, typer.Option(help="The recipe that will train on it: checked first, and its tokenizer taken.")
    ] = None,
    config: Config = None,
    out: Out = Path("out/dataset.json"),
    check_only: Annotated[bool, typer.Option("--check-only", help="Check and split; upload nothing.")] = False,
) -> None:
    """Check, split, digest and upload the training set; `data check FILE` only checks, anyone's file.

    Example: `python -m scripts data --source data/tickets.jsonl`
    """
    if context.invoked_subcommand:
        return
    from data.prepare import prepare
    from scripts import dataset

    values = None if check_only else settings.load(config)
    if recipe:
        from scripts.base_tokenizer import of_recipe

        found = of_recipe(recipe, values)
        if found.why_not and not tokenizer:
            told(f"The job will encode the chats itself: {found.why_not}.")
        tokenizer, template = tokenizer or found.tokenizer, template or found.template
    sources = dataset.sources(source, held_out, config)
    name = values.dataset if values else sources.name
    record = prepare(sources, None, folder, name, tokenizer=tokenizer, template=template)
    if values:
        record = dataset.upload(values, record, folder / "training")
    rows = ", ".join(f"{file.rows} {split}" for split, file in record.files.items())
    warned = [f"{check.code} {check.count}" for check in record.checks if check.severity == "warning" and check.count]
    table(*dataset.drawn([check for check in record.checks if check.count]))
    finish(
        record,
        out,
        said=f"Data {record.name}:{record.version} checked ({rows} rows)"
        + (f", with warnings: {', '.join(warned)}" if warned else ""),
        then="python -m scripts train",
        outputs={"data_asset": record.asset or ""},
    )


@data_app.command("check")
def data_check(
    file: Annotated[str, typer.Argument(help="JSONL, parquet, a folder of them, or a YAML of sources.")],
    held_out: Annotated[
        Path | None, typer.Option(help="Prompts that none of its rows may ask, such as data/heldout.jsonl.")
    ] = None,
    rules: Annotated[
        Path | None, typer.Option(help="Severities and limits; default: data/checks-chats.yaml, or what the YAML says.")
    ] = None,
    tokenizer: Tokenizer = None,
    template: Template = None,
    config: Config = None,
    out: Out = Path("out/data_check.json"),
) -> None:
    """Hold anyone's chats against the checks. Exit code 1: one of severity error found something.

    Example: `python -m scripts data check my-chats.jsonl`
    """
    from data.report import check
    from data.rules import CHATS, load_rules
    from data.tokens import Encoding
    from scripts import dataset

    described = Path(file).suffix in dataset.YAML
    sources = dataset.sources(file, str(held_out) if held_out else None if described else "auto", config)
    chosen = rules or (sources.rules if described else CHATS)
    done = check(sources, load_rules(chosen), Encoding(tokenizer, template))
    table(*dataset.drawn(done.checks))
    rows, tokens = (sum(getattr(each, what) for each in done.files) for what in ("rows", "tokens"))
    broken = [f"{each.code} {each.count}" for each in done.checks if each.severity == "error" and each.count]
    said = f"Checked {file}: {rows} rows, {tokens} tokens ({done.token_count}), " + (
        f"{len(broken)} check(s) broken" if broken else "no error"
    )
    then = f"python -m scripts data --source {file}" if done.passed else "mend or remove the rows named above"
    outputs = {"data_passed": str(done.passed).lower(), "data_errors": str(len(broken))}
    finish(done, out, said=said, then=then, outputs=outputs, good=done.passed)
    if broken:
        raise Refused(f"{file} breaks {len(broken)} check(s): {', '.join(broken)}; {out} names the rows.")


@app.command()
def plan(
    recipe: Annotated[str, typer.Option(help="A file name in training/recipes, without .yaml.")],
    source: Source = "data/tickets.jsonl",
    held_out: HeldOut = None,
    folder: Annotated[Path, typer.Option(help="Where the checked splits are written.")] = Path("out/data"),
    config: Config = None,
    out: Out = Path("out/plan.json"),
) -> None:
    """Check recipe and data, and say what would be trained. Changes nothing in Azure, and asks only for a data asset.

    Example: `python -m scripts plan --recipe a100_lora`
    """
    from data.prepare import prepare
    from scripts import dataset
    from scripts import train as step

    sources = dataset.sources(source, held_out, config)
    work = step.plan(recipe, prepare(sources, None, folder, sources.name), None, uploaded=False)
    said = (
        f"Plan: recipe {recipe} ({work.recipe_digest[:12]}) from {work.base_model} "
        f"on data {work.data_digest[:12]} with code {work.code_digest[:12]}"
    )
    finish(work, out, said=said, then="python -m scripts train")


@app.command()
def train(
    recipe: Annotated[str, typer.Option(help="A file name in training/recipes, without .yaml.")],
    dataset: Annotated[Path, typer.Option(help="The dataset.json of `data`.")] = Path("out/dataset.json"),
    base_model: Annotated[Path | None, typer.Option(help="The model.json of a registered base model.")] = None,
    config: Config = None,
    out: Out = Path("out/training.json"),
    retry_failed: Annotated[bool, typer.Option(help="Pay for another try of a job that failed.")] = False,
    wait_minutes: Annotated[
        float | None, typer.Option(min=0, help="Wait no longer; without it, until the end. 0: only submit.")
    ] = None,
    period: Annotated[str, typer.Option(help="Name of a retraining of equal inputs, such as 2026-Q4.")] = "",
    sweep: Annotated[str, typer.Option(help="Search first: a file name in training/sweeps, without .yaml.")] = "",
    commit: Annotated[str, typer.Option(envvar="RELEASE_COMMIT", help="Kept on the job, to go on from later.")] = "",
    max_cost: MaxCost = None,
) -> None:
    """Submit the fine-tune, or attach to the job of the same inputs.

    Example: `python -m scripts train --recipe a100_lora`
    """
    from data.manifest import Dataset
    from scripts import train as step

    base = records.read(records.Model, base_model) if base_model else None
    work = step.plan(recipe, records.read(Dataset, dataset), base, period, search=sweep)
    seconds = None if wait_minutes is None else wait_minutes * 60
    done = step.train(
        settings.load(config),
        work,
        commit=commit,
        retry_failed=retry_failed,
        wait_seconds=seconds,
        max_cost=max_cost,
        tell=told,
    )
    outputs = {"job_name": done.job_name, "trained": str(isinstance(done, records.Training)).lower()}
    if isinstance(done, step.Waiting):
        said = (
            f"Training job {done.job_name} is {done.status}: not waiting longer. Nothing is lost, the next run attaches"
        )
        finish(
            done, out.with_name("waiting.json"), said=said, then="the same command again", outputs=outputs, good=False
        )
        return
    how = "attached to" if done.attached else "ran"
    loss = done.metrics.loss
    told_speed = done.metrics.tokens_per_second
    speed = f"{told_speed:.0f} tokens/s, " if told_speed is not None else ""
    took = f"{done.metrics.train_seconds:.0f} s, " if done.metrics.train_seconds is not None else ""
    speed = f"{took}{speed}loss {loss[0].loss:.2f} → {loss[-1].loss:.2f}"
    finish(
        done,
        out,
        said=f"Training {how} {done.job_name}: {speed}",
        then="python -m scripts register",
        outputs={**outputs, "cost": f"{done.cost.amount:.2f}" if done.cost and done.cost.amount is not None else ""},
    )
    if done.cost:
        told(f"Its cost was {done.cost.said}")


@app.command()
def pending(
    skip_active: Annotated[
        bool,
        typer.Option("--skip-active", help="Ask GitHub: leave out what a run is working on, refuse a foreign commit."),
    ] = False,
    config: Config = None,
    out: Out = Path("out/pending.json"),
) -> None:
    """Find the release whose training has ended while no run waited for it.

    Example: `python -m scripts pending`
    """
    from scripts import pending as step

    active: set[str] | None = set()
    if skip_active:
        from scripts.github import runs

        active = runs.active_commits()
    if active is None:
        done = step.Pending(release=None, reason="another run is going on with a release right now")
    else:
        done = step.pending(settings.load(config), active)
    found = done.release
    if found and skip_active:
        runs.check_on_main(found.commit)
    said = f"{'Going on' if found else 'Nothing to go on with'}: {done.reason}"
    outputs = {"pending": str(found is not None).lower(), **(found.model_dump() if found else {})}
    finish(done, out, said=said, then="the release workflow at that commit", outputs=outputs)


@app.command()
def register(
    training: Annotated[Path, typer.Option(help="The training.json of `train`.")] = Path("out/training.json"),
    folder: Annotated[Path | None, typer.Option(help="A local model folder instead: a base model.")] = None,
    name: Annotated[str | None, typer.Option(help="The base model's name, with --folder.")] = None,
    config: Config = None,
    out: Out = Path("out/model.json"),
) -> None:
    """Register the job's model with its lineage, or a base model from a folder.

    Example: `python -m scripts register`
    """
    from scripts import register as step
    from scripts import routes

    values = settings.load(config)
    if folder and not name:
        raise InvalidInput("--folder needs --name: what is the base model called?")
    if folder and name:
        model = step.register_folder(values, folder, name)
    else:
        done = records.read(records.Training, training)
        model = routes.named(done.route).register(values, done)
    said = f"Registered model {model.name}:{model.version} (digest {model.digest[:12]})"
    finish(model, out, said=said, then="python -m scripts deploy", outputs={"model_id": model.id})
