"""Move traffic: `rollout start|tick|run|approve|status|simulate`. The way back is in take_back.py."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from scripts import records, settings
from scripts.commands.options import Config, Out
from scripts.commands.simulate import simulate, write_ledger
from scripts.errors import Refused, ScriptError, Undecided
from scripts.outputs import console, finish, table

if TYPE_CHECKING:
    from scripts.rollout.begin import Wanted
    from scripts.rollout.policy import Policy

app = typer.Typer()
rollout = typer.Typer(no_args_is_help=True, help="Move traffic from what is live to the candidate.")
app.add_typer(rollout, name="rollout")
rollout.command()(simulate)
rollout.command("ledger")(write_ledger)

VerdictFile = Annotated[Path, typer.Option("--verdict", help="The verdict.json of `gate`.")]
Reason = Annotated[str, typer.Option(help="Why, in any words; kept whole in the record, cut in the endpoint's tags.")]


Candidate = Annotated[str | None, typer.Option(help="The colour that is to become live; default the idle one.")]
ApprovalFile = Annotated[Path | None, typer.Option("--approval", help="The approval.json of `rollout approve`.")]
PolicyFile = Annotated[Path | None, typer.Option("--policy", help="Steps and limits; default the environment's.")]
Again = Annotated[bool, typer.Option("--again", help="Though this verdict's rollout was taken back before.")]
Traffic = Annotated[Path, typer.Option(help="Conversations sent as evidence where there are no users.")]
Prompts = Annotated[Path, typer.Option(help="Held-out prompts, for smoke tests and for probes of both colours.")]


@rollout.command()
def start(
    candidate: Candidate = None,
    verdict: VerdictFile = Path("out/verdict.json"),
    policy: PolicyFile = None,
    approval: ApprovalFile = None,
    again: Again = False,
    config: Config = None,
    out: Out = Path("out/rollout.json"),
) -> None:
    """Begin a rollout and move nothing yet: every `rollout tick` takes it further.

    Example: `python -m scripts rollout start --candidate green`
    """
    from scripts.rollout import run as step

    values = settings.load(config)
    done = step.start(values, _wanted(values, verdict, policy, candidate, approval, again=again))
    _finish(done, out)


@rollout.command()
def tick(
    policy: PolicyFile = None,
    approval: ApprovalFile = None,
    traffic: Traffic = Path("data/live.jsonl"),
    prompts: Prompts = Path("data/heldout.jsonl"),
    config: Config = None,
    out: Out = Path("out/rollout.json"),
) -> None:
    """Do what can be done now for the rollout that is under way, and end: for a schedule. Any number do no harm.

    Example: `python -m scripts rollout tick`
    """
    from scripts.rollout import run as step
    from scripts.rollout.approval import Approval

    values = settings.load(config)
    given = records.read(Approval, approval) if approval else None
    sources = step.sources_of(traffic, prompts)
    _finish(step.tick(values, _policy(values, policy), given, sources, tell), out)


@rollout.command("run")
def rollout_run(
    candidate: Candidate = None,
    verdict: VerdictFile = Path("out/verdict.json"),
    traffic: Traffic = Path("data/live.jsonl"),
    prompts: Prompts = Path("data/heldout.jsonl"),
    policy: PolicyFile = None,
    approval: ApprovalFile = None,
    again: Again = False,
    config: Config = None,
    out: Out = Path("out/rollout.json"),
) -> None:
    """Shift traffic in steps, judged by the requests themselves; go on where a runner died; take it back when worse.

    Example: `python -m scripts rollout run --candidate green`
    """
    from scripts.rollout import run as step

    values = settings.load(config)
    wanted = _wanted(values, verdict, policy, candidate, approval, again=again)
    _finish(step.run(values, wanted, step.sources_of(traffic, prompts), tell), out, to_the_end=True)


@rollout.command()
def approve(
    verdict: VerdictFile = Path("out/verdict.json"),
    by: Annotated[str | None, typer.Option(help="Who approves; default the run's reviewers, or you.")] = None,
    policy: PolicyFile = None,
    config: Config = None,
    out: Out = Path("out/approval.json"),
) -> None:
    """Say that this verdict may go live. In a workflow the reviewers of the run are asked for.

    Example: `python -m scripts rollout approve --verdict out/verdict.json --by alice`
    """
    from eval.verdict import read_verdict
    from scripts.rollout import approval as step
    from scripts.rollout import policy as policies

    rules = policies.load(policy or settings.rollout_policy(config))
    done = step.approve(read_verdict(verdict), by, rules)
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
    from scripts.front import front_of
    from scripts.rollout import status as step
    from scripts.rollout.store import BlobStore

    values = settings.load(config)
    done = step.status(front_of(values), BlobStore(values))
    if as_json:
        print(done.model_dump_json(indent=2))
        return
    said = f"{done.endpoint}: {done.phase or 'no rollout'}, waits for {done.waits_for}"
    then = "python -m scripts rollout run, or abort"
    finish(done, out, said=said, then=then, outputs={"phase": done.phase or "none"})
    table(("colour", "traffic", "requests", "bad"), step.drawn(done))
    if done.heartbeat_seconds is not None:
        shown = ", ".join(f"{name} {value:g}" for name, value in (done.harm_e_values or {}).items())
        values_of = {
            "step": f"{done.step or '-'}, {done.weight} %",
            "harm (e-value)": shown or "-",
            "run by": f"{done.runner}, heard of {done.heartbeat_seconds:.0f} s ago (process {done.epoch})",
            "approved by": done.approved_by or "nobody yet",
            "because": line(done.reason or "-"),
        }
        table(("", ""), list(values_of.items()))


def _policy(values: settings.Settings, path: Path | None) -> "Policy":
    from scripts.rollout import policy as policies

    return policies.load(path or values.rollout_policy)


def _wanted(
    values: settings.Settings,
    verdict: Path,
    policy: Path | None,
    candidate: str | None,
    approval: Path | None,
    *,
    again: bool,
) -> "Wanted":
    from eval.verdict import read_verdict
    from scripts.rollout.approval import Approval
    from scripts.rollout.begin import Wanted

    given = records.read(Approval, approval) if approval else None
    return Wanted(read_verdict(verdict), _policy(values, policy), candidate, given, again)


def _finish(done: records.Rollout, out: Path, *, to_the_end: bool = False) -> None:
    """Exit code 0 promoted or on its way, 1 taken back, 2 when a person must do something first.

    `to_the_end`: on its way is not enough, for whoever called is the last to look after it.
    """
    said = f"Rollout of {done.candidate}: {done.state}, {line(done.reason)}"
    going = done.state not in ("ROLLED_BACK", "ROLLBACK_STUCK")
    outputs = {"state": done.state, "candidate": done.candidate, "stable": done.stable, "reason": line(done.reason)}
    then = {"PROMOTED": "python -m scripts report", "AWAIT_APPROVAL": "python -m scripts rollout approve"}
    finish(
        done, out, said=said, then=then.get(done.state, "python -m scripts rollout status"), outputs=outputs, good=going
    )
    if done.state == "ROLLBACK_STUCK":
        raise ScriptError(f"{done.endpoint} could not be taken back to {done.stable}: do it by hand now. {done.reason}")
    if not going:
        raise Refused(f"Traffic is back on {done.stable or 'nobody'}: {line(done.reason)}.")
    if done.state == "AWAIT_APPROVAL":
        raise Undecided(f"The rollout of {done.candidate} waits for an approval: `rollout approve`, then go on.")
    if to_the_end and done.state != "PROMOTED":
        raise Undecided(
            f"The rollout of {done.candidate} stopped in {done.state} and its traffic stays as it is: "
            "`rollout status` says what it waits for. Go on with `rollout run`, or `rollout abort`."
        )


def line(text: str) -> str:
    from scripts.rollout.words import one_line

    return one_line(text)


def tell(line: str) -> None:
    console.print(line, highlight=False, markup=False)
