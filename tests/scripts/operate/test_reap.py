"""What may be cleared away, over all facts: never what is live, mirrored, young, of unknown age or of somebody else."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scripts.operate.policy import REAP, Reap, load
from scripts.operate.reap import Colour, Compute, Endpoint, Facts, Finding, Rollout, plan

SHIPPED = load(Reap, REAP)
NOW = datetime(2026, 11, 21, 6, 0, tzinfo=UTC)
LONG_AGO = NOW - timedelta(days=30)
# Mostly old, settled and refused: what would go, if it were not for the one thing that is different.
AGES = [None, -5, 0, 23, 25, 71, 73, 200, 300, 400, 500, 600]
times = st.sampled_from(AGES).map(lambda hours: None if hours is None else NOW - timedelta(hours=hours))
states = st.sampled_from(["Succeeded", "Succeeded", "Succeeded", "Failed", "Updating", "Deleting"])
live_weights = st.sampled_from([{"blue": 100}, {"green": 100}, {}, {"blue": 90, "green": 10}, {"blue": 0}])
weights = st.sampled_from([{}, {"blue": 0}, {"blue": 100}])
mirrors = st.sampled_from([{}, {}, {"green": 20}])
verdicts = st.sampled_from(["fail", "inconclusive", "pass", ""])
colours = st.builds(
    Colour,
    name=st.sampled_from(["blue", "Green", "red"]),
    changed_at=times,
    state=states,
    verdict=verdicts,
    shape=st.just("Standard_E4s_v3"),
    instances=st.integers(0, 3),
)
endpoints = st.builds(
    Endpoint,
    name=st.sampled_from(["one", "two", "three"]),
    traffic=weights,
    mirror=mirrors,
    changed_at=times,
    state=states,
    train=st.sampled_from(["tickets", "tickets", "another", ""]),
)
rollouts = st.none() | st.builds(Rollout, state=st.just("BAKE"), under_way=st.booleans(), ended_at=times)
computes = st.builds(
    Compute,
    name=st.sampled_from(["gpu", "cpu", "desk"]),
    cluster=st.booleans(),
    size=st.just("Standard_NC24ads_A100_v4"),
    min_instances=st.integers(0, 2),
    busy=st.booleans(),
)
facts_of = st.builds(
    Facts,
    endpoint=st.builds(Endpoint, name=st.just("mine"), traffic=live_weights, mirror=mirrors, changed_at=times),
    train=st.sampled_from(["tickets", "tickets", ""]),
    ours=st.sampled_from([frozenset(), frozenset({"one"})]),
    colours=st.lists(colours, max_size=3, unique_by=lambda each: each.name).map(tuple),
    rollout=rollouts,
    others=st.lists(endpoints, max_size=3, unique_by=lambda each: each.name).map(tuple),
    computes=st.lists(computes, max_size=3, unique_by=lambda each: each.name).map(tuple),
)
policies = st.builds(
    Reap,
    retention_hours=st.sampled_from([24.0, 72.0]),
    candidate_hours=st.sampled_from([24.0, 72.0]),
    keep_endpoints=st.sampled_from([[], ["two"]]),
    keep_clusters=st.sampled_from([[], ["gpu"]]),
)


def done(facts: Facts, policy: Reap, now: datetime = NOW) -> dict[str, set[str]]:
    """Names by kind of what would be done something about."""
    found: dict[str, set[str]] = {"deployment": set(), "endpoint": set(), "cluster": set(), "compute instance": set()}
    for finding in plan(facts, policy, now):
        if finding.doable:
            found[finding.kind].add(finding.name)
    return found


def old(when: datetime | None, hours: float) -> bool:
    return when is not None and (NOW - when).total_seconds() >= hours * 3600


@given(facts_of, policies)
def test_a_colour_goes_only_when_everything_says_that_it_may(facts: Facts, policy: Reap) -> None:
    gone = done(facts, policy)["deployment"]
    live = {name.lower() for name, weight in facts.endpoint.traffic.items() if weight}
    mirrored = {name.lower() for name in facts.endpoint.mirror}
    for colour in facts.colours:
        if colour.name not in gone:
            continue
        assert colour.name.lower() not in live | mirrored
        assert live
        assert old(colour.changed_at, policy.retention_hours)
        assert facts.endpoint.changed_at is None or old(facts.endpoint.changed_at, policy.retention_hours)
        assert colour.verdict not in ("", "pass") or old(colour.changed_at, policy.candidate_hours)
        assert colour.state in ("Succeeded", "Failed")
        if facts.rollout and facts.rollout.ended_at:
            assert old(facts.rollout.ended_at, policy.retention_hours)


@given(facts_of, policies)
def test_an_endpoint_goes_only_when_it_is_ours_idle_and_old(facts: Facts, policy: Reap) -> None:
    gone = done(facts, policy)["endpoint"]
    for endpoint in facts.others:
        if endpoint.name not in gone:
            continue
        assert endpoint.train == facts.train != ""
        assert endpoint.name not in facts.ours | set(policy.keep_endpoints)
        assert not any(endpoint.traffic.values())
        assert not endpoint.mirror
        assert old(endpoint.changed_at, policy.retention_hours)
        assert endpoint.state in ("Succeeded", "Failed")


@given(facts_of, policies)
def test_a_cluster_is_scaled_only_when_no_job_is_on_it_and_an_instance_never(facts: Facts, policy: Reap) -> None:
    found = done(facts, policy)
    for compute in facts.computes:
        if compute.name in found["cluster"]:
            assert compute.cluster
            assert compute.min_instances > 0
            assert not compute.busy
            assert compute.name not in policy.keep_clusters
    assert not found["compute instance"]


@given(facts_of, policies)
def test_nothing_at_all_while_a_rollout_is_under_way(facts: Facts, policy: Reap) -> None:
    moving = replace(facts, rollout=Rollout("BAKE", under_way=True, ended_at=LONG_AGO))
    split = replace(facts, endpoint=replace(facts.endpoint, traffic={"blue": 90, "green": 10}))
    for each in (moving, split):
        assert not any(done(each, policy).values())


@given(facts_of, policies)
def test_what_is_of_unknown_age_stays(facts: Facts, policy: Reap) -> None:
    ageless = replace(
        facts,
        colours=tuple(replace(each, changed_at=None) for each in facts.colours),
        others=tuple(replace(each, changed_at=None) for each in facts.others),
    )
    found = done(ageless, policy)
    assert not found["deployment"]
    assert not found["endpoint"]


@given(facts_of, policies, st.timedeltas(timedelta(0), timedelta(days=100)))
def test_time_alone_only_ever_adds(facts: Facts, policy: Reap, later: timedelta) -> None:
    now, then = done(facts, policy), done(facts, policy, NOW + later)
    assert all(now[kind] <= then[kind] for kind in now)


@given(facts_of, policies)
def test_every_finding_says_why_and_what_it_costs(facts: Facts, policy: Reap) -> None:
    for finding in plan(facts, policy, NOW):
        assert finding.why
        assert "instance-hours" in finding.cost


LIVE = Endpoint("mine", {"blue": 100}, {}, LONG_AGO)
OLD = Colour("green", LONG_AGO, verdict="pass", shape="Standard_E4s_v3", instances=2)


def only(facts: Facts, policy: Reap = SHIPPED) -> Finding:
    (finding,) = plan(facts, policy, NOW)
    return finding


def test_an_old_idle_colour_goes() -> None:
    finding = only(Facts(LIVE, "tickets", colours=(Colour("blue", LONG_AGO), OLD)))
    assert (finding.action, finding.name) == ("delete", "green")
    assert "1,460 instance-hours a month (2 × Standard_E4s_v3)" in finding.cost


@pytest.mark.parametrize("verdict", ["", "pass", "fail"])
@pytest.mark.parametrize("hours", [23, 25, 71, 73])
def test_a_candidate_waits_for_its_release_unless_it_was_refused(verdict: str, hours: int) -> None:
    young = Colour("green", NOW - timedelta(hours=hours), verdict=verdict)
    keep = hours < 24 or (hours < 72 and verdict != "fail")
    assert only(Facts(LIVE, "tickets", colours=(young,))).action == ("keep" if keep else "delete")


@pytest.mark.parametrize(("hours", "action"), [(23, "keep"), (25, "delete")])
def test_the_rollback_target_stays_for_the_retention(hours: int, action: str) -> None:
    ended = NOW - timedelta(hours=hours)
    facts = Facts(LIVE, "tickets", colours=(OLD,), rollout=Rollout("PROMOTED", False, ended))
    assert only(facts).action == action
    # A person may have moved the traffic by hand, which no rollout's end tells.
    by_hand = replace(facts, rollout=None, endpoint=replace(LIVE, changed_at=ended))
    assert only(by_hand).action == action


def test_the_last_colour_of_an_endpoint_without_traffic_stays() -> None:
    assert only(Facts(Endpoint("mine", {}, {}, LONG_AGO), "tickets", colours=(OLD,))).action == "keep"


@pytest.mark.parametrize(
    ("changes", "action"),
    [
        ({}, "delete"),
        ({"train": ""}, "report"),
        ({"train": "another"}, "report"),
        ({"name": "kept"}, "keep"),
        ({"traffic": {"blue": 100}}, "keep"),
        ({"mirror": {"blue": 5}}, "keep"),
        ({"changed_at": NOW}, "keep"),
        ({"changed_at": NOW + timedelta(days=1)}, "keep"),
    ],
)
def test_endpoints(changes: dict[str, object], action: str) -> None:
    orphan = Endpoint("orphan", {}, {}, LONG_AGO, train="tickets", instances=1)
    policy = SHIPPED.model_copy(update={"keep_endpoints": ["kept"]})
    assert only(Facts(LIVE, "tickets", others=(replace(orphan, **changes),)), policy).action == action


def test_an_endpoint_that_a_settings_file_names_is_no_orphan() -> None:
    neighbour = Endpoint("neighbour", {}, {}, LONG_AGO, train="tickets")
    assert not plan(Facts(LIVE, "tickets", frozenset({"neighbour"}), others=(neighbour,)), SHIPPED, NOW)


def test_without_a_tag_to_look_for_no_endpoint_is_ours() -> None:
    untagged = Endpoint("untagged", {}, {}, LONG_AGO, train="")
    assert only(Facts(LIVE, "", others=(untagged,))).action == "report"


def test_what_is_of_unknown_age_says_so() -> None:
    unknown = Facts(
        LIVE,
        "tickets",
        colours=(Colour("green", None, verdict="fail"),),
        others=(Endpoint("orphan", train="tickets"),),
    )
    assert [(each.action, each.why) for each in plan(unknown, SHIPPED, NOW)] == [("keep", "its age is unknown")] * 2


@pytest.mark.parametrize("state", ["Creating", "Updating", "Scaling", "Deleting", "Canceled"])
def test_what_somebody_is_working_on_stays(state: str) -> None:
    facts = Facts(
        LIVE,
        "tickets",
        colours=(Colour("green", LONG_AGO, state, "fail"),),
        others=(Endpoint("orphan", {}, {}, LONG_AGO, state, "tickets"),),
    )
    assert [(each.action, each.why) for each in plan(facts, SHIPPED, NOW)] == [("keep", f"it is {state}")] * 2


def test_azure_writes_names_in_lower_case() -> None:
    assert not plan(Facts(LIVE, "tickets", colours=(Colour("Blue", LONG_AGO, verdict="fail"),)), SHIPPED, NOW)


def test_clusters_and_instances() -> None:
    cluster, desk = Compute("gpu", True, "Standard_NC24ads_A100_v4", 1), Compute("desk", False, "Standard_DS3_v2")
    found = plan(Facts(LIVE, "tickets", computes=(cluster, desk, Compute("cpu", True, "s", 0))), SHIPPED, NOW)
    assert [(each.name, each.action) for each in found] == [("gpu", "scale to 0"), ("desk", "report")]
    assert only(Facts(LIVE, "tickets", computes=(replace(cluster, busy=True),))).action == "keep"
    kept = SHIPPED.model_copy(update={"keep_clusters": ["gpu"]})
    assert only(Facts(LIVE, "tickets", computes=(cluster,)), kept).action == "keep"
