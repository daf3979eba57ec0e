"""Is the model good enough: `live`, `deploy` at 0%, `judged`, `evaluate`, `gate`."""

from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Literal

import typer

from scripts import records, settings
from scripts.commands.options import Config, Out
from scripts.errors import InvalidInput, Refused, Undecided
from scripts.outputs import finish, one_line

app = typer.Typer()
SMOKE_REQUESTS = 4


@app.command()
def deploy(
    deployment: Annotated[str | None, typer.Option(help="The colour to deploy on; default: the idle one.")] = None,
    model: Annotated[Path, typer.Option(help="The model.json of `register`.")] = Path("out/model.json"),
    smoke: Annotated[Path, typer.Option("--smoke", help="Sample conversations for the smoke test.")] = Path(
        "data/heldout.jsonl"
    ),
    first: Annotated[bool, typer.Option("--first", help="First release: give it all traffic once it answers.")] = False,
    variable: Annotated[list[str] | None, typer.Option("--variable", help="NAME=VALUE for the server.")] = None,
    over_way_back: Annotated[
        bool, typer.Option("--over-way-back", help="Though the colour is the way back of the last release.")
    ] = False,
    content_filter: Annotated[
        bool, typer.Option("--content-filter/--no-content-filter", help="Azure's, in front of a serverless endpoint.")
    ] = True,
    config: Config = None,
    out: Out = Path("out/deployment.json"),
) -> None:
    """Deploy a model where no user is and smoke-test it: on a colour at 0%, or on a serverless endpoint of its own.

    Example: `python -m scripts deploy --deployment green`
    """
    from scripts import deploy as step
    from scripts import sample_requests
    from scripts.serverless import endpoints, release

    pairs = [each.partition("=") for each in variable or []]
    if wrong := [name for name, equals, _ in pairs if not (name and equals)]:
        raise InvalidInput(f"--variable takes NAME=VALUE, not {wrong[0]!r}.")
    values, wanted = settings.load(config), records.read(records.Model, model)
    sample = sample_requests.bodies(smoke)[:SMOKE_REQUESTS]
    if endpoints.served(wanted):
        if deployment or pairs or over_way_back:
            raise InvalidInput("--deployment, --variable and --over-way-back are for models that we serve ourselves.")
        done = release.deploy(values, wanted, sample, first=first, content_filter=content_filter)
    else:
        release.check_kind(values, wanted)
        done = step.deploy(
            values,
            wanted,
            deployment,
            sample,
            first=first,
            variables={name: value for name, _, value in pairs},
            over_way_back=over_way_back,
        )
    said = (
        f"{'Found' if done.kept else 'Deployed'} {done.model} as {done.deployment} at {done.weight}%: "
        f"{done.smoke.requests} smoke requests answered, median {done.smoke.latency_ms_p50} ms"
    )
    finish(done, out, said=said, then="python -m scripts evaluate", outputs={"candidate": done.deployment})


@app.command()
def live(config: Config = None, out: Out = Path("out/live.json")) -> None:
    """Say which colour, or which serverless endpoint, is live with which model; and which colour is idle.

    Example: `python -m scripts live`
    """
    from scripts import live as step
    from scripts.serverless import release

    values = settings.load(config)
    done = release.live(values) or step.live(values)
    what = f"{done.stable} with {done.model.name}:{done.model.version}" if done.model else "nothing yet (first release)"
    outputs = {"stable": done.stable, "idle": done.idle, "first": str(not done.stable).lower()}
    outputs["scoring_uri"] = done.scoring_uri
    said = f"Live: {what}; idle: {done.idle}" if done.idle else f"Live: {what}, at {done.scoring_uri or 'no address'}"
    finish(done, out, said=said, then="python -m scripts deploy", outputs=outputs)


@app.command()
def judged(
    model: Annotated[Path, typer.Option(help="The candidate's model.json.")] = Path("out/model.json"),
    live: Annotated[Path, typer.Option(help="The live.json of `live`.")] = Path("out/live.json"),
    policy: Annotated[Path, typer.Option(help="What good enough means.")] = Path("eval/policy.yaml"),
    prompts: Annotated[Path, typer.Option(help="The held-out prompts.")] = Path("data/heldout.jsonl"),
    folder: Annotated[Path, typer.Option(help="Where an earlier verdict and its evidence are put.")] = Path("out"),
    config: Config = None,
    out: Out = Path("out/judged.json"),
) -> None:
    """Look for the verdict that these models already have: a release that runs again gets no second try.

    Example: `python -m scripts judged --model out/model.json --live out/live.json`
    """
    from scripts import verdicts as step

    candidate, now = records.read(records.Model, model), records.read(records.Live, live)
    done = step.look(settings.load(config), candidate, now, policy, prompts, folder)
    said = (
        f"Judged before: {done.outcome}. {done.reason}" if done.judged else "These models have not been judged before"
    )
    outputs = {"judged": str(done.judged).lower(), "outcome": done.outcome, "reason": one_line(done.reason)}
    finish(done, out, said=said, then="python -m scripts evaluate", outputs=outputs)


@app.command()
def evaluate(
    deployment: Annotated[str, typer.Option(help="Which colour, or which serverless endpoint, answers.")],
    prompts: Annotated[Path, typer.Option(help="The held-out prompts.")] = Path("data/heldout.jsonl"),
    few_shot: Annotated[int, typer.Option(min=0, help="Examples put before each prompt.")] = 0,
    repeats: Annotated[int, typer.Option(min=1)] = 1,
    at_once: Annotated[int, typer.Option(min=1, help="Requests in flight.")] = 16,
    metrics: Annotated[Path | None, typer.Option(help="Which evaluators run; default: eval/metrics.yaml.")] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Ask and score anew, whatever was kept before.")] = False,
    engine: Annotated[
        Literal["promptflow", "python"], typer.Option(help="What runs the flow; the answers are the same.")
    ] = "promptflow",
    config: Config = None,
    out: Annotated[Path, typer.Option("--out", help="The score table.")] = Path("out/scores/candidate.jsonl"),
) -> None:
    """Run the prompt flow over the held-out prompts and score the answers. Interrupted or killed, it goes on next time.

    Example: `python -m scripts evaluate --deployment green`
    """
    from eval.run import run
    from scripts.serverless import endpoints, release

    values = settings.load(config)
    serverless = endpoints.is_name(values, deployment)
    with release.asked(values, deployment) if serverless else nullcontext(_asked(values, deployment)) as asked:
        done = run(
            prompts,
            asked["uri"],
            out,
            deployment=None if serverless else deployment,
            model_digest=asked["model_digest"] or None,
            serving=asked["serving"],
            few_shot=few_shot,
            repeats=repeats,
            metrics=metrics,
            concurrency=at_once,
            fresh=fresh,
            by=engine,
            shape=asked["shape"],
        )
    how = f" with {few_shot} examples" if few_shot else ""
    name = "exact_match" if "exact_match" in done.metrics else next(iter(done.metrics), None)
    score = f"{name.replace('_', ' ')} {done.metrics[name]:.3f}" if name else "no score"
    said = f"Evaluated {deployment}{how}: {score} over {done.rows} answers"
    said += f", {done.blocked} of them refused by a content filter" if done.blocked else ""
    finish(done, out.with_suffix(".run.json"), said=said, then="python -m scripts gate")


def _asked(values: settings.Settings, colour: str) -> dict[str, str]:
    """What an evaluation asks of a colour. Asked of Azure, not of our records: what was answered by this model on this
    server need not be asked again."""
    from scripts.endpoint import Endpoint

    endpoint = Endpoint(values)
    return {
        "uri": endpoint.scoring_uri(),
        "model_digest": endpoint.deployed_model(colour).digest,
        "serving": (endpoint.deployments()[colour].tags or {}).get("release", ""),
        "shape": endpoint.shape,
    }


@app.command()
def gate(
    candidate: Annotated[Path, typer.Option(help="The candidate's score table.")] = Path("out/scores/candidate.jsonl"),
    baseline: Annotated[
        list[Path] | None,
        typer.Option(
            help="The live model's score tables, the best is the bar; with --live: every stable*.jsonl beside."
        ),
    ] = None,
    candidate_model: Annotated[Path, typer.Option(help="The candidate's model.json.")] = Path("out/model.json"),
    baseline_model: Annotated[Path | None, typer.Option(help="The live model's model.json.")] = None,
    live: Annotated[Path | None, typer.Option(help="Or the live.json of `live`: empty before a first release.")] = None,
    policy: Annotated[Path, typer.Option(help="What good enough means.")] = Path("eval/policy.yaml"),
    prompts: Annotated[Path, typer.Option(help="The held-out prompts, with --keep.")] = Path("data/heldout.jsonl"),
    keep: Annotated[
        bool, typer.Option("--keep", help="Keep it in the workspace: these models are not judged again.")
    ] = False,
    as_output: Annotated[
        bool, typer.Option("--as-output", help="Exit 0 whatever the verdict; the workflow acts on `outcome`.")
    ] = False,
    config: Config = None,
    out: Out = Path("out/verdict.json"),
) -> None:
    """Judge the candidate against the live model. Exit code 1 fail, 2 undecided, 3 invalid.

    Example: `python -m scripts gate --candidate out/scores/candidate.jsonl --baseline out/scores/stable.jsonl`
    """
    from scripts import gate as step

    if (baseline_model is None) == (live is None):
        raise InvalidInput("Say what is live: either --baseline-model FILE or --live FILE.")
    judged = records.read(records.Model, candidate_model)
    now = records.read(records.Model, baseline_model) if baseline_model else None
    if live:
        now = records.read(records.Live, live).model
        found = (path for path in candidate.parent.glob("stable*.jsonl") if not path.name.endswith(".answers.jsonl"))
        baseline = baseline or (sorted(found) if now else [])
    earlier = None
    if keep:
        from scripts import verdicts

        asked = verdicts.question(judged.digest, now.digest if now else "", policy)
        earlier = verdicts.earlier(settings.load(config), asked)
    models = judged.digest, now.digest if now else None
    data = judged.lineage.data if judged.lineage else None
    verdict = step.judge(candidate, baseline or [], policy, *models, data_digest=data, earlier=earlier)
    said = f"Gate: {verdict.outcome}. {verdict.reason}"
    then = "python -m scripts rollout run" if verdict.outcome == "pass" else "python -m scripts report"
    outputs = {"outcome": str(verdict.outcome), "reason": one_line(verdict.reason)}
    finish(verdict, out, said=said, then=then, outputs=outputs, good=verdict.outcome == "pass")
    if keep:
        name = verdicts.key(judged.digest, now.digest if now else "", policy, prompts)
        verdicts.keep_and_tag(settings.load(config), name, verdict, judged, out, [candidate, *(baseline or [])])
    endings = {"fail": Refused, "inconclusive": Undecided, "invalid": InvalidInput}
    if verdict.outcome != "pass" and not as_output:
        raise endings[str(verdict.outcome)](f"The gate says {verdict.outcome}: {verdict.reason}")
