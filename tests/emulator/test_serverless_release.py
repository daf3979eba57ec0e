"""Route serverless end to end: a recipe becomes a job, a model, an endpoint, a score table, and what users reach."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.emulator import service_model
from tests.emulator.conftest import GROUP, ROOT, WORKSPACE

RECIPE = "serverless_phi4_mini"
pytestmark = pytest.mark.slow


@dataclasses.dataclass
class Release:
    """What the commands before have left."""

    values: Any
    config: Path
    dataset: Any
    work: Any
    training: Any
    model: Any
    baseline: Any
    prompts: Path

    @property
    def sample(self) -> list[dict[str, Any]]:
        """Bodies of requests. Few words are enough: what is said is not judged here."""
        from scripts import sample_requests

        return [{**body, "max_tokens": 8} for body in sample_requests.bodies(self.prompts)]


def settings_at(folder: Path, **changes: Any) -> tuple[Any, Path]:
    from scripts import settings

    content = yaml.safe_load((ROOT / "scripts/environments/demo.yaml").read_text())
    config = folder / f"settings-{len(list(folder.iterdir()))}.yaml"
    config.write_text(yaml.safe_dump({**content, "resource_group": GROUP, "workspace": WORKSPACE, **changes}))
    return settings.load(config), config


@pytest.fixture(scope="module")
def release(ml_client: Any, emulator_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Release:
    """Data uploaded, a job completed, its model registered. `ml_client` made the workspace."""
    from data.prepare import prepare
    from scripts import dataset, records, routes, train
    from scripts.serverless import endpoints

    assert ml_client.workspace_name == WORKSPACE
    folder = tmp_path_factory.mktemp("release")
    weights = emulator_home.parent / "service-model"
    if not (weights / "config.json").exists():
        service_model.make(weights)
    os.chdir(ROOT)
    values, config = settings_at(folder)
    (folder / "tickets.jsonl").write_text("".join((ROOT / "data/tickets.jsonl").read_text().splitlines(True)[:60]))
    prompts = folder / "heldout.jsonl"
    prompts.write_text("".join((ROOT / "data/heldout.jsonl").read_text().splitlines(True)[:6]))
    sources = dataset.sources(str(folder / "tickets.jsonl"), str(prompts), config)
    record = dataset.upload(values, prepare(sources, None, folder / "data", "tickets"), folder / "data" / "training")
    work = train.plan(RECIPE, record, None)
    training = train.train(values, work, commit="c0ffee")
    assert isinstance(training, records.Training)
    model = routes.named("serverless").register(values, training)
    return Release(values, config, record, work, training, model, endpoints.base_model(RECIPE), prompts)


def test_the_job_is_named_by_its_inputs_and_never_paid_for_twice(release: Release, ml_client: Any) -> None:
    from scripts import records, train

    assert release.work.route == "serverless"
    assert not release.training.attached
    again = train.train(release.values, release.work)
    assert isinstance(again, records.Training)
    assert again.attached
    assert [job.name for job in ml_client.jobs.list() if job.name.startswith("train-serverless")] == [release.work.name]
    tags = ml_client.jobs.get(release.work.name).tags
    assert tags["commit"] == "c0ffee"
    assert tags["data_digest"] == release.dataset.digest
    other = train.plan(RECIPE, release.dataset.model_copy(update={"digest": "0" * 64}), None)
    assert other.name != release.work.name


def test_what_the_service_measured_and_what_it_does_not_tell(release: Release) -> None:
    told = release.training.metrics
    assert len(told.loss) > 5
    assert told.loss[0].step < told.loss[-1].step == told.steps
    assert 0 < told.eval_loss < 10
    assert told.token_accuracy is not None
    assert (told.tokens_per_second, told.peak_memory_mb, told.trained_tokens) == (None, None, None)
    assert told.train_seconds
    assert release.training.cost.amount is None
    assert "no price of a training token" in release.training.cost.said


def test_the_service_gets_its_own_format_from_the_same_manifest(
    release: Release, emulator_home: Path, ml_client: Any, tmp_path: Path
) -> None:
    entries = [json.loads(line) for line in (emulator_home / "requests.jsonl").read_text().splitlines()]
    put = next(each for each in entries if each["method"] == "PUT" and each["path"].endswith(release.work.name))
    details = put["request"]["properties"]["fineTuningDetails"]
    assert details["model"]["uri"] == "azureml://registries/azureml/models/Phi-4-mini-instruct/versions/1"
    asked = {"num_train_epochs": "2", "batch_size_multiplier": "1", "learning_rate_multiplier": "1"}
    assert details["hyperParameters"] == asked
    from azure.ai.ml._artifacts._artifact_utilities import download_artifact_from_aml_uri

    for split in ("train", "validation"):
        asset = ml_client.data.get(f"tickets-chat-{split}", release.dataset.version)
        assert details[f"{'training' if split == 'train' else split}Data"]["uri"].endswith(asset.id)
        download_artifact_from_aml_uri(asset.path, str(tmp_path / split), ml_client.datastores)
        rows = [json.loads(line) for line in next((tmp_path / split).rglob("*.jsonl")).read_text().splitlines()]
        assert len(rows) == release.dataset.files[split].rows
        assert {tuple(row) for row in rows} == {("messages",)}


def test_the_model_has_its_lineage(release: Release, ml_client: Any) -> None:
    tags = ml_client.models.get(release.model.name, release.model.version).tags
    assert tags["digest"] == release.training.model_digest == release.model.digest
    assert tags["data"] == release.dataset.digest
    assert tags["job"] == release.work.name


def test_an_unknown_price_refuses_under_a_cap(release: Release) -> None:
    from scripts import train
    from scripts.errors import Refused

    again = train.plan(RECIPE, release.dataset, None, "2026-Q4")
    with pytest.raises(Refused, match=r"unknown: no price of a training token.*With a cap of 5 USD that is refused"):
        train.train(release.values, again, max_cost=5)


def test_a_region_without_fine_tuning_is_refused_before_anything_is_made(release: Release, tmp_path: Path) -> None:
    from scripts import train
    from scripts.errors import Refused

    elsewhere, _ = settings_at(tmp_path, location="swedencentral")
    with pytest.raises(Refused, match="not fine-tuned as a service in swedencentral, only in eastus2"):
        train.train(elsewhere, release.work)


def test_doctor_knows_what_the_route_needs(release: Release, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from scripts.doctor.context import Context
    from scripts.doctor.run import ROUTE, _run

    well = _run(ROUTE, Context(release.config, recipe=RECIPE))
    assert (well.outcome, "Microsoft.Network is registered" in well.said) == ("ok", True), well.said
    assert _run(ROUTE, Context(release.config, recipe="cpu_demo")).outcome == "skipped"
    _, elsewhere = settings_at(tmp_path, location="westeurope")
    said = _run(ROUTE, Context(elsewhere, recipe=RECIPE))
    assert (said.outcome, "westeurope" in said.said) == ("failed", True)
    monkeypatch.setenv("AZURE_CLIENT_ID", "99999999-9999-9999-9999-999999999999")  # known to nobody, so without a role
    stranger = _run(ROUTE, Context(release.config, recipe=RECIPE))
    assert stranger.outcome == "failed", stranger.said


def verdict_on(candidate: str, baseline: str) -> Any:
    from eval.verdict import invalid_verdict

    digests = dict.fromkeys(
        ("policy_digest", "prompts_digest", "candidate_scores_digest", "baseline_scores_digest"), "d" * 64
    )
    made = invalid_verdict("better", bound=True, candidate_model=candidate, baseline_model=baseline or None, **digests)
    return made.model_copy(update={"outcome": "pass"}).sealed()


@pytest.fixture(scope="module")
def deployed(release: Release) -> tuple[Any, Any]:
    """The baseline is live, the candidate is there."""
    from scripts.serverless import release as step

    stable = step.deploy(release.values, release.baseline, release.sample[:2], first=True)
    candidate = step.deploy(release.values, release.model, release.sample[:2])
    assert (stable.weight, candidate.weight) == (100, 0)
    return stable, candidate


def test_deploying_again_finds_the_endpoint(release: Release, deployed: tuple[Any, Any]) -> None:
    from scripts.errors import Refused
    from scripts.serverless import filters
    from scripts.serverless import release as step

    again = step.deploy(release.values, release.model, release.sample[:1], content_filter=False)
    assert again.kept
    assert again.deployment == deployed[1].deployment == f"ticket-triage-{release.model.digest[:8]}"
    assert not filters.on(release.values, again.deployment)
    step.deploy(release.values, release.model, release.sample[:1])
    assert filters.on(release.values, again.deployment)
    with pytest.raises(Refused, match=r"--first is for an application that is led nowhere"):
        step.deploy(release.values, release.model, release.sample[:1], first=True)
    ours = release.model.model_copy(update={"lineage": release.model.lineage.model_copy(update={"route": "job"})})
    with pytest.raises(Refused, match=r"leads its users to serverless endpoints.*environment of its own"):
        step.check_kind(release.values, ours)


def test_the_commands_are_everybodys(
    release: Release, deployed: tuple[Any, Any], tmp_path: Path, emulator_home: Path
) -> None:
    """As evaluate.yml runs them, and the key is kept nowhere."""
    import promptflow.executor  # noqa: F401 - its log handlers keep the stderr they find: not one that ends with the runner
    from typer.testing import CliRunner

    from scripts import records
    from scripts.__main__ import app
    from scripts.serverless import endpoints
    from scripts.serverless.release import KEY

    out = str(tmp_path)
    records.write(release.model, tmp_path / "model.json")

    def run(*arguments: str) -> None:
        done = CliRunner().invoke(app, [*arguments, "--config", str(release.config)])
        assert done.exit_code == 0, (arguments, done.output, done.exception)

    live, prompts = ("--live", f"{out}/live.json"), ("--prompts", str(release.prompts))
    run("live", "--out", f"{out}/live.json")
    run("judged", "--model", f"{out}/model.json", *live, *prompts, "--folder", out, "--out", f"{out}/judged.json")
    run("deploy", "--model", f"{out}/model.json", "--smoke", str(release.prompts), "--out", f"{out}/deployment.json")
    for role, each in zip(("stable", "candidate"), deployed, strict=True):
        table = f"{out}/scores/{role}.jsonl"
        run("evaluate", "--deployment", each.deployment, *prompts, "--engine", "python", "--out", table)
        told = json.loads(Path(f"{out}/scores/{role}.run.json").read_text())
        assert (told["rows"], told["infra_errors"], told["model_errors"]) == (6, 0, 0)
    table = f"{out}/scores/candidate.jsonl"
    run("gate", "--candidate", table, "--candidate-model", f"{out}/model.json", *live, "--as-output", "--out",
        f"{out}/verdict.json")  # fmt: skip
    given = json.loads((tmp_path / "verdict.json").read_text())
    assert (given["candidate_model"], given["baseline_model"]) == (release.model.digest, release.baseline.digest)
    now = records.read(records.Live, tmp_path / "live.json")
    assert (now.stable, now.model) == (deployed[0].deployment, release.baseline)
    assert now.scoring_uri == f"https://{now.stable}.eastus2.models.ai.azure.com/v1/chat/completions"
    assert KEY not in os.environ
    secret = endpoints.key(release.values, deployed[1].deployment)
    kept = [path for path in tmp_path.rglob("*") if path.is_file()] + [emulator_home / "requests.jsonl"]
    assert not [path for path in kept if secret.encode() in path.read_bytes()]


def leads(release: Release) -> tuple[str, int]:
    """Where users are led, and how often that has changed."""
    from scripts.serverless import record

    found, _ = record.read(record.place(release.values))
    assert found is not None
    return found.live.endpoint if found.live else "", found.moves


def rules(**bake: float) -> Any:
    """The laptop's policy with less evidence: six requests to either side in a look, two looks for a step."""
    from scripts.rollout import policy as policies

    local = policies.load(policies.LOCAL)
    changes = {"bake": {"min_requests": 12, **bake}, "sample": {"per_look": 12}}
    changed = {part: getattr(local, part).model_copy(update=values) for part, values in changes.items()}
    return local.model_copy(update={"bad_below": 0.4, **changed})


def roll(release: Release, values: Any = None, tell: Any = print, **options: Any) -> Any:
    """`rollout run`."""
    from scripts.rollout.begin import Wanted
    from scripts.rollout.run import Sources, run

    made = options.pop("verdict", None) or verdict_on(release.model.digest, release.baseline.digest)
    wanted = Wanted(made, rules(), **options)
    return run(values or release.values, wanted, Sources(release.sample, release.sample, release.prompts), tell)


def day_two(release: Release, ml: Any, candidate: str) -> None:
    """What the schedules see once the candidate is live."""
    from scripts import job_verdicts, verdicts
    from scripts.endpoint import Endpoint
    from scripts.operate import reap_facts
    from scripts.operate.retrain_facts import live_model

    now, why = live_model(release.values, Endpoint(release.values))
    assert now is not None, why
    assert (now.model, now.deployment) == (f"{release.model.name}:1", candidate)
    assert (now.data_digest, now.job, now.digest) == (release.dataset.digest, release.work.name, release.model.digest)
    assert now.created_at is not None
    stand = {each.name: each for each in reap_facts._serverless(ml, release.values)}
    assert {name: each.protected for name, each in stand.items() if name == candidate} == {candidate: True}
    assert {(each.application, each.changed_at is None) for each in stand.values()} == {("ticket-triage", False)}
    verdicts.tag_model(release.values, release.model, verdict_on(release.model.digest, release.baseline.digest))
    assert job_verdicts.of_jobs(ml, "nobodys", ml.jobs.list())[release.work.name] == "pass"


def test_a_rollout_asks_both_before_and_after_and_its_way_back(
    release: Release, deployed: tuple[Any, Any], ml_client: Any
) -> None:
    from scripts.errors import AzureFailed, Refused
    from scripts.front import front_of
    from scripts.rollout.back import Wish, roll_back
    from scripts.rollout.store import BlobStore
    from scripts.serverless import endpoints, protected, record

    stable, candidate = (each.deployment for each in deployed)
    with pytest.raises(Refused, match="but the verdict judged 000000000000"):
        roll(release, verdict=verdict_on(release.model.digest, "0" * 64))
    with pytest.raises(Refused, match=r"is not there: a rollout begins when both"):
        roll(release, verdict=verdict_on("1" * 64, release.baseline.digest))
    found, etag = record.read(record.place(release.values))
    assert found is not None
    assert leads(release) == (stable, 1)

    done = roll(release)
    assert (done.state, done.stable, done.candidate) == ("PROMOTED", stable, candidate)
    assert [(step.weight, step.traffic_read_back) for step in done.steps] == [
        (0, {stable: 100}),
        (100, {candidate: 100}),
    ]
    for step in done.steps:
        assert set(step.requests) == {stable, candidate}
        assert step.requests == {stable: 12, candidate: 12}
        assert sum(step.errors.values()) == 0
    assert leads(release) == (candidate, 2)
    with pytest.raises(AzureFailed, match="was moved by somebody else"):
        record.write(record.place(release.values), found, etag)  # a slower one, which has seen what was before
    day_two(release, ml_client, candidate)
    assert roll(release).reason.startswith("nothing to do")
    assert leads(release) == (candidate, 2)
    with pytest.raises(Refused, match="live or the way back"):
        endpoints.delete(release.values, release.model, protected=protected.names(release.values))
    with pytest.raises(Refused, match="delete its endpoint first"):
        endpoints.delete_model(release.values, release.model)

    wish, store = Wish("wrong priorities"), BlobStore(release.values)
    back = roll_back(front_of(release.values), lambda: store, wish, print, grace_seconds=0)
    assert (back.to, back.traffic, back.state_kept) == (stable, {stable: 100}, True)
    now, _ = record.read(record.place(release.values))
    assert now is not None
    assert (leads(release), now.reason) == ((stable, 3), "wrong priorities")


def new_key(ml: Any, name: str) -> None:
    """Over ARM: the SDK's own call fails for want of an argument (azure-ai-ml 1.35)."""
    from azure.identity import DefaultAzureCredential

    token = DefaultAzureCredential().get_token("https://management.azure.com/.default").token
    place = f"{ml.workspaces.get(ml.workspace_name).id}/serverlessEndpoints/{name}/regenerateKeys"
    url = f"https://management.azure.com{place}?api-version=2024-01-01-preview"
    assert httpx.post(url, json={"keyType": "Primary"}, headers={"Authorization": f"Bearer {token}"}).status_code == 200


@pytest.mark.parametrize("share", [0, 100])
def test_a_candidate_that_stops_answering_goes_back_by_itself(
    release: Release, deployed: tuple[Any, Any], ml_client: Any, share: int
) -> None:
    """Its key is changed under the rollout's hands, so it answers 401: before the switch, and after it."""
    stable, candidate = (each.deployment for each in deployed)
    before = leads(release)[1]

    def tell(line: str) -> None:
        if line.startswith(f"{candidate} {share}%"):
            new_key(ml_client, candidate)

    done = roll(release, tell=tell, again=True)
    assert (done.state, [step.weight for step in done.steps]) == ("ROLLED_BACK", [0, 100][: 1 + share // 100])
    assert done.steps[-1].errors[candidate] > 0 == done.steps[-1].errors[stable]
    assert "failed in a row" in done.reason
    assert leads(release) == (stable, before + (2 if share else 0))


def test_the_watchdog_takes_back_a_switch_that_nobody_settled(release: Release, deployed: tuple[Any, Any]) -> None:
    from datetime import timedelta

    from scripts.front import front_of
    from scripts.rollout.begin import Wanted
    from scripts.rollout.run import Sources, start, tick
    from scripts.rollout.state import Phase
    from scripts.rollout.store import BlobStore
    from scripts.rollout.watch import watch

    stable, candidate = (each.deployment for each in deployed)
    slow = rules(post_minutes=30)
    sources = Sources(release.sample, release.sample, release.prompts)
    start(release.values, Wanted(verdict_on(release.model.digest, release.baseline.digest), slow, again=True))
    tick(release.values, slow, None, sources, print)  # and its runner dies while it watches
    held, store = BlobStore(release.values).read(), BlobStore(release.values)
    assert held is not None
    assert (held.state.phase, leads(release)[0]) == (Phase.POST_BAKE, candidate)
    assert watch(front_of(release.values), store, timedelta(minutes=20), print).action == "none"
    found = watch(front_of(release.values), store, timedelta(0), print, grace_seconds=0)
    assert (found.action, found.traffic) == ("taken-back", {stable: 100})
    assert leads(release)[0] == stable
    store._blob.delete_blob()
    again = store.read()  # of the record's tags
    assert again is not None
    assert (again.state.phase, again.state.stable) == (Phase.ROLLED_BACK, stable)


def test_a_first_release_by_the_gate_and_back_to_nobody(
    release: Release, deployed: tuple[Any, Any], ml_client: Any
) -> None:
    """As if nothing had been released before; `provision` has made the endpoint that colours would be on."""
    from azure.ai.ml.entities import ManagedOnlineEndpoint

    from scripts.front import front_of
    from scripts.rollout.store import BlobStore
    from scripts.serverless import record
    from scripts.serverless import release as step

    values, name = release.values, deployed[0].deployment
    ml_client.online_endpoints.begin_create_or_update(
        ManagedOnlineEndpoint(name=values.endpoint, auth_mode="aad_token")
    ).result()
    record.place(values).delete_blob()  # the rollout's state went in the test before
    assert step.live(values) is None
    done = roll(release, verdict=verdict_on(release.baseline.digest, ""))
    assert (done.state, done.stable, done.candidate) == ("PROMOTED", "", name)
    now = step.live(values)
    assert now is not None
    assert (now.stable, now.model) == (name, release.baseline)
    held = BlobStore(values).read()
    assert held is not None
    assert held.state.standing == {name: 100}
    front = front_of(values)
    front.set_traffic({}, {"rollback": "nobody wants it"})
    assert front.traffic() == {}
    nobody = {"stable": "", "model": None, "scoring_uri": ""}
    assert step.live(values) == now.model_copy(update=nobody)


def test_deleted_in_the_order_that_the_service_wants(
    release: Release, deployed: tuple[Any, Any], ml_client: Any
) -> None:
    from azure.core.exceptions import ResourceNotFoundError

    from scripts.errors import InvalidInput
    from scripts.serverless import endpoints, protected

    name = deployed[1].deployment
    gone = endpoints.delete(release.values, release.model, protected=protected.names(release.values))
    assert gone == [name, f"{release.model.name}:1"]
    with pytest.raises(ResourceNotFoundError):
        ml_client.models.get(release.model.name, "1")
    with pytest.raises(InvalidInput, match="There is no serverless endpoint"):
        endpoints.need(ml_client, name)
