"""The rollout's executor against an endpoint that fails, drifts and loses requests. (The real endpoint: tests/e2e.)"""

from collections.abc import Callable, Mapping
from random import Random
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scripts.endpoint import Answer, Endpoint, Requests
from scripts.errors import AzureFailed, InvalidInput, Refused
from scripts.records import Rollout
from scripts.rollout import policy as policies
from scripts.rollout.run import Executor, check_verdict, live_colour

POLICY = policies.load()


class Endpoints:
    """Weights in memory; `fail_on` names the writes (counted from 1) that Azure refuses."""

    name = "ticket-triage"

    def __init__(self, fail_on: frozenset[int] = frozenset(), drift_after: int | None = None) -> None:
        self.weights = {"blue": 100}
        self.writes: list[dict[str, int]] = []
        self.fail_on, self.drift_after = fail_on, drift_after
        self.reads = 0

    def traffic(self) -> dict[str, int]:
        self.reads += 1
        if self.drift_after is not None and self.reads > self.drift_after and len(self.writes) == 1:
            return {"blue": 50, "green": 50}
        return self.weights

    def set_traffic(self, weights: Mapping[str, int], tags: Mapping[str, str] | None = None) -> dict[str, int]:
        assert tags
        self.writes.append(dict(weights))
        if len(self.writes) in self.fail_on:
            raise AzureFailed("503")
        self.weights = {name: weight for name, weight in weights.items() if weight}
        return self.weights

    def deployment_digest(self, name: str) -> str:
        return {"blue": "b" * 64, "green": "g" * 64}[name]


class Sender:
    def __init__(self, endpoint: Endpoints, errors: float, seed: int = 0) -> None:
        self.endpoint, self.errors, self.random = endpoint, errors, Random(seed)

    def post(self, body: Mapping[str, Any], deployment: str | None = None) -> Answer:
        assert body["messages"]
        assert deployment is None
        to = self.random.choices(list(self.endpoint.weights), list(self.endpoint.weights.values()))[0]
        failed = to == "green" and self.random.random() < self.errors
        return Answer(to, 424 if failed else 200, 100.0)


def roll(endpoint: Endpoints, errors: float = 0.0, seed: int = 0) -> Rollout:
    executor = Executor(
        cast(Endpoint, endpoint),
        cast(Requests, Sender(endpoint, errors, seed)),
        [{"messages": ["hello"]}],
        POLICY,
        ("blue", "green"),
        "v" * 64,
        lambda _: None,
    )
    return executor.run()


def test_a_good_candidate_is_promoted_and_every_step_is_kept() -> None:
    endpoint = Endpoints()
    done = roll(endpoint)
    assert done.state == "PROMOTED"
    assert endpoint.weights == {"green": 100}
    assert [step.weight for step in done.steps] == POLICY.steps
    assert [write.traffic for write in done.writes] == endpoint.writes
    assert all(step.requests["green"] >= POLICY.min_candidate_requests for step in done.steps)
    assert all(step.decision == "advance" for step in done.steps)


def test_a_failing_candidate_gives_everything_back() -> None:
    endpoint = Endpoints()
    done = roll(endpoint, errors=0.4)
    assert done.state == "ROLLED_BACK"
    assert endpoint.weights == {"blue": 100}
    assert done.steps[-1].errors["green"] > 0
    assert done.steps[-1].decision == "roll back"


def test_drift_gives_everything_back() -> None:
    endpoint = Endpoints(drift_after=0)
    done = roll(endpoint)
    assert (done.state, endpoint.weights) == ("ROLLED_BACK", {"blue": 100})
    assert "drift" in done.reason


def test_when_azure_never_takes_the_weights_the_record_says_stuck() -> None:
    done = roll(Endpoints(fail_on=frozenset(range(2, 50))))
    assert done.state == "ROLLBACK_STUCK"


@settings(max_examples=50, deadline=None)
@given(
    fail_on=st.frozensets(st.integers(1, 6), max_size=3),
    errors=st.sampled_from([0.0, 0.3, 1.0]),
    seed=st.integers(0, 999),
)
def test_whatever_fails_the_endpoint_ends_on_one_colour(fail_on: frozenset[int], errors: float, seed: int) -> None:
    endpoint = Endpoints(fail_on)
    done = roll(endpoint, errors, seed)
    assert endpoint.weights == ({"green": 100} if done.state == "PROMOTED" else {"blue": 100})
    assert all(sum(write.values()) == 100 for write in endpoint.writes)


class Judged:
    outcome, bound, reason = "pass", True, "better"
    candidate_model, baseline_model = "g" * 64, "b" * 64


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"outcome": "fail"}, "no traffic moves"),
        ({"outcome": "inconclusive"}, "no traffic moves"),
        ({"bound": False}, "no model digests"),
        ({"candidate_model": "x" * 64}, "green runs model"),
        ({"baseline_model": "x" * 64}, "blue runs model"),
    ],
)
def test_a_verdict_on_other_models_moves_nothing(change: dict[str, object], why: str) -> None:
    verdict: Any = type("Changed", (Judged,), change)()
    with pytest.raises(Refused, match=why):
        check_verdict(verdict, cast(Endpoint, Endpoints()), "blue", "green")


def test_a_verdict_on_what_is_deployed_is_taken() -> None:
    check_verdict(cast(Any, Judged()), cast(Endpoint, Endpoints()), "blue", "green")


@pytest.mark.parametrize(
    ("traffic", "error"), [({}, InvalidInput), ({"blue": 90, "green": 10}, Refused), ({"blue": 50}, Refused)]
)
def test_a_rollout_starts_only_from_one_live_colour(traffic: dict[str, int], error: type[Exception]) -> None:
    with pytest.raises(error):
        live_colour(traffic)
    check: Callable[[dict[str, int]], str] = live_colour
    assert check({"blue": 100}) == "blue"
