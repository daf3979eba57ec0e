"""`python -m scripts COMMAND`: every step of the release train. Only options are here; the work is in the modules."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from scripts import records, settings
from scripts.errors import InvalidInput, Refused, ScriptError, Undecided
from scripts.outputs import console, finish

app = typer.Typer(
    no_args_is_help=True, add_completion=False, rich_markup_mode="markdown", pretty_exceptions_enable=False
)
rollout = typer.Typer(no_args_is_help=True, help="Move traffic from the live colour to the candidate.")
app.add_typer(rollout, name="rollout")

Config = Annotated[Path | None, typer.Option("--config", envvar="MLOPS_CONFIG", help="Settings of the environment.")]
Out = Annotated[Path, typer.Option("--out", help="Where the record of this step is written.")]
Smoke = Annotated[Path, typer.Option("--smoke", help="Sample conversations for the smoke test.")]
SMOKE_REQUESTS = 4


@app.command()
def provision(
    config: Config = None,
    out: Out = Path("out/provision.json"),
    plan: Annotated[bool, typer.Option("--plan", help="Only say what is missing; create nothing.")] = False,
) -> None:
    """Create what is missing: group, identity, workspace, cluster, environments, endpoint.

    Example: `python -m scripts provision --plan`
    """
    from scripts import provision as step

    def tell(kind: str, name: str, state: str) -> None:
        console.print(f"  {state:8} {kind} [bold]{name}[/bold]", highlight=False)

    done = step.provision(settings.load(config), plan_only=plan, tell=tell)
    made = sum(resource.state != "exists" for resource in done.resources)
    did, state = ("Planned", "missing") if plan else ("Provisioned", "created")
    said = f"{did} {done.workspace}: {made} of {len(done.resources)} resources {state}"
    finish(done, out, said=said, then="python -m scripts data")


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
def train(
    recipe: Annotated[str, typer.Option(help="A file name in training/recipes, without .yaml.")],
    dataset: Annotated[Path, typer.Option(help="The dataset.json of `data`.")] = Path("out/dataset.json"),
    base_model: Annotated[Path | None, typer.Option(help="The model.json of a registered base model.")] = None,
    config: Config = None,
    out: Out = Path("out/training.json"),
    retry_failed: Annotated[bool, typer.Option(help="Pay for another try of a job that failed.")] = False,
) -> None:
    """Submit the fine-tune, or attach to the job of the same inputs.

    Example: `python -m scripts train --recipe a100_lora`
    """
    from data.manifest import Dataset
    from scripts import train as step

    base = records.read(records.Model, base_model) if base_model else None
    work = step.plan(recipe, records.read(Dataset, dataset), base)
    done = step.train(settings.load(config), work, retry_failed=retry_failed)
    how = "attached to" if done.attached else "ran"
    loss = done.metrics.loss
    speed = f"{done.metrics.tokens_per_second:.0f} tokens/s, loss {loss[0].loss:.2f} → {loss[-1].loss:.2f}"
    finish(
        done,
        out,
        said=f"Training {how} {done.job_name}: {done.metrics.train_seconds:.0f} s, {speed}",
        then="python -m scripts register",
        outputs={"job_name": done.job_name},
    )


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


@app.command()
def deploy(
    deployment: Annotated[str, typer.Option(help="The idle colour to deploy on: blue or green.")],
    model: Annotated[Path, typer.Option(help="The model.json of `register`.")] = Path("out/model.json"),
    smoke: Smoke = Path("data/heldout.jsonl"),
    first: Annotated[bool, typer.Option("--first", help="First release: give it all traffic once it answers.")] = False,
    variable: Annotated[list[str] | None, typer.Option("--variable", help="NAME=VALUE for the server.")] = None,
    config: Config = None,
    out: Out = Path("out/deployment.json"),
) -> None:
    """Deploy a model at 0% and smoke-test it by direct header.

    Example: `python -m scripts deploy --deployment green`
    """
    from scripts import deploy as step
    from scripts import sample_requests

    pairs = [each.partition("=") for each in variable or []]
    if wrong := [name for name, equals, _ in pairs if not (name and equals)]:
        raise InvalidInput(f"--variable takes NAME=VALUE, not {wrong[0]!r}.")
    done = step.deploy(
        settings.load(config),
        records.read(records.Model, model),
        deployment,
        sample_requests.bodies(smoke)[:SMOKE_REQUESTS],
        first=first,
        variables={name: value for name, _, value in pairs},
    )
    said = (
        f"Deployed {done.model} as {done.deployment} at {done.weight}%: "
        f"{done.smoke.requests} smoke requests answered, median {done.smoke.latency_ms_p50} ms"
    )
    finish(done, out, said=said, then="python -m scripts evaluate")


@app.command()
def evaluate(
    deployment: Annotated[str, typer.Option(help="Which colour answers, whatever the traffic.")],
    prompts: Annotated[Path, typer.Option(help="The held-out prompts.")] = Path("data/heldout.jsonl"),
    few_shot: Annotated[int, typer.Option(min=0, help="Examples put before each prompt.")] = 0,
    repeats: Annotated[int, typer.Option(min=1)] = 1,
    at_once: Annotated[int, typer.Option(min=1, help="Requests in flight.")] = 16,
    config: Config = None,
    out: Annotated[Path, typer.Option("--out", help="The score table.")] = Path("out/scores/candidate.jsonl"),
) -> None:
    """Run the prompt flow over the held-out prompts and score the answers.

    Example: `python -m scripts evaluate --deployment green`
    """
    from eval.run import run
    from scripts.endpoint import Endpoint

    uri = Endpoint(settings.load(config)).scoring_uri()
    done = run(prompts, uri, out, deployment=deployment, few_shot=few_shot, repeats=repeats, concurrency=at_once)
    how = f" with {few_shot} examples" if few_shot else ""
    said = f"Evaluated {deployment}{how}: exact match {done.metrics['exact_match']:.3f} over {done.rows} answers"
    finish(done, out.with_suffix(".run.json"), said=said, then="python -m scripts gate")


@app.command()
def gate(
    candidate: Annotated[Path, typer.Option(help="The candidate's score table.")],
    baseline: Annotated[
        list[Path], typer.Option(help="The live model's score table; of several, the best is the bar.")
    ],
    candidate_model: Annotated[Path, typer.Option(help="The candidate's model.json.")] = Path("out/model.json"),
    baseline_model: Annotated[Path, typer.Option(help="The live model's model.json.")] = Path(
        "out/model-baseline.json"
    ),
    policy: Annotated[Path, typer.Option(help="What good enough means.")] = Path("eval/policy.yaml"),
    out: Out = Path("out/verdict.json"),
) -> None:
    """Judge the candidate against the live model. Exit code 1 fail, 2 undecided, 3 invalid.

    Example: `python -m scripts gate --candidate out/scores/green.jsonl --baseline out/scores/blue.jsonl`
    """
    from scripts import gate as step

    models = [records.read(records.Model, path).digest for path in (candidate_model, baseline_model)]
    verdict = step.judge(candidate, baseline, policy, models[0], models[1])
    said = f"Gate: {verdict.outcome}. {verdict.reason}"
    then = "python -m scripts rollout run" if verdict.outcome == "pass" else "python -m scripts report"
    finish(
        verdict, out, said=said, then=then, outputs={"outcome": str(verdict.outcome)}, good=verdict.outcome == "pass"
    )
    endings = {"fail": Refused, "inconclusive": Undecided, "invalid": InvalidInput}
    if verdict.outcome != "pass":
        raise endings[str(verdict.outcome)](f"The gate says {verdict.outcome}: {verdict.reason}")


@rollout.command("run")
def rollout_run(
    candidate: Annotated[str, typer.Option(help="The colour that is to become live.")],
    verdict: Annotated[Path, typer.Option(help="The verdict.json of `gate`.")] = Path("out/verdict.json"),
    traffic: Annotated[Path, typer.Option(help="Sample conversations sent while it bakes.")] = Path("data/live.jsonl"),
    policy: Annotated[Path, typer.Option(help="Steps and limits.")] = Path("scripts/rollout/policy.yaml"),
    config: Config = None,
    out: Out = Path("out/rollout.json"),
) -> None:
    """Shift traffic in steps, judged by the requests themselves; take it back when they are worse.

    Example: `python -m scripts rollout run --candidate green`
    """
    from eval.verdict import read_verdict
    from scripts import sample_requests
    from scripts.rollout import policy as policies
    from scripts.rollout import run as step

    done = step.run(
        settings.load(config),
        read_verdict(verdict),
        candidate,
        sample_requests.bodies(traffic),
        policies.load(policy),
        lambda line: console.print(line, highlight=False, markup=False),
    )
    said = f"Rollout of {done.candidate}: {done.state}, {done.reason}"
    promoted = done.state == "PROMOTED"
    finish(done, out, said=said, then="python -m scripts report", outputs={"state": done.state}, good=promoted)
    if done.state == "ROLLBACK_STUCK":
        raise ScriptError(f"{done.endpoint} could not be taken back to {done.stable}: do it by hand now. {done.reason}")
    if not promoted:
        raise Refused(f"Traffic is back on {done.stable}: {done.reason}.")


@app.command()
def rollback(
    to: Annotated[str, typer.Option(help="The colour that gets all traffic.")],
    reason: Annotated[str, typer.Option(help="Why; kept in the endpoint's tags.")],
    config: Config = None,
    out: Out = Path("out/rollback.json"),
) -> None:
    """Give one colour all the traffic now.

    Example: `python -m scripts rollback --to blue --reason "wrong priorities"`
    """
    from scripts.rollout import back

    done = back.roll_back(settings.load(config), to, reason)
    finish(done, out, said=f"Traffic of {done.endpoint} is {done.traffic}: {reason}", then="find out why")


@app.command()
def report(
    records_folder: Annotated[Path, typer.Option("--records", help="The folder with the records.")] = Path("out"),
    scenario: Annotated[str, typer.Option(help="A name for this run.")] = "release",
    out: Annotated[Path | None, typer.Option("--out", help="The page; default RECORDS/report/index.html.")] = None,
) -> None:
    """Draw the page of this release and print its summary.

    Example: `python -m scripts report --records out/demo`
    """
    from scripts.report import build, summary, terminal_summary

    if not records_folder.is_dir():
        raise InvalidInput(f"{records_folder}: there is no such folder of records.")
    page = build(records_folder, out or records_folder / "report" / "index.html")
    summary(records_folder, scenario)
    terminal_summary(records_folder)
    console.print(f"[dim]  the page: {page}[/dim]", highlight=False)


def main() -> int:
    """Run a command; turn what went wrong into one sentence and the exit code that says who has to act."""
    command = typer.main.get_command(app)
    try:
        return int(command(standalone_mode=False) or 0)
    except KeyboardInterrupt:
        _say("Interrupted.", 130)
        sys.stderr.flush()
        # promptflow's threads wait minutes for answers under way, and Python would wait for them.
        os._exit(130)
    except ScriptError as error:
        return _say(str(error), error.exit_code)
    except Exception as error:
        return _foreseen(error)


def _foreseen(error: Exception) -> int:
    """Errors of the packages below and of the command line; anything else is a bug and keeps its traceback."""
    from data.errors import DataError
    from eval.errors import EvalError

    if isinstance(error, DataError | EvalError):
        return _say(str(error), getattr(error, "exit_code", 3))
    if hasattr(error, "exit_code") and hasattr(error, "format_message"):  # a usage error of the command line
        return _say(f"{error.format_message()} (see --help)", 3)
    if type(error).__name__ in ("Abort", "Exit"):
        return int(getattr(error, "exit_code", 1))
    raise error


def _say(sentence: str, code: int) -> int:
    mark = "::error::" if os.environ.get("GITHUB_ACTIONS") == "true" else "✗ "
    print(f"{mark}{sentence}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
