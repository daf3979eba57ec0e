"""What the counts come to: harm, enough, and the rules that need no statistics."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scripts.endpoint import Answer
from scripts.errors import AzureFailed
from scripts.rollout import policy as policies
from scripts.rollout.evidence import Batch, Count, Evidence, Graded, Sides, harmful, missing
from scripts.rollout.look import Eyes, batch_of, batches_of
from scripts.rollout.monitor import Minute
from scripts.rollout.state import Phase
from tests.scripts.rollout.test_resume import at
from tests.scripts.rollout.world import World

POLICY = policies.load()
AT = datetime(2026, 1, 2, 3, 4, tzinfo=UTC)
READ = Graded(sides=Sides(candidate=Count(requests=POLICY.safety.min_answers)))


def batch(mine: tuple[int, int], other: tuple[int, int], minute: int = 0, **changes: Any) -> Batch:
    """(bad, all) of the candidate and of the stable."""
    sides = Sides(candidate=Count(bad=mine[0], requests=mine[1]), stable=Count(bad=other[0], requests=other[1]))
    return Batch(at=AT + timedelta(minutes=minute), signals={"error": sides}, **changes)


def seen(*batches: Batch) -> Evidence:
    known = Evidence()
    for each in batches:
        known = known.plus(each, POLICY)
    return known


def test_harm_needs_two_minutes() -> None:
    one = batch((4, 20), (0, 180))
    assert not harmful(seen(one), one, POLICY)
    other = batch((4, 20), (0, 180), 1)
    assert "does worse" in harmful(seen(one, other), other, POLICY)


def test_unless_most_of_what_the_candidate_answers_fails() -> None:
    one = batch((3, 4), (0, 180))
    assert "3 of 4" in harmful(seen(one), one, POLICY)


def test_a_candidate_no_worse_than_the_stable_is_left_alone() -> None:
    bad_day = [batch((5, 20), (45, 180), minute) for minute in range(30)]
    assert not harmful(seen(*bad_day), bad_day[-1], POLICY)


def test_hard_rules_need_no_comparison() -> None:
    row = batch((5, 40), (0, 0), in_a_row=5)
    assert "in a row" in harmful(Evidence(), row, POLICY)
    assert not harmful(Evidence(), batch((4, 40), (0, 0), in_a_row=4), POLICY)
    unsafe = Evidence().with_graded(Graded(critical="violence, severity 7 of 7"), POLICY)
    assert "never be given (violence, severity 7 of 7)" in harmful(unsafe, None, POLICY)


def test_where_the_stable_answers_nothing_the_service_level_decides() -> None:
    bad = batch((16, 80), (0, 0))
    assert "16 of 80" in harmful(seen(bad), bad, POLICY, alone=True)
    assert not harmful(seen(bad), bad, POLICY)
    probed = batch((200, 200), (0, 20))  # a few of ours reach the stable there; users do not
    assert harmful(seen(probed), batch((1, 220), (0, 0)), POLICY, alone=True)
    fine = batch((2, 40), (0, 0))
    assert not harmful(seen(fine), fine, POLICY, alone=True)
    assert not harmful(seen(batch((8, 40), (36, 180))), None, POLICY)  # the stable does no better


def test_probes_alone_can_show_harm() -> None:
    known = Evidence().with_pairs([1.0] * 40, POLICY)
    assert "e-value" in harmful(known, None, POLICY)
    assert not harmful(Evidence().with_pairs([0.0] * 400, POLICY), None, POLICY)


@given(st.integers(0, 500), st.integers(0, 3))
def test_there_is_enough_only_with_requests_here_and_the_service_level_shown(requests: int, bad: int) -> None:
    bad = min(bad, requests)
    known = seen(batch((bad, requests), (0, 1000))).with_graded(READ, POLICY)
    lacking = missing(known, POLICY)
    if requests < POLICY.bake.min_requests:
        assert "requests of the candidate" in lacking
    elif requests < 77:
        assert "not yet shown" in lacking
    elif bad == 0:
        assert lacking == ""
    assert missing(known.moved(), POLICY) != ""  # at another weight it begins anew


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(5, 40), st.integers(0, 5), st.integers(5, 200)), max_size=8))
def test_counts_add_up_and_the_signals_are_averaged(rows: list[tuple[int, int, int, int]]) -> None:
    batches = [batch((bad, n), (worse, m), minute) for minute, (bad, n, worse, m) in enumerate(rows)]
    known = seen(*batches)
    assert known.whole.candidate.requests == sum(row[1] for row in rows)
    assert known.whole.stable.bad == sum(row[2] for row in rows)
    alone = POLICY.model_copy(update={"harm": POLICY.harm.model_copy(update={"signals": {"error": 1.0}})})
    # A signal that never says anything stands at 1: it costs the others at most its share.
    assert known.log_harm(POLICY) <= max(known.log_harm(alone), 0.0) + 1e-9


def test_minutes_of_either_side_become_batches() -> None:
    first, second = AT, AT + timedelta(minutes=1)
    made = batches_of([Minute(second, 3, 1)], [Minute(first, 9, 0), Minute(second, 8, 2)])
    assert [each.at for each in made] == [first, second]
    errors = made[1].signals["error"]
    assert (errors.candidate, errors.stable) == (Count(requests=4, bad=1), Count(requests=10, bad=2))
    assert made[0].signals["error"].candidate == Count()
    assert "slow" not in made[1].signals
    slow = batches_of([Minute(first, 3, 1, 2)], [Minute(first, 9, 0, 1)])[0].signals["slow"]
    assert (slow.candidate.bad, slow.stable.bad) == (2, 1)
    assert "slow" not in batches_of([Minute(first, 3, 1, 2)], [Minute(first, 9, 0)])[0].signals


def test_an_answer_from_nobody_counts_against_the_candidate() -> None:
    answers = [Answer("blue", 200, 10), Answer("", 0, 10), Answer("green", 424, 10), Answer("green", 200, 900)]
    made = batch_of(answers, "blue", AT, slow_ms=500)
    assert made.signals["error"].candidate == Count(requests=3, bad=2)
    assert made.signals["slow"].candidate == Count(requests=3, bad=3)
    assert made.in_a_row == 2
    first = batch_of(answers, "", AT, slow_ms=None)  # there is no stable colour: all are its own
    assert first.signals["error"].candidate == Count(requests=4, bad=2)


def test_a_batch_without_errors_is_no_evidence() -> None:
    with pytest.raises(KeyError):
        Evidence().plus(Batch(at=AT, signals={"slow": Sides()}), POLICY)


class Counts:
    """A monitor that has seen a hundred users' requests a minute to blue, and a failing copy or two to green."""

    def minutes(
        self, deployments: Sequence[str], since: datetime, until: datetime, slow_ms: float | None = None
    ) -> dict[str, list[Minute]]:
        assert slow_ms is None
        assert until > since
        return {name: [Minute(since, 100, 0)] if name == "blue" else [] for name in deployments}


def copies(deployments: Sequence[str], since: datetime, until: datetime) -> dict[str, list[Minute]]:
    assert until > since
    return {name: [Minute(since, 18, 2)] for name in deployments}


def test_a_shadow_is_judged_by_its_copies_and_each_minute_is_asked_for_once() -> None:
    eyes = Eyes(World().actor().endpoint, Counts(), copies)
    shadow = at(Phase.SHADOW, started_at=AT, mirror={"green": 20})
    until = AT + timedelta(minutes=5)
    [seen_copy] = eyes.look(shadow, POLICY, until).batches or []
    assert seen_copy.signals["error"].candidate == Count(requests=20, bad=2)
    assert seen_copy.signals["error"].stable == Count(requests=100)
    later = shadow.model_copy(update={"mirror": {}, "seen_until": AT})
    [users] = eyes.look(later, POLICY, until).batches or []
    assert (users.at, users.signals["error"].candidate) == (AT + timedelta(minutes=1), Count())


def test_a_monitor_that_fails_is_blindness_and_not_silence() -> None:
    class Down(Counts):
        def minutes(self, *_: object, **__: object) -> dict[str, list[Minute]]:
            raise AzureFailed("503")

    found = Eyes(World().actor().endpoint, Down()).look(at(Phase.BAKE, started_at=AT), POLICY, AT)
    assert found.batches is None
    assert found.blind
