"""From data to a registered model: `data`, `plan`, `train`, `pending`, `register`."""

from pathlib import Path
from typing import Annotated

import typer

from scripts import records, settings
from scripts.commands.options import Config, Out
from scripts.errors import InvalidInput
from scripts.outputs import finish

app = typer.Typer()


@app.command()
def data(
    source: Annotated[Path, typer.Option(help="Conversations to train on (JSONL).")] = Path("data/tickets.jsonl"),
    held_out: Annotated[Path, typer.Option(help="The gate's prompts, never trained on.")] = Path("data/heldout.jsonl"),
    folder: Annotated[Path, typer.Option(help="Where the checked splits are written.")] = Path("out/data"),
    config: Config = None,
    out: Out = Path("out/dataset.json"),
    check_only: Annotated[bool, typer.Option("--check-only", help="Check and split; upload nothing.")] = False,
) -> None:
    """Check, split, digest and upload the training set.

    Example: `python -m scripts data --source data/tickets.jsonl`
    """
    from data.prepare import prepare

    if check_only:
        name = source.stem
        record = prepare(source, held_out, folder, name)
    else:
        from scripts import dataset

        values = settings.load(config)
        record = dataset.upload(values, prepare(source, held_out, folder, values.dataset), folder / "training")
    rows = ", ".join(f"{file.rows} {split}" for split, file in record.files.items())
    finish(
        record,
        out,
        said=f"Data {record.name}:{record.version} checked ({rows} rows)",
        then="python -m scripts train",
        outputs={"data_asset": record.asset or ""},
    )


@app.command()
def plan(
    recipe: Annotated[str, typer.Option(help="A file name in training/recipes, without .yaml.")],
    source: Annotated[Path, typer.Option(help="Conversations to train on (JSONL).")] = Path("data/tickets.jsonl"),
    held_out: Annotated[Path, typer.Option(help="The gate's prompts, never trained on.")] = Path("data/heldout.jsonl"),
    folder: Annotated[Path, typer.Option(help="Where the checked splits are written.")] = Path("out/data"),
    out: Out = Path("out/plan.json"),
) -> None:
    """Check recipe and data, and say what would be trained. Asks nothing of Azure and changes nothing there.

    Example: `python -m scripts plan --recipe a100_lora`
    """
    from data.prepare import prepare
    from scripts import train as step

    work = step.plan(recipe, prepare(source, held_out, folder, source.stem), None, uploaded=False)
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
    commit: Annotated[str, typer.Option(envvar="RELEASE_COMMIT", help="Kept on the job, to go on from later.")] = "",
) -> None:
    """Submit the fine-tune, or attach to the job of the same inputs.

    Example: `python -m scripts train --recipe a100_lora`
    """
    from data.manifest import Dataset
    from scripts import train as step

    base = records.read(records.Model, base_model) if base_model else None
    work = step.plan(recipe, records.read(Dataset, dataset), base, period)
    seconds = None if wait_minutes is None else wait_minutes * 60
    done = step.train(settings.load(config), work, commit=commit, retry_failed=retry_failed, wait_seconds=seconds)
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
    speed = f"{done.metrics.tokens_per_second:.0f} tokens/s, loss {loss[0].loss:.2f} → {loss[-1].loss:.2f}"
    finish(
        done,
        out,
        said=f"Training {how} {done.job_name}: {done.metrics.train_seconds:.0f} s, {speed}",
        then="python -m scripts register",
        outputs=outputs,
    )


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

    values = settings.load(config)
    if folder and not name:
        raise InvalidInput("--folder needs --name: what is the base model called?")
    if folder and name:
        model = step.register_folder(values, folder, name)
    else:
        model = step.register_job(values, records.read(records.Training, training))
    said = f"Registered model {model.name}:{model.version} (digest {model.digest[:12]})"
    finish(model, out, said=said, then="python -m scripts deploy", outputs={"model_id": model.id})
