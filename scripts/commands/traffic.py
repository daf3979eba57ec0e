"""Move traffic, and take it back: `rollout run|approve|abort|status`, `rollback`, `watchdog`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from scripts import records, settings
from scripts.commands.options import Config, Out
from scripts.errors import InvalidInput, Refused, ScriptError
from scripts.outputs import console, finish

if TYPE_CHECKING:
    from scripts.endpoint import Endpoint
    from scripts.rollout.back import Wish

app = typer.Typer()
rollout = typer.Typer(no_args_is_help=True, help="Move traffic from the live colour to the candidate.")
app.add_typer(rollout, name="rollout")

VerdictFile = Annotated[Path, typer.Option("--verdict", help="The verdict.json of `gate`.")]
Reason = Annotated[str, typer.Option(help="Why, in any words; kept whole in the record, cut in the endpoint's tags.")]


@rollout.command("run")
def rollout_run(
    candidate: Annotated[
        str | None, typer.Option(help="The colour that is to become live; default the idle one.")
    ] = None,
    verdict: VerdictFile = Path("out/verdict.json"),
    traffic: Annotated[Path, typer.Option(help="Sample conversations sent while it bakes.")] = Path("data/live.jsonl"),
    policy: Annotated[Path, typer.Option(help="Steps and limits.")] = Path("scripts/rollout/policy.yaml"),
    approval: Annotated[Path | None, typer.Option(help="The approval.json of `rollout approve`: it must fit.")] = None,
    again: Annotated[
        bool, typer.Option("--again", help="Though this verdict's rollout was taken back before.")
    ] = False,
    config: Config = None,
    out: Out = Path("out/rollout.json"),
) -> None:
    """Shift traffic in steps, judged by the requests themselves; go on where a runner died; take it back when worse.

    Example: `python -m scripts rollout run --candidate green`
    """
    from eval.verdict import read_verdict
    from scripts import sample_requests
    from scripts.rollout import policy as policies
    from scripts.rollout import run as step
    from scripts.rollout.approval import Approval

    done = step.run(
        settings.load(config),
        read_verdict(verdict),
        candidate,
        sample_requests.bodies(traffic),
        policies.load(policy),
        _tell,
        approval=records.read(Approval, approval) if approval else None,
        again=again,
    )
    said = f"Rollout of {done.candidate}: {done.state}, {_line(done.reason)}"
    promoted = done.state == "PROMOTED"
    outputs = {"state": done.state, "candidate": done.candidate, "stable": done.stable, "reason": _line(done.reason)}
    finish(done, out, said=said, then="python -m scripts report", outputs=outputs, good=promoted)
    if done.state == "ROLLBACK_STUCK":
        raise ScriptError(f"{done.endpoint} could not be taken back to {done.stable}: do it by hand now. {done.reason}")
    if not promoted:
        raise Refused(f"Traffic is back on {done.stable or 'nobody'}: {_line(done.reason)}.")


@rollout.command()
def approve(
    verdict: VerdictFile = Path("out/verdict.json"),
    by: Annotated[str | None, typer.Option(help="Who approves; default the run's reviewers, or you.")] = None,
    out: Out = Path("out/approval.json"),
) -> None:
    """Say that this verdict may go live. In a workflow the reviewers of the run are asked for.

    Example: `python -m scripts rollout approve --verdict out/verdict.json --by alice`
    """
    from eval.verdict import read_verdict
    from scripts.rollout import approval as step

    done = step.approve(read_verdict(verdict), by)
    said = f"{done.approved_by} approved verdict {done.verdict_digest[:12]}"
    outputs = {"approved_by": done.approved_by, "verdict_digest": done.verdict_digest}
    finish(done, out, said=said, then=f"python -m scripts rollout run --approval {out}", outputs=outputs)


@rollout.command()
def status(
    as_json: Annotated[bool, typer.Option("--json", help="The record alone, on standard output.")] = False,
    config: Config = None,
    out: Out = Path("out/rollout-status.json"),
) -> None:
    """Say what is live, who moves it, how long ago that was heard of, and what it waits for.

    Example: `python -m scripts rollout status`
    """
    from scripts.endpoint import Endpoint
    from scripts.rollout import status as step
    from scripts.rollout.store import BlobStore

    values = settings.load(config)
    done = step.status(Endpoint(values), BlobStore(values))
    if as_json:
        print(done.model_dump_json(indent=2))
        return
    age = (
        f", {done.runner} was heard of {done.heartbeat_seconds:.0f} s ago" if done.heartbeat_seconds is not None else ""
    )
    said = (
        f"{done.endpoint} serves {done.live or 'nobody'}; {done.phase or 'no rollout'}{age}; waits for {done.waits_for}"
    )
    finish(
        done, out, said=said, then="python -m scripts rollout run, or abort", outputs={"phase": done.phase or "none"}
    )


@rollout.command()
def abort(reason: Reason, config: Config = None, out: Out = Path("out/rollback.json")) -> None:
    """Take back the rollout that is under way, whether its runner lives or not.

    Example: `python -m scripts rollout abort --reason "wrong priorities"`
    """
    from scripts.endpoint import Endpoint
    from scripts.rollout.back import Wish

    values = settings.load(config)
    _take_back(values, Endpoint(values), Wish(reason, only_under_way=True), out)


@app.command()
def rollback(
    reason: Reason,
    to: Annotated[
        str | None, typer.Option(help="The colour that gets all traffic; default what was live before.")
    ] = None,
    endpoint: Annotated[str | None, typer.Option(help="The endpoint's name, to be sure; the settings have it.")] = None,
    config: Config = None,
    out: Out = Path("out/rollback.json"),
) -> None:
    """Give the stable colour all the traffic now, whatever a rollout is doing.

    Example: `python -m scripts rollback --to blue --reason "wrong priorities"`
    """
    from scripts.endpoint import Endpoint
    from scripts.rollout.back import Wish

    values = settings.load(config)
    place = Endpoint(values)
    if endpoint is not None and endpoint != values.endpoint:
        raise InvalidInput(
            f"--endpoint {_line(endpoint)!r} is not this environment's endpoint {values.endpoint} (key `endpoint` in "
            f"{config}); workspace {values.workspace} has {place.all_names()}."
        )
    _take_back(values, place, Wish(reason, to), out)


@app.command()
def watchdog(
    stale_minutes: Annotated[float, typer.Option(min=0, help="Silence after which a runner counts as dead.")] = 20,
    config: Config = None,
    out: Out = Path("out/watchdog.json"),
) -> None:
    """Take back a rollout whose runner died, and weights that nobody vouches for.

    Example: `python -m scripts watchdog --stale-minutes 20`
    """
    from datetime import timedelta

    from scripts.endpoint import Endpoint
    from scripts.rollout import watch as step
    from scripts.rollout.store import BlobStore

    values = settings.load(config)
    done = step.watch(Endpoint(values), BlobStore(values), timedelta(minutes=stale_minutes), _tell)
    good = done.action == "none"
    said = f"All is well with {done.endpoint}: {_line(done.reason)}"
    if not good:
        said = f"Traffic of {done.endpoint} was taken back to {done.traffic or 'nobody'}: {_line(done.reason)}"
    then = "nothing" if good else "find out why its runner died"
    finish(done, out, said=said, then=then, outputs={"action": done.action, "reason": _line(done.reason)}, good=good)


def _take_back(values: settings.Settings, place: "Endpoint", wish: "Wish", out: Path) -> None:
    from scripts.rollout import back
    from scripts.rollout.store import BlobStore

    done = back.roll_back(place, lambda: BlobStore(values), wish, _tell)
    said = f"Traffic of {done.endpoint} is {done.traffic or 'nobody'}: {_line(done.reason)}"
    kept = {"to": done.to, "state_kept": str(done.state_kept).lower(), "reason": _line(done.reason)}
    finish(done, out, said=said, then="find out why", outputs=kept)


def _line(text: str) -> str:
    from scripts.rollout.state import one_line

    return one_line(text)


def _tell(line: str) -> None:
    console.print(line, highlight=False, markup=False)
