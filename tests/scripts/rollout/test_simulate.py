"""The dry run, and what it measures of the decider: how often it errs, how fast it is, that it always ends."""

import json
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest
from typer.testing import CliRunner

from scripts.__main__ import app
from scripts.errors import InvalidInput
from scripts.rollout import policy as policies
from scripts.rollout.harm import below_limit
from scripts.rollout.ledger import Ledger, Minute, read_ledger
from scripts.rollout.made_up import CANDIDATE, MINUTE, STABLE, START, MadeUp, World
from scripts.rollout.policy import Policy
from scripts.rollout.simulate import LIMIT, drive
from scripts.rollout.simulated import Simulated, often, once, words
from scripts.rollout.state import TERMINAL, Phase

POLICY = policies.load()
ERRORS = POLICY.model_copy(update={"harm": POLICY.harm.model_copy(update={"signals": {"error": 1.0}})})
QUIET = {"delay_minutes": 0, "bad_from_weight": 1}  # minutes known at once, a smoke test that is good


@pytest.mark.slow
@pytest.mark.parametrize(
    "world",
    [
        World(requests_per_minute=20),
        World(requests_per_minute=200),
        World(stable_bad=0.01, candidate_bad=0.0125, **QUIET),
        World(stable_bad=0.01, candidate_bad=0.0125, swing=0.8, period_minutes=30, **QUIET),
    ],
    ids=["same-20", "same-200", "tolerated", "tolerated-time-of-day"],
)
def test_a_candidate_that_is_no_worse_is_seldom_taken_back(world: World) -> None:
    """Even what the number of runs leaves open stays below alpha, with one signal (all of alpha) judged."""
    runs = 400
    rates = often(world, ERRORS, runs)
    assert rates.promoted + rates.rolled_back == 1
    assert binomtest(round(rates.rolled_back * runs), runs).proportion_ci(0.95).high <= ERRORS.harm.alpha


# A whole rollout at its own pace; docs/rollout.md has the same within half an hour, beside other rules.
@pytest.mark.parametrize(
    ("world", "share", "median"),
    [
        (World(candidate_bad=0.05, **QUIET), 1.0, 5),
        (World(candidate_bad=0.2, requests_per_minute=20, **QUIET), 1.0, 7),
        (World(candidate_bad=1.0, requests_per_minute=20, **QUIET), 1.0, 2),
        (World(stable_bad=0.01, candidate_bad=0.03, **QUIET), 0.84, 20),
        (World(stable_bad=0.003, candidate_bad=0.009, requests_per_minute=2000, **QUIET), 1.0, 12),
    ],
    ids=["0.5-5", "0.5-20-slow", "total-slow", "1-3", "under-slo"],
)
def test_a_candidate_that_is_worse_is_taken_back_soon(world: World, share: float, median: float) -> None:
    rates = often(world, ERRORS, 150)
    assert rates.rolled_back >= share
    assert rates.minutes_to_rolled_back is not None and rates.minutes_to_rolled_back <= median


def test_the_policy_as_it_ships_finds_gross_harm_within_minutes() -> None:
    """Signals that nobody measures (slow, probe) take two thirds of the stake: it is two minutes slower."""
    rates = often(World(candidate_bad=0.2, requests_per_minute=20, **QUIET), POLICY, 150)
    assert rates.rolled_back == 1 and rates.minutes_to_rolled_back is not None and rates.minutes_to_rolled_back <= 9


def minutes_of(done: Simulated) -> list[Minute]:
    """What the simulation saw, as a ledger (minutes known at once)."""
    counted = [(row.candidate.model_dump(), row.stable.model_dump()) for row in done.rows[1:]]
    return [
        Minute.model_validate({"at": START + index * MINUTE, "candidate": mine, "stable": other})
        for index, (mine, other) in enumerate(counted)
    ]


@pytest.mark.parametrize("candidate_bad", [0.005, 0.05, 0.02])
@pytest.mark.parametrize("seed", [0, 1])
def test_a_ledger_gives_the_same_decisions_again(candidate_bad: float, seed: int, tmp_path: Path) -> None:
    """Byte for byte: as when the requests came in, and as in every other replay. What probes said is in no ledger."""
    done = once(MadeUp(World(candidate_bad=candidate_bad, seed=seed, **QUIET)), ERRORS, approved=True)
    file = tmp_path / "ledger.jsonl"
    file.write_text("".join(minute.model_dump_json() + "\n" for minute in minutes_of(done)), encoding="utf-8")
    first, second = (once(Ledger(read_ledger(file)), ERRORS, approved=True) for _ in range(2))
    assert first.model_dump_json() == second.model_dump_json()
    assert [row.model_dump_json() for row in first.rows] == [row.model_dump_json() for row in done.rows]
    assert (first.end, first.reason) == (done.end, done.reason)


def test_a_ledger_that_ends_early_leaves_the_rollout_where_it_is() -> None:
    done = once(MadeUp(World(**QUIET)), ERRORS, approved=True)
    early = once(Ledger(minutes_of(done)[:5]), ERRORS, approved=True)
    assert early.end is Phase.BAKE and early.minutes == 5
    assert early.rows == done.rows[: len(early.rows)]


minutes = st.integers(0, 20)


@st.composite
def made_up_policies(draw: st.DrawFn) -> Policy:
    least = draw(minutes)
    changes = {
        "steps": [*sorted(draw(st.sets(st.integers(1, 99), max_size=4))), 100],
        "evidence": draw(st.sampled_from(["users", "sample"])),
        "bake": {
            "minutes": least,
            "post_minutes": draw(minutes),
            "max_minutes": least + draw(minutes),
            "held_minutes": draw(minutes),
            "min_requests": draw(st.integers(1, 500)),
        },
        "bad_below": draw(st.floats(0.01, 0.5)),
        "shadow": {"percent": draw(st.sampled_from([0, 10, 50])), "minutes": draw(minutes)},
        "approval": {"required": draw(st.booleans()), "max_age_hours": draw(st.floats(0.1, 3)), "wait_hours": 2},
        "sample": {"per_look": draw(st.integers(1, 50)), "max_per_step": draw(st.integers(1, 300))},
        "probes": {**POLICY.probes.model_dump(), "max_pairs": draw(st.integers(1, 60))},
        "safety": {**POLICY.safety.model_dump(), "pairs_per_look": draw(st.integers(1, 9)), "min_answers": 1},
    }
    return Policy.model_validate({**POLICY.model_dump(), **changes})


worlds = st.builds(
    World,
    requests_per_minute=st.sampled_from([0, 1, 20, 500]),
    stable_bad=st.sampled_from([0.0, 0.01, 0.3, 1.0]),
    candidate_bad=st.sampled_from([0.0, 0.01, 0.1, 0.6, 1.0]),
    bad_from_weight=st.sampled_from([0, 1, 50, 100]),
    swing=st.sampled_from([0.0, 0.8]),
    instances=st.integers(1, 20),
    delay_minutes=st.sampled_from([0, 3]),
    approved=st.booleans(),
    seed=st.integers(0, 99),
)


@given(made_up_policies(), worlds)
@settings(max_examples=300, deadline=None)
def test_every_rollout_ends_and_moves_only_along_its_steps(policy: Policy, world: World) -> None:
    source, weight, moment = MadeUp(world), -1, None
    for moment in drive(source, policy, approved=world.approved):  # noqa: B007 - the last one is looked at below
        assert sum(source.weights.values()) == 100 and not set(source.weights) & set(source.mirror)
        now = source.weights.get(CANDIDATE, 0)
        if now:
            assert now in policy.steps and now >= weight
            assert source.candidate_instances * 100 >= source.instances * now
            assert world.approved or not policy.approval.required
        weight = max(weight, now)
    assert moment is not None and moment.state.phase in TERMINAL and moment.now - source.start < LIMIT
    home = CANDIDATE if moment.state.phase is Phase.PROMOTED else STABLE
    assert (source.weights, source.mirror) == ({home: 100}, {})
    event(f"ended {moment.state.phase}: {words(moment.state.reason)}")


def test_without_traffic_or_answers_nothing_is_promoted() -> None:
    """A ledger in which the candidate never answers is no evidence, however long it is."""
    quiet = {"candidate": {"requests": 0, "bad": 0}, "stable": {"requests": 100, "bad": 0}}
    ledger = [Minute.model_validate({"at": START + index * MINUTE, **quiet}) for index in range(500)]
    done = once(Ledger(ledger), POLICY, approved=True)
    assert done.end is Phase.ROLLED_BACK and done.held
    longest = POLICY.bake.minutes + POLICY.bake.max_minutes + POLICY.bake.held_minutes
    assert done.minutes <= longest + 2


def test_without_an_approval_no_request_reaches_the_candidate() -> None:
    done = once(MadeUp(World(approved=False)), POLICY, approved=False)
    assert done.end is Phase.ROLLED_BACK and done.candidate.requests == 0
    assert timedelta(minutes=done.minutes) > timedelta(hours=POLICY.approval.wait_hours)


def test_a_candidate_of_which_everything_is_bad_is_not_shown_to_be_good() -> None:
    assert below_limit(400, 400, 0.05) <= 0
    assert below_limit(796, 2532, 0.05) <= 0


def test_a_candidate_that_breaks_under_the_whole_load_is_taken_back_within_minutes() -> None:
    done = once(MadeUp(World(candidate_bad=1.0, bad_from_weight=100, delay_minutes=0)), POLICY, approved=True)
    assert done.end is Phase.ROLLED_BACK and done.candidate.bad < 2_000


def cli(*words: str) -> tuple[int, str]:
    """The exit code, with `scripts.errors` as the program's entry maps them, and what was said."""
    done = CliRunner().invoke(app, ["rollout", "simulate", *words])
    if isinstance(done.exception, InvalidInput):
        return done.exception.exit_code, str(done.exception)
    return done.exit_code, done.output


def test_the_command_writes_its_record_and_outputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, outputs = tmp_path / "simulated.json", tmp_path / "outputs"
    monkeypatch.setenv("GITHUB_OUTPUT", str(outputs))
    code, _ = cli("--candidate-bad", "0.1", "--out", str(out))
    record = Simulated.model_validate_json(out.read_text())
    assert code == 0 and record.end is Phase.ROLLED_BACK
    assert "end=ROLLED_BACK" in outputs.read_text().splitlines()
    code, said = cli("--candidate-bad", "0.1", "--json")
    assert code == 0 and json.loads(said) == json.loads(out.read_text())
    code, said = cli("--runs", "3", "--json")
    assert code == 0 and json.loads(said)["runs"] == 3


GOOD = (
    '{"at": "2026-01-05T10:00:00Z", "candidate": {"requests": 20, "bad": 0}, "stable": {"requests": 180, "bad": 1}}\n'
)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no minutes"),
        ("nope\n", "line 1: not a minute"),
        (GOOD + GOOD, "line 2: minutes must rise"),
        (GOOD + GOOD.replace("2026-01-05", "2027-01-05"), "line 2: more than 31 days"),
        (GOOD.replace('"bad": 0', '"bad": 21'), "line 1: candidate: 21 bad ones of 20 requests"),
        (GOOD.replace('"bad": 0', '"bad": NaN'), "line 1"),
        (GOOD.replace('"bad": 0', '"bad": -1'), "line 1: candidate.bad"),
        (GOOD.replace('"bad": 0', '"worse": 1'), "line 1: candidate.bad: Field required"),
        (GOOD.replace("Z", ""), "line 1: at: Input should have timezone info"),
    ],
)
def test_a_ledger_that_is_none_is_refused_in_one_sentence(text: str, said: str, tmp_path: Path) -> None:
    file, out = tmp_path / "ledger.jsonl", tmp_path / "out.json"
    file.write_text(text, encoding="utf-8")
    code, message = cli("--ledger", str(file), "--out", str(out))
    assert code == 3 and said in message and "\n" not in message and not out.exists()


@pytest.mark.parametrize(
    "words",
    [
        ["--candidate-bad", "nan"],
        ["--candidate-bad", "1.5"],
        ["--requests-per-minute", "-1"],
        ["--bad-from-weight", "101"],
        ["--instances", "0"],
        ["--seed", "-1"],
        ["--ledger", "nowhere.jsonl"],
        ["--ledger", "nowhere.jsonl", "--runs", "2"],
        ["--ledger", "nowhere.jsonl", "--policy", str(policies.LOCAL)],
        ["--policy", "nowhere.yaml"],
    ],
)
def test_bad_options_are_refused_in_one_sentence(words: list[str], tmp_path: Path) -> None:
    code, message = cli(*words, "--out", str(tmp_path / "out.json"))
    assert code == 3 and words[0].lstrip("-").split(".")[0] in message.replace("nowhere", "ledger policy")
    assert "\n" not in message and not list(tmp_path.iterdir())
