"""Move traffic, and take it back: `rollout`, `rollback`."""

from pathlib import Path
from typing import Annotated

import typer

from scripts import settings
from scripts.commands.options import Config, Out
from scripts.errors import Refused, ScriptError
from scripts.outputs import console, finish

app = typer.Typer()
rollout = typer.Typer(no_args_is_help=True, help="Move traffic from the live colour to the candidate.")
app.add_typer(rollout, name="rollout")


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
