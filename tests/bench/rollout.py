"""The rollout: how often it errs and how fast it is, beside common rules on the same traffic; and what deciding costs.

Writes the tables of docs/rollout.md. Seeds are fixed: if the page changes, the rollout does.
"""

import statistics
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

from scripts.rollout import decide, simulate
from scripts.rollout import policy as policies
from scripts.rollout.evidence import Batch, Count
from scripts.rollout.made_up import MINUTE, MadeUp, World, batch, sides
from scripts.rollout.observation import Observation
from scripts.rollout.simulated import Rates
from scripts.rollout.state import RolloutState
from tests.bench import _gate_pages, _rollout_histories
from tests.bench._limit import against
from tests.bench._rollout_histories import tick_ms
from tests.bench._rollout_rules import RULES
from tests.bench._rollout_study import RUNS, SAME, WORSE, Case, Found, each, judged, whole

DOCS = Path(__file__).parents[2] / "docs" / "rollout.md"
BEGIN = "<!-- measured by make bench BENCH=rollout -->"
OURS = "**this rollout**"
REQUESTS, MINUTES = 1_000_000, 5_000
LEDGER_SECONDS, STEP_MS = 1.0, 300.0


def run() -> list[dict[str, Any]]:
    cases = (*SAME, *WORSE)
    found, ends = each(judged, cases), each(whole, cases)
    by_case = dict(zip(cases, found, strict=True))
    tables = [
        _table("goes back although it is no worse", [(case, by_case[case]) for case in SAME], _alarm),
        _table("goes back because it is worse, and when (median)", [(case, by_case[case]) for case in WORSE], _alarm),
        _ends(list(zip(cases, ends, strict=True))),
    ]
    same = _gate_pages.update(DOCS, "\n\n".join(tables), BEGIN)
    print(f"  {'docs/rollout.md says what was measured' if same else '✗ docs/rollout.md was written anew'}")
    rows = [_row(case, by_case[case][OURS], other, name) for case in cases for name, other in by_case[case].items()]
    return [row for row in rows if row["other_is"] != OURS] + cost()


def _table(title: str, columns: list[tuple[Case, dict[str, Found]]], cell: Any) -> str:
    lines = [f"| {title} | {' | '.join(case.title for case, _ in columns)} |", "| --- |" + " ---: |" * len(columns)]
    for name in RULES:
        lines.append(f"| {name} | {' | '.join(cell(case, found[name]) for case, found in columns)} |")
    return "\n".join(lines)


def _alarm(case: Case, found: Found) -> str:
    low, high = found.interval
    when = f", {found.minutes:.0f} min" if case in WORSE and found.minutes else ""
    return f"{_percent(found.share)} ({_percent(low)}–{_percent(high)}){when}"


def _percent(share: float) -> str:
    """With a tenth where it matters; never 0 or 100 for what is not."""
    if 0 < share < 0.001 or 0.999 < share < 1:
        return "<0.1" if share < 0.5 else ">99.9"
    return f"{100 * share:.1f}" if 0 < share < 0.1 or 0.99 < share < 1 else f"{100 * share:.0f}"


def _ends(rows: list[tuple[Case, Rates]]) -> str:
    heads = ("a whole rollout", "promoted", "after", "taken back", "after", "bad answers of the candidate")
    lines = [f"| {' | '.join(heads)} |", "| --- |" + " ---: |" * (len(heads) - 1)]
    for case, rates in rows:
        after = (_minutes(rates.minutes_to_promoted), _minutes(rates.minutes_to_rolled_back))
        shares = (f"{_percent(rates.promoted)} %", f"{_percent(rates.rolled_back)} %")
        cells = (case.title, shares[0], after[0], shares[1], after[1], f"{rates.candidate_bad_mean:.0f}")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _minutes(value: float | None) -> str:
    return "–" if value is None else f"{value:.0f} min"


def _row(case: Case, ours: Found, other: Found, other_is: str) -> dict[str, Any]:
    ratio = round(ours.share / other.share, 3) if other.share else 0.0
    values = {"ours": round(ours.share, 4), "other": round(other.share, 4), "other_is": other_is, "ratio": ratio}
    return {"metric": f"goes back: {case.title}", "unit": "share", **values, "runs": RUNS}


def cost() -> list[dict[str, Any]]:
    """The ledger is the best of three: who comes back after days decides once over everything counted since."""
    seconds = min(_over_a_ledger() for _ in range(3))
    steps = [_one_step() for _ in range(200)]
    state, _ = _baking()
    kept, reached = _rollout_histories.histories()
    print(f"  of {kept:,} histories: {', '.join(f'{phase} in {count:,}' for phase, count in sorted(reached.items()))}")
    what = f"a decision over {REQUESTS:,} requests in {MINUTES:,} minutes"
    return [
        against(what, "s", seconds, LEDGER_SECONDS),
        against("one decide.step with one new minute", "ms", 1000 * statistics.median(steps), STEP_MS),
        against("a tick with ten new minutes, besides Azure", "ms", tick_ms(state, policies.load()), STEP_MS),
        against("histories with every promise kept", "histories", kept, _rollout_histories.RUNS),
    ]


def _baking() -> tuple[RolloutState, Observation]:
    moment = next(simulate.drive(source := MadeUp(World()), policies.load(), approved=True))
    return moment.state, simulate.look(source, ())


def _ledger(state: RolloutState, minutes: int) -> list[Batch]:
    mine, other = (Count(requests=REQUESTS // MINUTES // 2, bad=1) for _ in range(2))
    return [batch(state.since + each * MINUTE, sides(mine, other)) for each in range(minutes)]


def _over_a_ledger() -> float:
    state, seen = _baking()
    batches = _ledger(state, MINUTES)
    return _timed(state, seen, batches)


def _one_step() -> float:
    state, seen = _baking()
    return _timed(state, seen, _ledger(state, 1))


def _timed(state: RolloutState, seen: Observation, batches: list[Batch]) -> float:
    rules, now = policies.load(), state.since + timedelta(minutes=len(batches))
    told = Observation(seen.weights, seen.mirror, seen.deployed, batches)
    started = time.perf_counter()
    after, _ = decide.step(state, told, now, rules)
    seconds = time.perf_counter() - started
    counted = after.evidence.whole.candidate.requests
    assert counted == sum(each.signals["error"].candidate.requests for each in batches), counted
    return seconds
