"""Route serverless end to end: a recipe becomes a job, a model, an endpoint, a score table, and what users reach."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

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
    (folder / "tickets.jsonl").write_text("".join((ROOT / "data/tickets.jsonl").read_text().splitlines(True)[:120]))
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

    made = invalid_verdict("better by a lot", candidate_model=candidate, baseline_model=baseline)
    return made.model_copy(update={"outcome": "pass", "bound": True, "digest": ""}).sealed()


@pytest.fixture(scope="module")
def deployed(release: Release) -> tuple[Any, Any]:
    """The baseline is live, the candidate is there."""
    from scripts import sample_requests
    from scripts.serverless import endpoints, live

    smoke = sample_requests.bodies(release.prompts)[:2]
    stable = endpoints.deploy_model(release.values, release.baseline, smoke)
    live.begin(release.values, release.baseline)
    return stable, endpoints.deploy_model(release.values, release.model, smoke)


def test_deploying_again_finds_the_endpoint(release: Release, deployed: tuple[Any, Any]) -> None:
    from scripts import sample_requests
    from scripts.errors import Refused
    from scripts.serverless import endpoints, live

    smoke = sample_requests.bodies(release.prompts)[:1]
    again = endpoints.deploy_model(release.values, release.model, smoke, content_filter=False)
    assert again.kept
    assert again.endpoint == deployed[1].endpoint == f"ticket-triage-{release.model.digest[:8]}"
    assert not endpoints.filters(release.values, again.endpoint)
    endpoints.deploy_model(release.values, release.model, smoke)
    assert endpoints.filters(release.values, again.endpoint)
    with pytest.raises(Refused, match="is led to one"):
        live.begin(release.values, release.model)


def test_the_same_flow_evaluates_it_and_the_key_is_kept_nowhere(
    release: Release, deployed: tuple[Any, Any], tmp_path: Path, emulator_home: Path
) -> None:
    from eval.run import run
    from scripts.commands.serverless import KEY, _key
    from scripts.serverless import endpoints

    name, uri = endpoints.need(release.values, release.model)
    secret = endpoints.key(release.values, name)
    with _key(secret):
        done = run(release.prompts, uri, tmp_path / "candidate.jsonl", model_digest=release.model.digest, quiet=True)
    assert KEY not in os.environ
    assert (done.rows, done.infra_errors, done.model_errors) == (6, 0, 0)
    assert deployed[1].endpoint == name
    kept = [path for path in tmp_path.rglob("*") if path.is_file()] + [emulator_home / "requests.jsonl"]
    assert not [path for path in kept if secret.encode() in path.read_bytes()]


def test_one_switch_and_the_same_way_back(release: Release, deployed: tuple[Any, Any]) -> None:
    from scripts import sample_requests
    from scripts.errors import Refused
    from scripts.rollout import policy as policies
    from scripts.serverless import endpoints, live

    sample = sample_requests.bodies(release.prompts)[:3]
    rules = policies.load(Path("scripts/rollout/policy_local.yaml"))
    good = verdict_on(release.model.digest, release.baseline.digest)
    with pytest.raises(Refused, match="compared with model 000000000000, but live is"):
        live.switch(release.values, verdict_on(release.model.digest, "0" * 64), release.model, rules, None, sample)
    with pytest.raises(Refused, match="judged model"):
        live.switch(release.values, verdict_on("1" * 64, release.baseline.digest), release.model, rules, None, sample)
    failed = good.model_copy(update={"outcome": "fail"})
    with pytest.raises(Refused, match="The verdict is fail"):
        live.switch(release.values, failed, release.model, rules, None, sample)
    stable, candidate = (each.endpoint for each in deployed)
    found, etag = live.read(release.values)
    assert found is not None
    assert found.live.endpoint == stable

    done = live.switch(release.values, good, release.model, rules, None, sample)
    assert (done.state, done.stable, done.candidate) == ("PROMOTED", stable, candidate)
    assert done.steps[0].requests == {stable: 3, candidate: 3}
    assert done.steps[0].traffic_read_back == {candidate: 100}
    with pytest.raises(Refused, match="switched by somebody else"):
        live.write(release.values, found, etag)  # a slower one, which has seen what was before
    again = live.switch(release.values, good, release.model, rules, None, sample)
    assert again.state == "PROMOTED"
    now, _ = live.read(release.values)
    assert now is not None
    assert (now.live.endpoint, now.moves) == (candidate, 2)
    with pytest.raises(Refused, match="live or the way back"):
        endpoints.delete(release.values, release.model, protected=[now.live.endpoint])
    with pytest.raises(Refused, match="delete its endpoint first"):
        endpoints.delete_model(release.values, release.model)

    back = live.roll_back(release.values, "wrong priorities", sample)
    assert (back.state, back.stable, back.candidate) == ("ROLLED_BACK", stable, candidate)
    now, _ = live.read(release.values)
    assert now is not None
    assert (now.live.endpoint, now.reason) == (stable, "wrong priorities")


def test_a_candidate_that_does_not_answer_is_never_switched_to(
    release: Release, deployed: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from scripts import records, sample_requests
    from scripts.errors import Refused
    from scripts.rollout import policy as policies
    from scripts.serverless import endpoints, live

    sample = sample_requests.bodies(release.prompts)[:2]
    rules = policies.load(Path("scripts/rollout/policy_local.yaml"))
    good, real = verdict_on(release.model.digest, release.baseline.digest), endpoints.probe
    dead = records.Smoke(requests=2, failures=2, latency_ms_p50=None, seconds=0.1)
    asked: list[str] = []

    def probe(values: Any, name: str, bodies: Any) -> Any:
        asked.append(name)
        return dead if name == deployed[1].endpoint and len(asked) > fine else real(values, name, bodies)

    monkeypatch.setattr(endpoints, "probe", probe)
    fine = 0
    with pytest.raises(Refused, match=r"failed 2 of 2 probes.*nothing was switched"):
        live.switch(release.values, good, release.model, rules, None, sample)
    asked.clear()
    fine = 2  # well while it is probed, dead once users come
    done = live.switch(release.values, good, release.model, rules, None, sample)
    assert (done.state, done.steps[0].traffic_read_back) == ("ROLLED_BACK", {deployed[0].endpoint: 100})
    now, _ = live.read(release.values)
    assert now is not None
    assert now.live.endpoint == deployed[0].endpoint
    assert "2 of 2 requests failed after the switch" in now.reason


def test_deleted_in_the_order_that_the_service_wants(
    release: Release, deployed: tuple[Any, Any], ml_client: Any
) -> None:
    from azure.core.exceptions import ResourceNotFoundError

    from scripts.errors import InvalidInput
    from scripts.serverless import endpoints

    name = deployed[1].endpoint
    gone = endpoints.delete(release.values, release.model, protected=[deployed[0].endpoint])
    assert gone == [name, f"{release.model.name}:1"]
    with pytest.raises(ResourceNotFoundError):
        ml_client.models.get(release.model.name, "1")
    with pytest.raises(InvalidInput, match="No serverless endpoint serves"):
        endpoints.need(release.values, release.model)
