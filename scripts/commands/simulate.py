"""`rollout simulate`, the dry run before a policy is changed, and `rollout ledger`, which records what it can replay.

traffic.py registers both."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from scripts import records, settings
from scripts.commands.options import Config, Out
from scripts.errors import InvalidInput, Refused
from scripts.outputs import console, finish, one_line, table

if TYPE_CHECKING:
    from pydantic import BaseModel

    from scripts.rollout.simulated import Rates, Row, Simulated

EVERY = 10  # minutes in which nothing changed, of which the table shows one
Requests = Annotated[float, typer.Option(help="Requests per minute, of both colours together.")]
StableBad = Annotated[float, typer.Option(help="The stable's share of bad requests, from 0 to 1.")]
CandidateBad = Annotated[float, typer.Option(help="The candidate's share of bad requests, from 0 to 1.")]
FromWeight = Annotated[int, typer.Option(help="Below this weight the candidate is as good as the stable.")]
Swing = Annotated[float, typer.Option(help="By what share the day moves requests and errors up and down, 0 to 1.")]
Instances = Annotated[int, typer.Option(help="Instances of the stable; the candidate begins with one.")]
Delay = Annotated[int, typer.Option(help="Minutes until Azure Monitor knows a minute.")]
Approved = Annotated[bool, typer.Option("--approved/--not-approved", help="Whether the approval was given before.")]
Runs = Annotated[int, typer.Option(min=1, max=100_000, help="More than one: how often it would end how.")]
LedgerFile = Annotated[Path | None, typer.Option("--ledger", help="Recorded minutes (JSONL) instead of made-up ones.")]
AsJson = Annotated[bool, typer.Option("--json", help="The record alone, on standard output.")]


def simulate(
    policy: Annotated[Path | None, typer.Option(help="The policy to try; default scripts/rollout/policy.yaml.")] = None,
    requests_per_minute: Requests = 200,
    stable_bad: StableBad = 0.005,
    candidate_bad: CandidateBad = 0.005,
    bad_from_weight: FromWeight = 0,
    swing: Swing = 0,
    instances: Instances = 1,
    delay_minutes: Delay = 3,
    approved: Approved = True,
    seed: Annotated[int, typer.Option(help="The same seed gives the same requests.")] = 0,
    runs: Runs = 1,
    ledger: LedgerFile = None,
    as_json: AsJson = False,
    out: Out = Path("out/simulated.json"),
) -> None:
    """Dry run: what this policy would do, minute by minute, with made-up or recorded requests. Asks nobody.

    Example: `python -m scripts rollout simulate --candidate-bad 0.05 --policy my-policy.yaml --runs 200`
    """
    from scripts.rollout import ledger as ledgers
    from scripts.rollout import made_up
    from scripts.rollout import policy as policies
    from scripts.rollout import simulated as step

    rules = policies.load(policy or policies.DEFAULT)
    if ledger and runs > 1:
        raise InvalidInput("--ledger and --runs: a ledger says the same each time, so leave one of them out.")
    if ledger:
        if rules.evidence != "users":
            raise InvalidInput(f"--ledger: {policy} judges requests of ours (evidence: sample), a ledger has users'.")
        recorded = ledgers.Ledger(ledgers.read_ledger(ledger))
        return _told_once(step.once(recorded, rules, approved=approved), out, as_json=as_json)
    world = made_up.world_of(
        requests_per_minute=requests_per_minute,
        stable_bad=stable_bad,
        candidate_bad=candidate_bad,
        bad_from_weight=bad_from_weight,
        swing=swing,
        instances=instances,
        delay_minutes=delay_minutes,
        approved=approved,
        seed=seed,
    )
    if runs > 1:
        return _told_often(step.often(world, rules, runs), out, as_json=as_json)
    return _told_once(step.once(made_up.MadeUp(world), rules, approved=approved), out, as_json=as_json)


def _told_once(done: "Simulated", out: Path, *, as_json: bool) -> None:
    if as_json:
        return _print(done)
    columns = ("minute", "phase", "weights", "candidate", "stable", "e", "why")  # bad of all requests
    table(columns, [_cells(row) for row in _worth_showing(done.rows)])
    mine = done.candidate
    said = (
        f"Simulated: {done.end} after {done.minutes:g} minutes, "
        f"{mine.bad} of {mine.requests} requests to the candidate were bad: {done.reason}"
    )
    outputs = {"end": done.end.value, "minutes": f"{done.minutes:g}", "reason": one_line(done.reason)}
    return finish(done, out, said=said, then="--runs 200 says how often", outputs=outputs, good=done.end == "PROMOTED")


def _told_often(done: "Rates", out: Path, *, as_json: bool) -> None:
    if as_json:
        return _print(done)
    rows = [
        ("promoted", f"{done.promoted:.1%}", _median(done.minutes_to_promoted)),
        ("taken back", f"{done.rolled_back:.1%}", _median(done.minutes_to_rolled_back)),
        ("held on the way", f"{done.held:.1%}", ""),
    ]
    table(("what", "share of the runs", "median"), rows)
    table(("why it ended", "runs"), [(why, str(count)) for why, count in done.reasons.items()])
    said = (
        f"Of {done.runs} simulated rollouts {done.promoted:.1%} are promoted, {done.rolled_back:.1%} taken back; "
        f"users get {done.candidate_bad_mean:g} bad answers from the candidate on average"
    )
    outputs = {name: f"{getattr(done, name):.4f}" for name in ("promoted", "rolled_back", "held")}
    return finish(done, out, said=said, then="change the policy and compare", outputs=outputs)


def _print(done: "BaseModel") -> None:
    print(done.model_dump_json(indent=2))


def _median(minutes: float | None) -> str:
    return "" if minutes is None else f"{minutes:g} minutes"


def _worth_showing(rows: list["Row"]) -> list["Row"]:
    """Changes of phase, weights or bad requests; of the quiet minutes between them only some."""
    shown: list[Row] = []
    for row in rows:
        last = shown[-1] if shown else None
        same = last and (last.phase, last.weights, row.candidate.bad) == (row.phase, row.weights, 0)
        if not last or not same or row.minute >= last.minute + EVERY or row is rows[-1]:
            shown.append(row)
    return shown


def _cells(row: "Row") -> tuple[str, ...]:
    weights = f"{row.weights.get('stable', 0)}/{row.weights.get('candidate', 0)}"
    counts = (f"{each.bad}/{each.requests}" for each in (row.candidate, row.stable))
    return (f"{row.minute:g}", row.phase.value, weights, *counts, f"{row.e_value:.3g}", row.why)


def write_ledger(
    candidate: Annotated[str, typer.Option(help="The colour that was on trial.")],
    stable: Annotated[str, typer.Option(help="The colour that it was compared with.")],
    hours: Annotated[float, typer.Option(min=0.1, max=24 * 31, help="How far back from now.")] = 24,
    config: Config = None,
    out: Out = Path("out/ledger.jsonl"),
) -> None:
    """Write what Azure Monitor counted for two colours, minute by minute, for `rollout simulate --ledger`.

    Example: `python -m scripts rollout ledger --candidate green --stable blue --hours 3`
    """
    from datetime import timedelta

    from scripts.rollout import ledger as step
    from scripts.rollout.look import batches_of
    from scripts.rollout.monitor import monitor_of

    values, now = settings.load(config), records.now()
    found = monitor_of(values, values.endpoint).minutes([candidate, stable], now - timedelta(hours=hours), now)
    minutes = step.recorded(batches_of(found.get(candidate, []), found.get(stable, [])))
    if not minutes:
        raise Refused(f"Azure Monitor knows of no request to {candidate} or {stable} in the last {hours:g} hours.")
    records.write_text(out, step.written(minutes))
    requests = sum(minute.candidate.requests + minute.stable.requests for minute in minutes)
    said = f"{len(minutes)} minutes with {requests} requests, from {minutes[0].at:%Y-%m-%d %H:%M} UTC"
    console.print(f"• {said}\n  {out} · next: python -m scripts rollout simulate --ledger {out}", highlight=False)
