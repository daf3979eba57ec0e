"""What may be cleared away, over all facts: never what is live, candidate, kept for a rollback, young or foreign."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scripts.errors import InvalidInput
from scripts.operate.finding import Finding
from scripts.operate.leftovers import Checkpoints, ModelVersion
from scripts.operate.leftovers_facts import FOLDER, writes_to
from scripts.operate.policy import REAP, Reap, load
from scripts.operate.reap import plan
from scripts.operate.reap_things import Colour, Compute, Endpoint, Facts, Rollout, Serverless
from scripts.training_job import ENDED

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
    ours=st.sampled_from([True, True, True, False]),
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
rollouts = st.none() | st.builds(
    Rollout,
    state=st.just("BAKE"),
    under_way=st.booleans(),
    ended_at=times,
    way_back=st.sampled_from(["", "green", "red"]),
    retain_until=times.map(lambda when: when and when + timedelta(days=8)),
)
DIGESTS = [digit * 64 for digit in "12345"]
days = st.sampled_from([None, -1, 0, 20, 89, 91, 200, 400]).map(
    lambda many: None if many is None else NOW - timedelta(days=many)
)
models = st.builds(
    lambda digest, ours, **others: ModelVersion(
        name="triage", version=digest[:12] if ours else "7", digest=digest, job="train-1" if ours else "", **others
    ),
    st.sampled_from(DIGESTS),
    st.sampled_from([True, True, True, False]),
    created_at=days,
    verdict=st.sampled_from(["pass", "fail", ""]),
    used_by=st.sampled_from([(), (), ("deployment blue of mine",)]),
)
checkpoints = st.builds(
    Checkpoints,
    name=st.sampled_from(["train-1", "train-2", "theirs"]),
    tries=st.lists(st.sampled_from(["Completed", "Failed", "Running"]), max_size=2).map(tuple),
    written_at=days,
    gigabytes=st.floats(0, 100),
    registered=st.booleans(),
)
served = st.builds(
    Serverless,
    name=st.sampled_from(["s-1", "s-2", "two"]),
    application=st.sampled_from(["mine", "mine", "mine", "one", ""]),
    changed_at=times,
    state=states,
    verdict=verdicts,
    protected=st.sampled_from([False, False, True]),
)
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
    endpoint=st.builds(
        Endpoint,
        name=st.just("mine"),
        traffic=live_weights,
        mirror=mirrors,
        changed_at=times,
        named=st.sampled_from([frozenset(), frozenset({"green"})]),
    ),
    train=st.sampled_from(["tickets", "tickets", ""]),
    ours=st.sampled_from([frozenset(), frozenset({"one"})]),
    colours=st.lists(colours, max_size=3, unique_by=lambda each: each.name).map(tuple),
    rollout=rollouts,
    others=st.lists(endpoints, max_size=3, unique_by=lambda each: each.name).map(tuple),
    computes=st.lists(computes, max_size=3, unique_by=lambda each: each.name).map(tuple),
    serverless=st.lists(served, max_size=3, unique_by=lambda each: each.name).map(tuple),
    models=st.lists(models, max_size=4, unique_by=lambda each: each.digest).map(tuple),
    named=st.sets(st.sampled_from(DIGESTS), max_size=2).map(frozenset),
    checkpoints=st.lists(checkpoints, max_size=3, unique_by=lambda each: each.name).map(tuple),
    ended=st.just(tuple(ENDED)),
)
policies = st.builds(
    Reap,
    retention_hours=st.sampled_from([24.0, 72.0]),
    candidate_hours=st.sampled_from([24.0, 72.0]),
    model_days=st.sampled_from([30.0, 90.0]),
    keep_models=st.integers(1, 3),
    old_models=st.sampled_from(["archive", "delete"]),
    checkpoint_days=st.sampled_from([14.0, 90.0]),
    keep_endpoints=st.sampled_from([[], ["two"]]),
    keep_clusters=st.sampled_from([[], ["gpu"]]),
)
KINDS = ("deployment", "endpoint", "serverless endpoint", "cluster", "compute instance", "model", "checkpoints")


def done(facts: Facts, policy: Reap, now: datetime = NOW) -> dict[str, set[str]]:
    """Names by kind of what would be done something about."""
    found: dict[str, set[str]] = {kind: set() for kind in KINDS}
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
        assert colour.ours
        assert live or (colour.state == "Failed" and colour.name.lower() not in facts.endpoint.named)
        assert old(colour.changed_at, policy.retention_hours)
        assert facts.endpoint.changed_at is None or old(facts.endpoint.changed_at, policy.retention_hours)
        waits = colour.verdict in ("", "pass") and colour.state != "Failed"
        assert not waits or old(colour.changed_at, policy.candidate_hours)
        assert colour.state in ("Succeeded", "Failed")
        if facts.rollout and facts.rollout.ended_at:
            assert old(facts.rollout.ended_at, policy.retention_hours)
        if facts.rollout and facts.rollout.retain_until and facts.rollout.way_back == colour.name.lower():
            assert facts.rollout.retain_until <= NOW


@given(facts_of, policies)
def test_a_serverless_endpoint_goes_only_when_everything_says_that_it_may(facts: Facts, policy: Reap) -> None:
    gone = done(facts, policy)["serverless endpoint"]
    for each in facts.serverless:
        if each.name not in gone:
            continue
        assert each.application == "mine"
        assert not each.protected
        assert each.name not in policy.keep_endpoints
        assert each.state in ("Succeeded", "Failed")
        assert old(each.changed_at, policy.retention_hours)
        assert each.verdict not in ("", "pass") or old(each.changed_at, policy.candidate_hours)
        assert not facts.rollout or not facts.rollout.ended_at or old(facts.rollout.ended_at, policy.retention_hours)


def test_one_serverless_endpoint_goes_and_a_neighbours_is_not_even_told() -> None:
    ours, theirs = (Serverless(each, app, LONG_AGO, verdict="fail") for each, app in (("s-1", "mine"), ("s-2", "one")))
    facts = Facts(endpoint=Endpoint("mine"), train="t", ours=frozenset({"mine", "one"}), serverless=(ours, theirs))
    assert [(each.name, each.action) for each in plan(facts, SHIPPED, NOW)] == [("s-1", "delete")]


@given(facts_of, policies)
def test_a_model_goes_only_when_it_is_ours_old_and_nobody_runs_names_or_may_want_it(facts: Facts, policy: Reap) -> None:
    gone = done(facts, policy)["model"]
    assert gone == {each.name for each in plan(facts, policy, NOW) if each.action == policy.old_models} & gone
    passed = [each for each in facts.models if each.ours and each.verdict == "pass"]
    for model in facts.models:
        if f"{model.name}:{model.version}" not in gone:
            continue
        assert model.job
        assert model.version == model.digest[:12]
        assert not model.used_by
        assert model.digest not in facts.named
        assert old(model.created_at, policy.model_days * 24)
        if model in passed:
            newer = [each for each in passed if each.created_at is None or each.created_at >= model.created_at]  # type: ignore[operator]
            assert len(newer) > policy.keep_models


@given(facts_of, policies)
def test_checkpoints_go_only_when_their_job_is_ours_and_no_retry_would_want_them(facts: Facts, policy: Reap) -> None:
    gone = done(facts, policy)["checkpoints"]
    for folder in facts.checkpoints:
        if folder.name in gone:
            assert folder.tries
            assert set(folder.tries) <= ENDED
            assert old(folder.written_at, policy.retention_hours)
            finished = "Completed" in folder.tries and folder.registered
            assert finished or old(folder.written_at, policy.checkpoint_days * 24)


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
        models=tuple(replace(each, created_at=None) for each in facts.models),
        checkpoints=tuple(replace(each, written_at=None) for each in facts.checkpoints),
    )
    found = done(ageless, policy)
    assert not any(found[kind] for kind in ("deployment", "endpoint", "model", "checkpoints"))


@given(facts_of, policies, st.timedeltas(timedelta(0), timedelta(days=100)))
def test_time_alone_only_ever_adds(facts: Facts, policy: Reap, later: timedelta) -> None:
    now, then = done(facts, policy), done(facts, policy, NOW + later)
    assert all(now[kind] <= then[kind] for kind in now)


@given(facts_of, policies)
def test_every_finding_says_why_and_what_it_costs(facts: Facts, policy: Reap) -> None:
    for finding in plan(facts, policy, NOW):
        assert finding.why
        costs = {"model": "storage", "checkpoints": "storage", "serverless endpoint": "by the hour"}
        assert costs.get(finding.kind, "instance-hours") in finding.cost


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


def test_a_failed_deployment_waits_for_no_release_and_goes_though_nothing_is_live() -> None:
    young = Colour("green", NOW - timedelta(hours=25), "Failed", "")
    finding = only(Facts(LIVE, "tickets", colours=(young,)))
    assert (finding.action, "failed" in finding.why) == ("delete", True)
    assert only(Facts(LIVE, "tickets", colours=(replace(young, state="Succeeded"),))).action == "keep"
    nothing = Endpoint("mine", {}, {}, LONG_AGO)
    assert only(Facts(nothing, "tickets", colours=(young,))).action == "delete"
    named = replace(nothing, named=frozenset({"green"}))
    assert only(Facts(named, "tickets", colours=(young,))).action == "keep"


def test_the_way_back_of_a_promotion_stays_as_long_as_its_rollout_said() -> None:
    rollout = Rollout("PROMOTED", False, LONG_AGO, "green", NOW + timedelta(hours=1))
    facts = Facts(LIVE, "tickets", colours=(OLD,), rollout=rollout)
    assert (only(facts).action, "way back" in only(facts).why) == ("keep", True)
    assert only(replace(facts, rollout=replace(rollout, retain_until=NOW))).action == "delete"


def test_a_colour_that_somebody_made_by_hand_is_only_told_of() -> None:
    assert only(Facts(LIVE, "tickets", colours=(replace(OLD, ours=False),))).action == "report"


def test_a_known_price_is_told_as_money() -> None:
    facts = Facts(LIVE, "tickets", colours=(OLD,), hourly={"standard_e4s_v3": 0.5}, currency="USD")
    assert "(2 × Standard_E4s_v3, 730 USD)" in only(facts).cost


MODEL = ModelVersion("triage", DIGESTS[0][:12], DIGESTS[0], "train-1", LONG_AGO - timedelta(days=90), "fail")


@pytest.mark.parametrize(
    ("changes", "action"),
    [
        ({}, "archive"),
        ({"used_by": ("deployment blue of other",)}, "keep"),
        ({"verdict": "pass"}, "keep"),  # it is the last that passed
        ({"created_at": NOW}, None),
        ({"job": ""}, None),
        ({"version": "7"}, None),
    ],
)
def test_models(changes: dict[str, object], action: str | None) -> None:
    found = plan(Facts(LIVE, "tickets", models=(replace(MODEL, **changes),)), SHIPPED, NOW)
    assert [each.action for each in found] == ([action] if action else [])
    named = Facts(LIVE, "tickets", models=(MODEL,), named=frozenset({MODEL.digest}))
    assert only(named).action == "keep"


@pytest.mark.parametrize(
    ("tries", "registered", "days", "action"),
    [
        (("Completed",), True, 2, "delete"),
        (("Completed",), True, 0.5, "keep"),
        (("Completed",), False, 2, "keep"),
        (("Failed",), False, 13, "keep"),
        (("Failed", "Failed"), False, 15, "delete"),
        (("Failed", "Running"), False, 100, "keep"),
        ((), True, 100, "report"),
    ],
)
def test_what_becomes_of_checkpoints(tries: tuple[str, ...], registered: bool, days: float, action: str) -> None:
    folder = Checkpoints("train-1", tries, NOW - timedelta(days=days), 3.0, registered)
    assert only(Facts(LIVE, "tickets", checkpoints=(folder,), ended=tuple(ENDED))).action == action


@pytest.mark.parametrize(
    ("job", "mine"),
    [
        ("train-a-1", True),
        ("train-a-1-retry2", True),
        ("train-a-1_3", True),
        ("train-a-12", False),
        ("train-a-1-retry", False),
        ("xtrain-a-1", False),
    ],
)
def test_a_folder_of_checkpoints_is_that_of_its_own_jobs_alone(job: str, mine: bool) -> None:
    assert writes_to(job, "train-a-1") is mine
    assert FOLDER == "checkpoints/"


def test_models_are_deleted_only_when_no_release_could_be_taken_up_again(tmp_path: Path) -> None:
    wrong = (
        REAP.read_text()
        .replace("old_models: archive", "old_models: delete")
        .replace("model_days: 90", "model_days: 13")
    )
    path = tmp_path / "reap.yaml"
    path.write_text(wrong)
    with pytest.raises(InvalidInput, match="model_days must be at least 14"):
        load(Reap, path)
