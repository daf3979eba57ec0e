"""Is the model good enough: `deploy` at 0%, `evaluate`, `gate`."""

from pathlib import Path
from typing import Annotated

import typer

from scripts import records, settings
from scripts.commands.options import Config, Out
from scripts.errors import InvalidInput, Refused, Undecided
from scripts.outputs import finish

app = typer.Typer()
SMOKE_REQUESTS = 4


@app.command()
def deploy(
    deployment: Annotated[str, typer.Option(help="The idle colour to deploy on: blue or green.")],
    model: Annotated[Path, typer.Option(help="The model.json of `register`.")] = Path("out/model.json"),
    smoke: Annotated[Path, typer.Option("--smoke", help="Sample conversations for the smoke test.")] = Path(
        "data/heldout.jsonl"
    ),
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
