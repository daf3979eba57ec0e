"""`reap` against the local Azure ML: what it finds, what it leaves, what it says when Azure refuses."""

import json
from collections.abc import Callable
from typing import Any

import pytest
import yaml
from azure.ai.ml.entities import AmlCompute, ManagedOnlineEndpoint
from azure.core.exceptions import ResourceNotFoundError

from scripts import records, storage
from scripts.cost import hours, prices, runs
from scripts.errors import AzureFailed
from scripts.operate import clear
from scripts.operate import policy as policies
from scripts.operate.finding import Action
from scripts.operate.reap_facts import configured, gather
from scripts.rollout.state import Phase
from scripts.rollout.store import BlobStore
from scripts.train import Plan
from tests.scripts.rollout.states import rollout_state

from .conftest import ROOT, Azure, Ran

pytestmark = pytest.mark.slow
IDLE_CLUSTER = "never-sleeps"
SOON = 1e-6  # hours: everything is older
DEPLOYMENT: tuple[str, Action] = ("deployment", "delete")


@pytest.fixture(scope="module")
def world(azure: Azure) -> Azure:
    """Blue is live, green idle; endpoints: our orphan, a stranger's, a neighbour's; a cluster that never sleeps."""
    azure.model("1", verdict="pass")
    azure.model("2", verdict="fail")
    azure.deploy(azure.settings.endpoint, "blue", "1")
    azure.traffic(blue=100)
    azure.deploy(azure.settings.endpoint, "green", "2")
    for name, tags in (("orphan", {"train": azure.settings.experiment}), ("stranger", {}), ("neighbour", None)):
        new_endpoint(azure, name, tags if tags is not None else {"train": azure.settings.experiment})
    azure.deploy("orphan", "blue", "1")
    (azure.config.parent / "neighbour.yaml").write_text("endpoint: neighbour\n")
    cluster = AmlCompute(name=IDLE_CLUSTER, size="Standard_DS3_v2", min_instances=1, max_instances=2)
    azure.ml.compute.begin_create_or_update(cluster).result()
    return azure


def new_endpoint(azure: Azure, name: str, tags: dict[str, str]) -> None:
    azure.ml.online_endpoints.begin_create_or_update(ManagedOnlineEndpoint(name=name, tags=tags)).result()


def there(azure: Azure) -> tuple[set[str], set[str], int]:
    """Endpoints, the environment's colours, and the least nodes of the cluster."""
    return (
        {each.name for each in azure.ml.online_endpoints.list()},
        {each.name for each in azure.ml.online_deployments.list(azure.settings.endpoint)},
        azure.ml.compute.get(IDLE_CLUSTER).min_instances,
    )


def rules(**changes: Any) -> policies.Reap:
    shipped = policies.load(policies.Reap, policies.REAP)
    return shipped.model_copy(update={"retention_hours": SOON, "candidate_hours": SOON, **changes})


def reap(azure: Azure, *flags: str, **changes: Any) -> tuple[Ran, clear.Reaped]:
    out = azure.folder / "reap.json"
    policy = azure.policy("reap.yaml", **changes)
    ran = azure.command("reap", "--policy", policy, "--out", str(out), *flags)
    return ran, records.read(clear.Reaped, out)


def actions(done: clear.Reaped) -> dict[str, str]:
    return {each.name: each.action for each in done.findings}


def roll(azure: Azure, phase: Phase, **changes: Any) -> None:
    """Write the state that a rollout would leave, over whatever is there."""
    store = BlobStore(azure.settings)
    held, sides = store.read(), {"endpoint": azure.settings.endpoint, "stable": "blue", "candidate": "green"}
    store.write(rollout_state(phase, records.now(), **sides, **changes), held.etag if held else None)


def test_provision_tags_what_is_ours(world: Azure) -> None:
    assert world.ml.online_endpoints.get(world.settings.endpoint).tags["train"] == world.settings.experiment


def test_a_dry_run_with_the_shipped_policy_keeps_what_is_young(world: Azure) -> None:
    before = there(world)
    ran, done = reap(world)
    assert ran.code == 0
    assert actions(done) == {"green": "keep", "orphan": "keep", "stranger": "report", IDLE_CLUSTER: "scale to 0"}
    assert ran.outputs == {"found": "1", "removed": "0"}
    assert there(world) == before


def test_a_dry_run_finds_what_is_old_and_touches_nothing(world: Azure) -> None:
    before = there(world)
    ran, done = reap(world, "--no-apply", retention_hours=SOON, candidate_hours=SOON)
    assert actions(done) == {"green": "delete", "orphan": "delete", "stranger": "report", IDLE_CLUSTER: "scale to 0"}
    assert ran.outputs == {"found": "3", "removed": "0"}
    assert ran.summary.count("\n| endpoint | orphan | delete |") == 1
    assert not done.applied
    assert there(world) == before


def test_nothing_goes_while_a_rollout_is_under_way(world: Azure) -> None:
    before = there(world)
    roll(world, Phase.BAKE)
    ran, done = reap(world, "--apply", retention_hours=SOON, candidate_hours=SOON)
    assert ran.outputs == {"found": "0", "removed": "0"}
    assert "delete" not in actions(done).values()
    world.traffic(blue=90, green=10)
    roll(world, Phase.PROMOTED)
    assert reap(world, "--apply", retention_hours=SOON, candidate_hours=SOON)[0].outputs["found"] == "0"
    world.traffic(blue=100)
    assert there(world) == before


def test_the_end_of_a_rollout_begins_the_retention(world: Azure) -> None:
    roll(world, Phase.ROLLED_BACK)
    facts = gather(world.settings, world.config)
    assert facts.rollout is not None
    assert facts.rollout.ended_at is not None
    assert not facts.rollout.under_way
    assert facts.endpoint.changed_at is not None
    assert {each.verdict for each in facts.colours} == {"pass", "fail"}


def test_an_endpoint_is_as_old_as_its_last_write(world: Azure) -> None:
    """However often it is read, changed and sent back, which the SDK does with stale times among its properties."""
    times = []
    for _ in range(3):
        facts = gather(world.settings, world.config)
        times.append(facts.endpoint.changed_at)
        world.traffic(blue=100)
    assert None not in times
    assert times[0] < times[1] < times[2]  # type: ignore[operator]


def test_no_endpoint_of_another_environment_is_an_orphan(world: Azure) -> None:
    assert configured(world.settings, world.config) == {world.settings.endpoint, "neighbour"}
    broken = world.config.parent / "broken.yaml"
    broken.write_text("{")
    ran = world.command("reap", "--apply", "--out", str(world.folder / "no.json"))
    broken.unlink()
    assert ran.code == 3
    assert "broken.yaml" in ran.error
    assert not (world.folder / "no.json").exists()


def test_without_its_own_endpoint_nothing_is_looked_at(world: Azure) -> None:
    lost = world.folder / "lost.yaml"
    name = world.settings.endpoint
    lost.write_text(world.config.read_text().replace(f"endpoint: {name}", "endpoint: mistyped"))
    ran = world.command("reap", "--apply", "--config", str(lost), "--out", str(world.folder / "no.json"))
    assert ran.code == 3
    assert "mistyped" in ran.error


def test_a_job_keeps_its_cluster(world: Azure) -> None:
    sleeper = world.settings.compute.name
    world.job("sleeps", "sleep 60", wait=False)
    facts = gather(world.settings, world.config)
    world.ml.jobs.begin_cancel("sleeps").result()
    assert {each.name: each.busy for each in facts.computes} == {sleeper: True, IDLE_CLUSTER: False}


def refuse(real: Callable[..., None]) -> Callable[..., None]:
    """Mirror traffic to a colour at the last moment, so that Azure itself refuses to delete it."""

    def delete(ml: Any, settings: Any, name: str) -> None:
        endpoint = ml.online_endpoints.get(settings.endpoint)
        endpoint.mirror_traffic = {name: 10}
        ml.online_endpoints.begin_create_or_update(endpoint).result()
        try:
            real(ml, settings, name)
        finally:
            endpoint.mirror_traffic = {}
            ml.online_endpoints.begin_create_or_update(endpoint).result()

    return delete


def test_a_refusal_of_azure_is_told_and_the_next_is_done(world: Azure, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(clear.ACTIONS, DEPLOYMENT, refuse(clear.ACTIONS[DEPLOYMENT]))
    new_endpoint(world, "second-orphan", {"train": world.settings.experiment})

    def use_again(line: str) -> None:
        """When the first is done, the orphan that would come second is wanted after all."""
        if "deployment" in line:
            (world.config.parent / "wanted.yaml").write_text("endpoint: orphan\n")

    done = clear.reap(world.settings, world.config, rules(), apply=True, tell=use_again)
    (world.config.parent / "wanted.yaml").unlink()
    states = {each.name: each.state for each in done.done}
    assert states == {"green": "failed", "orphan": "kept", "second-orphan": "done", IDLE_CLUSTER: "done"}
    assert "10%" in done.failed[0].said
    endpoints, colours, least = there(world)
    assert endpoints == {world.settings.endpoint, "orphan", "stranger", "neighbour"}
    assert (colours, least) == ({"blue", "green"}, 0)


def test_apply_removes_what_is_old_and_nothing_else(world: Azure) -> None:
    ran, done = reap(world, "--apply", retention_hours=SOON, candidate_hours=SOON)
    assert ran.code == 0, ran.error
    assert ran.outputs == {"found": "2", "removed": "2"}
    assert {each.name: each.state for each in done.done} == {"green": "done", "orphan": "done"}
    endpoints, colours, _ = there(world)
    assert endpoints == {world.settings.endpoint, "stranger", "neighbour"}
    assert colours == {"blue"}
    assert world.ml.online_endpoints.get(world.settings.endpoint).traffic == {"blue": 100}
    cluster = world.ml.compute.get(IDLE_CLUSTER)
    assert (cluster.size, cluster.max_instances, cluster.min_instances) == ("Standard_DS3_v2", 2, 0)
    assert reap(world, "--apply", retention_hours=SOON, candidate_hours=SOON)[0].outputs == {
        "found": "0",
        "removed": "0",
    }


def test_old_models_and_checkpoints_go_and_nobody_elses(world: Azure) -> None:
    """After all others. `blue` runs model 1, which has no tags of `register`, so it is none of ours."""
    model = world.settings.model
    run, named, unused = "a" * 12, "b" * 12, "c" * 12
    for version in (run, named, unused):
        world.model(version, digest=version[0] * 64, job="train-done", verdict="pass" if version == run else "fail")
    world.deploy(world.settings.endpoint, "green", run)
    roll(world, Phase.ROLLED_BACK, stable_model=named[0] * 64)
    world.job("train-done", "true")
    box = storage.container(world.settings)
    blobs = {f"checkpoints/train-done/checkpoint-1/{name}" for name in ("complete.json", "w.bin")}
    others = {"checkpoints/sleeps/checkpoint-1/w.bin", "checkpoints/theirs/w.bin", "checkpoints/train-done-2/w.bin"}
    for name in blobs | others:
        box.upload_blob(name, b"x")
    rule = rules(model_days=SOON, retention_hours=SOON, keep_endpoints=[])
    green_stays = rule.model_copy(update={"candidate_hours": 24.0})
    looked = clear.reap(world.settings, world.config, green_stays, apply=False)
    acts = {each.name: each.action for each in looked.findings if each.kind in ("model", "checkpoints")}
    assert acts == {
        f"{model}:{run}": "keep",
        f"{model}:{named}": "keep",
        f"{model}:{unused}": "archive",
        "train-done": "delete",
        "sleeps": "keep",
        "theirs": "report",
        "train-done-2": "report",
    }
    done = clear.reap(world.settings, world.config, green_stays, apply=True)
    told = {each.name: each.state for each in done.done if each.kind in ("model", "checkpoints")}
    assert told == {f"{model}:{unused}": "done", "train-done": "done"}
    assert {blob.name for blob in box.list_blobs(name_starts_with="checkpoints/")} == others
    assert unused not in {each.version for each in world.ml.models.list(name=model)}
    assert world.ml.models.get(model, unused).tags["job"] == "train-done"  # archived, and there for who names it

    delete = clear.ACTIONS["model", "delete"]
    with pytest.raises(AzureFailed, match="is deployed, so Azure refuses to delete it"):
        delete(world.ml, world.settings, f"{model}:{run}")
    assert world.ml.models.get(model, run)
    delete(world.ml, world.settings, f"{model}:{unused}")
    with pytest.raises(ResourceNotFoundError):
        world.ml.models.get(model, unused)


def test_what_a_job_did_cost_is_on_it_for_the_next_estimate(world: Azure) -> None:
    """Here because this Azure is there already: run history tells the times, the tags of the job keep what follows."""
    size = world.settings.compute.size
    world.job("costed", "sleep 1", recipe="cpu_demo", size=size, planned_tokens="1000")
    told = json.loads((ROOT / "tests/scripts/fixtures/report/promoted/training.json").read_text())["metrics"]
    metrics = records.TrainingMetrics.model_validate({**told, "train_seconds": 0.5})
    recipe = yaml.safe_load((ROOT / "training/recipes/cpu_demo.yaml").read_text())
    digests = dict.fromkeys(("recipe_digest", "code_digest", "data_digest", "base_model_digest"), "x")
    load = hours.work("cpu_demo", recipe, 1000, 10)
    plan = Plan.model_validate(
        {"recipe": "cpu_demo", "data_asset": "a", "base_model": "b", "load": load.model_dump(), **digests}
    )
    table = prices.Table.model_validate({"currency": "USD", "prices": []})
    before = runs.forecast(world.settings, plan, table, ml=world.ml)
    paid = runs.settle(world.ml, world.settings, plan, world.ml.jobs.get("costed"), metrics)
    after = runs.forecast(world.settings, plan, table, ml=world.ml)
    assert paid.node_hours is not None
    assert 1 <= paid.node_hours * 3600 < 30
    assert (paid.tier, paid.amount) == ("dedicated", None)
    assert (before.hours.basis, after.hours.basis) == ("unknown", "measured")
    assert after.hours.span is not None
    grown = load.tokens / 1000  # the tag says what that run was planned for, the recipe what the next one is
    assert after.hours.span.likely == pytest.approx(paid.node_hours + 0.5 / 3600 * (grown - 1), rel=0.1)
    tags = world.ml.jobs.get("costed").tags
    runs.settle(world.ml, world.settings, plan, world.ml.jobs.get("costed"), metrics)
    assert world.ml.jobs.get("costed").tags == tags
