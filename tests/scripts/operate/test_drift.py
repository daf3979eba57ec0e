"""Drift by simulation: weeks like the first raise an alarm as seldom as promised, changed weeks raise the right one."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from scripts.operate import collected, mmd
from scripts.operate.drift import SIGNALS, Rows, compare
from scripts.operate.policy import RETRAIN, Least, Retrain, load
from scripts.operate.windows import DAY, first_days, last_week

SHIPPED = load(Retrain, RETRAIN).drift
# Every effect matters, so that the number of false alarms is the tests' own.
FREE = SHIPPED.model_copy(
    update={
        "alpha": 0.05, "min_rows": 100, "permutations": 199,
        "least": Least.model_construct(**dict.fromkeys(Least.model_fields, 0.0)),
    }
)  # fmt: skip
WEEKS = 100
CHANGES: dict[str, dict[str, float]] = {
    "topics": {"topic": 0.5},
    "prompt_length": {"longer": 0.4},
    "language": {"german": 0.25},
    "unknown_tokens": {"rarer": 1.6},
    "answer_length": {"answers": 0.5},
    "valid": {"invalid": 0.08},
    "refused": {"refusals": 0.06},
    "cut_off": {"cut": 0.07},
    "judge_score": {"judge": -0.5},
}


@cache
def middle() -> Any:
    return np.random.default_rng(9).normal(0, 18, (2, 4, 32))


def made_up(count: int, rng: np.random.Generator, **changed: float) -> Rows:
    """Requests of four topics with ties and skew as real ones have them; `changed` moves one thing."""

    def flag(share: float) -> Any:
        return (rng.random(count) < share).astype(float)

    crowd = (rng.random(count) < changed.get("topic", 0)).astype(int)
    sketch = middle()[crowd, rng.integers(0, 4, count)] + rng.normal(0, 15, (count, 32))
    german = 0.1 + changed.get("german", 0)
    languages = np.array(["en", "de", "fr", "ja"])[rng.choice(4, count, p=[0.895 - german, german, 0.1, 0.005])]
    return Rows(
        numbers={
            "prompt_characters": np.round(rng.lognormal(5 + changed.get("longer", 0), 0.6, count)),
            "rare_share": np.round(rng.beta(2 * changed.get("rarer", 1), 40, count), 2),
            "answer_tokens": np.round(rng.lognormal(3.3 + changed.get("answers", 0), 0.3, count)),
            "valid": flag(0.97 - changed.get("invalid", 0)),
            "refused": flag(0.01 + changed.get("refusals", 0)),
            "cut_off": flag(0.02 + changed.get("cut", 0)),
            "judge": np.round(rng.normal(4 + changed.get("judge", 0), 0.7, count)),
        },
        language=languages,
        sketch=sketch.astype(np.float32),
    )


def test_weeks_like_the_first_raise_a_false_alarm_in_at_most_5_percent() -> None:
    rng = np.random.default_rng(1)
    pool = made_up(3000, rng)
    alarms = 0
    for _ in range(WEEKS):
        then, now = (resampled(pool, rng.integers(0, 3000, 300)) for _ in range(2))
        alarms += any(signal.drifted for signal in compare(then, now, FREE))
    # More than this happens by chance once in a thousand when the rate is 5 %.
    assert alarms <= stats.binom.ppf(0.999, WEEKS, 0.05), f"{alarms} of {WEEKS}"
    assert len(SIGNALS) == len(CHANGES), "every signal takes part"


def resampled(rows: Rows, at: Any) -> Rows:
    return Rows({name: column[at] for name, column in rows.numbers.items()}, rows.language[at], rows.sketch[at])


@pytest.mark.parametrize("name", CHANGES)
def test_a_changed_week_is_noticed_for_what_changed(name: str) -> None:
    rng = np.random.default_rng(2)
    limits = SHIPPED.model_copy(update={"permutations": 999})
    found = [compare(made_up(1500, rng), made_up(1000, rng, **CHANGES[name]), limits) for _ in range(2)]
    for signals in found:
        assert {signal.name for signal in signals if signal.drifted} == {name}


def test_what_is_certain_but_small_does_not_matter() -> None:
    rng = np.random.default_rng(3)
    limits = SHIPPED.model_copy(update={"permutations": 999})
    signals = compare(made_up(20_000, rng), made_up(20_000, rng, longer=0.05, refusals=0.006, german=0.02), limits)
    assert not any(signal.drifted for signal in signals)
    small = {signal.name for signal in signals if signal.said == "more than chance, too small to matter"}
    assert {"prompt_length", "refused", "language"} <= small


def test_the_same_rows_give_the_same_answer_and_what_nobody_says_is_no_evidence() -> None:
    rng = np.random.default_rng(4)
    then, now = made_up(600, rng), made_up(600, rng)
    unjudged = {**now.numbers, "judge": np.where(np.arange(600) < 499, now.numbers["judge"], np.nan)}
    now = Rows(unjudged, now.language, now.sketch)
    limits = SHIPPED.model_copy(update={"permutations": 999})
    signals = compare(then, now, limits)
    assert signals == compare(then, now, limits)
    judged = next(signal for signal in signals if signal.name == "judge_score")
    assert (judged.p_value, judged.effect, judged.drifted) == (None, None, False)
    assert "fewer than 500" in judged.said


@pytest.mark.parametrize("change", [lambda a: a * 0, lambda a: a * 0 + 1])
def test_a_constant_has_not_drifted(change: Callable[[Any], Any]) -> None:
    rng = np.random.default_rng(5)
    same = made_up(600, rng)
    flat = Rows({name: change(column) for name, column in same.numbers.items()}, same.language, change(same.sketch))
    assert not any(signal.drifted for signal in compare(flat, flat, SHIPPED.model_copy(update={"permutations": 999})))
    assert mmd.compare(flat.sketch, flat.sketch, 99).effect == 0


times = st.datetimes(datetime(2020, 1, 1), datetime(2040, 1, 1), timezones=st.just(UTC))


@given(times, st.timedeltas(timedelta(0), timedelta(days=7)))
def test_a_week_is_over_and_the_same_all_week_long(now: datetime, later: timedelta) -> None:
    week, name = last_week(now)
    assert week.end <= now < week.end + 7 * DAY
    assert (week.start.weekday(), len(week.days)) == (0, 7)
    assert (last_week(now + later)[1] == name) == (now + later < week.end + 7 * DAY)


@given(times, st.integers(1, 30))
def test_the_first_days_are_whole_and_after(since: datetime, days: int) -> None:
    first = first_days(since, days)
    assert since <= first.start < since + DAY
    assert first.end - first.start == days * DAY


def row(**changes: Any) -> dict[str, Any]:
    told = {"id": "a", "model": "m:1", "prompt_characters": 5, "rare_share": 0.1, "language": "en"}
    told |= {"sketch": [1] * 32, "answer_tokens": 3, "finish_reason": "length", "valid": None, "refused": False}
    return {**told, **changes}


def event(*rows: Any) -> bytes:
    return json.dumps({"time": "2026-11-09T10:00:00Z", "data": list(rows), "specversion": "1.0"}).encode()


def test_rows_of_others_twice_or_broken_are_left_out() -> None:
    broken = [row(id="x", rare_share=float("nan")), row(id="y", sketch=[1]), row(id="z", answer_tokens=-1), {}]
    lines = [event(row(), row()), event(row(id="b", model="m:2")), event(row(id="c", valid=True)), event(*broken)]
    lines += [b"{", b"[]", b'{"data": "https://elsewhere"}']
    found = collected.Statistics(lines, "m:1")
    assert (len(found.rows), found.unreadable) == (2, 7)
    assert found.newest == datetime(2026, 11, 9, 10, tzinfo=UTC)
    assert found.rows.numbers["cut_off"].tolist() == [1.0, 1.0]
    assert np.isnan(found.rows.numbers["valid"]).tolist() == [True, False]
    assert len(collected.Statistics([], "m:1").rows) == 0


@given(
    st.binary() | st.recursive(st.none() | st.integers() | st.text(), st.lists).map(lambda v: json.dumps(v).encode())
)
def test_no_event_is_too_strange_to_be_left_out(line: bytes) -> None:
    assert len(collected.Statistics([line], "m:1").rows) == 0
