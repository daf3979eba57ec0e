"""The release of a model that was fine-tuned as a service: `serverless deploy|live|evaluate|switch|rollback|delete`."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from scripts import records, settings
from scripts.commands.options import Config, Out
from scripts.errors import InvalidInput, Refused
from scripts.outputs import finish, one_line

app = typer.Typer()
serverless = typer.Typer(no_args_is_help=True, help="Models that Microsoft serves: deploy, evaluate, switch, go back.")
app.add_typer(serverless, name="serverless")
PROBES = 20
SMOKE_REQUESTS = 4
ModelFile = Annotated[Path, typer.Option("--model", help="The model.json of `register`.")]
Prompts = Annotated[Path, typer.Option(help="Held-out prompts: for smoke tests and probes of both endpoints.")]
KEY = "ENDPOINT_KEY"


@serverless.command()
def base(
    recipe: Annotated[str, typer.Option(help="A recipe of route serverless.")],
    out: Out = Path("out/model-baseline.json"),
) -> None:
    """Name the catalogue model that a recipe starts from: the baseline of a first release.

    Example: `python -m scripts serverless base --recipe serverless_phi4_mini`
    """
    from scripts.serverless import endpoints

    model = endpoints.base_model(recipe)
    finish(model, out, said=f"Baseline {model.name}:{model.version}", then="python -m scripts serverless deploy")


@serverless.command()
def deploy(
    model: ModelFile = Path("out/model.json"),
    content_filter: Annotated[
        bool, typer.Option("--content-filter/--no-content-filter", help="Azure AI Content Safety in front of it.")
    ] = True,
    first: Annotated[bool, typer.Option("--first", help="First release: lead the application there.")] = False,
    prompts: Prompts = Path("data/heldout.jsonl"),
    config: Config = None,
    out: Out = Path("out/deployment-candidate.json"),
) -> None:
    """Put a model on a serverless endpoint of its own and smoke-test it. Nobody is led there yet.

    Example: `python -m scripts serverless deploy --model out/model.json`
    """
    from scripts import sample_requests
    from scripts.serverless import endpoints
    from scripts.serverless import live as step

    values, wanted = settings.load(config), records.read(records.Model, model)
    sample = sample_requests.bodies(prompts)[:SMOKE_REQUESTS]
    done = endpoints.deploy_model(values, wanted, sample, content_filter=content_filter)
    if first:
        step.begin(values, wanted)
        done = done.model_copy(update={"weight": 100})
    how = "on" if content_filter else "OFF"
    said = (
        f"{'Found' if done.kept else 'Deployed'} {done.model} as {done.endpoint}, content filter {how}: "
        f"{done.smoke.requests} smoke requests answered, median {done.smoke.latency_ms_p50} ms"
    )
    finish(done, out, said=said, then="python -m scripts serverless evaluate", outputs={"candidate": done.endpoint})


@serverless.command()
def live(config: Config = None, out: Out = Path("out/live.json")) -> None:
    """Say which endpoint the application is led to, and with which model. `gate --live` reads the record.

    Example: `python -m scripts serverless live`
    """
    from scripts.serverless import live as step

    values = settings.load(config)
    found, _ = step.read(values)
    side = found.live if found else None
    done = records.Live(
        endpoint=values.endpoint, stable=side.endpoint if side else "", idle="", model=side.model if side else None
    )
    said = f"Live: {side.endpoint} at {side.uri}" if side else "Live: nothing yet (first release)"
    outputs = {"stable": done.stable, "first": str(side is None).lower(), "scoring_uri": side.uri if side else ""}
    finish(done, out, said=said, then="python -m scripts serverless evaluate", outputs=outputs)


@serverless.command()
def evaluate(
    model: ModelFile = Path("out/model.json"),
    prompts: Annotated[Path, typer.Option(help="The held-out prompts.")] = Path("data/heldout.jsonl"),
    few_shot: Annotated[int, typer.Option(min=0, help="Examples put before each prompt.")] = 0,
    repeats: Annotated[int, typer.Option(min=1)] = 1,
    at_once: Annotated[int, typer.Option(min=1, help="Requests in flight.")] = 16,
    metrics: Annotated[Path | None, typer.Option(help="Which evaluators run; default: eval/metrics.yaml.")] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Ask and score anew, whatever was kept before.")] = False,
    config: Config = None,
    out: Annotated[Path, typer.Option("--out", help="The score table.")] = Path("out/scores/candidate.jsonl"),
) -> None:
    """Run the same prompt flow over the held-out prompts against a model's serverless endpoint.

    Example: `python -m scripts serverless evaluate --model out/model.json`
    """
    from eval.run import run
    from scripts.serverless import endpoints

    values, judged = settings.load(config), records.read(records.Model, model)
    name, uri = endpoints.need(values, judged)
    with _key(endpoints.key(values, name)):
        done = run(
            prompts,
            uri,
            out,
            model_digest=judged.digest,
            # An answer that a filter let through is no answer of an endpoint with another filter.
            serving=f"serverless {name}, filter {endpoints.filters(values, name)}",
            few_shot=few_shot,
            repeats=repeats,
            metrics=metrics,
            concurrency=at_once,
            fresh=fresh,
        )
    first = "exact_match" if "exact_match" in done.metrics else next(iter(done.metrics), None)
    score = f"{first.replace('_', ' ')} {done.metrics[first]:.3f}" if first else "no score"
    said = f"Evaluated {name}: {score} over {done.rows} answers"
    finish(done, out.with_suffix(".run.json"), said=said, then="python -m scripts gate")


@contextmanager
def _key(key: str) -> Iterator[None]:
    """For the flow in this process, and for no longer than it runs."""
    if key:
        os.environ[KEY] = key
    try:
        yield
    finally:
        os.environ.pop(KEY, None)


@serverless.command()
def switch(
    model: ModelFile = Path("out/model.json"),
    verdict: Annotated[Path, typer.Option("--verdict", help="The verdict.json of `gate`.")] = Path("out/verdict.json"),
    policy: Annotated[
        Path | None, typer.Option("--policy", help="The rollout policy; default the environment's.")
    ] = None,
    approval: Annotated[Path | None, typer.Option("--approval", help="The approval.json of `rollout approve`.")] = None,
    prompts: Prompts = Path("data/heldout.jsonl"),
    config: Config = None,
    out: Out = Path("out/rollout.json"),
) -> None:
    """Lead the application to the candidate's endpoint: all at once, after probes of both, and back when it fails.

    Example: `python -m scripts serverless switch --model out/model.json`
    """
    from eval.verdict import read_verdict
    from scripts import sample_requests
    from scripts.rollout import policy as policies
    from scripts.rollout.approval import Approval
    from scripts.serverless import live as step

    values = settings.load(config)
    done = step.switch(
        values,
        read_verdict(verdict),
        records.read(records.Model, model),
        policies.load(policy or values.rollout_policy),
        records.read(Approval, approval) if approval else None,
        sample_requests.bodies(prompts)[:PROBES],
    )
    _told(done, out, "python -m scripts report", good=done.state == "PROMOTED")
    if done.state != "PROMOTED":
        raise Refused(f"{done.endpoint} is back on {done.stable or 'nobody'}: {one_line(done.reason)}.")


@serverless.command()
def rollback(
    reason: Annotated[str, typer.Option(help="Why, in any words.")],
    prompts: Prompts = Path("data/heldout.jsonl"),
    config: Config = None,
    out: Out = Path("out/rollback.json"),
) -> None:
    """Lead the application back to the endpoint of before, now.

    Example: `python -m scripts serverless rollback --reason "wrong priorities"`
    """
    from scripts import sample_requests
    from scripts.serverless import live as step

    sample = sample_requests.bodies(prompts)[:SMOKE_REQUESTS]
    _told(step.roll_back(settings.load(config), reason, sample), out, "find out why", good=True)


def _told(done: records.Rollout, out: Path, then: str, *, good: bool) -> None:
    leads = ", ".join(done.steps[-1].traffic_read_back)
    said = f"{done.endpoint}: {done.state}, users are led to {leads}: {one_line(done.reason)}"
    outputs = {"state": done.state, "candidate": done.candidate, "stable": done.stable, "live": leads}
    finish(done, out, said=said, then=then, outputs=outputs, good=good)


@serverless.command()
def delete(
    model: ModelFile,
    name: Annotated[str, typer.Option("--name", help="The model's name, typed out.")],
    config: Config = None,
    out: Out = Path("out/deleted.json"),
) -> None:
    """Delete a model's endpoint and then the model, in the order that the service wants. Live and way back stay.

    Example: `python -m scripts serverless delete --model out/model.json --name train-serverless-phi4-mini-0123456789ab`
    """
    from scripts.serverless import endpoints
    from scripts.serverless import live as step

    values, doomed = settings.load(config), records.read(records.Model, model)
    if name != doomed.name:
        raise InvalidInput(f"--name {name[:80]!r} is not the model's name {doomed.name}: type it out to delete it.")
    found, _ = step.read(values)
    sides = [found.live, *([found.previous] if found.previous else [])] if found else []
    gone = endpoints.delete(values, doomed, protected=[side.endpoint for side in sides])
    said = f"Deleted {', '.join(gone) or 'nothing: it is gone'}"
    finish(doomed, out, said=said, then="nothing")
