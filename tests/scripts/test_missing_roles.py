"""Every role that the data gives has a use, and without it that use ends in a sentence that names the role.

One case for each role of .github/environments.yaml and scripts/provision/workloads.yaml, against a real local Azure ML,
with our own code signed in as whoever lacks the role. A role that is added there needs a case here.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import httpx
import pytest

from emulator.command import command_env
from emulator.context import Settings as AzureSettings
from emulator.identity import Tokens
from emulator.launcher import Options, start_serve, stop_serve
from emulator.processes import MARK
from scripts import azure_ml, records, room, training_job, verdicts
from scripts.deploy import _collector
from scripts.doctor.context import Context
from scripts.doctor.run import examine
from scripts.endpoint import Endpoint
from scripts.errors import AzureFailed
from scripts.github import environments
from scripts.operate import feedback
from scripts.provision import GitHub, environment_version, names, provision
from scripts.provision.place import Place
from scripts.provision.roles import Grant, github_grants, workload_grants, workloads
from scripts.rollout.monitor_logs import LogsMonitor
from scripts.rollout.monitor_metrics import MetricsMonitor
from scripts.rollout.store import BlobStore
from scripts.settings import Settings, load

ROOT = Path(__file__).parents[2]
DEMO = Path("scripts/environments/demo.yaml")
REPOSITORY = environments.Identity("acme", "phi-train")
ACCOUNT, REGISTRY = "storage account", "container registry"
pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]


@dataclass(frozen=True)
class World:
    azure: AzureSettings
    settings: Settings
    clients: dict[str, str]
    folder: Path

    def grants(self) -> list[Grant]:
        place = Place(self.settings)
        return [*workload_grants(place), *github_grants(place, environments.load())]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    home = tmp_path_factory.mktemp("roles") / "home"
    serve = start_serve(Options(home, {}, operation_seconds=0.0), detached=False)
    before = dict(os.environ)
    os.chdir(ROOT)
    try:
        azure = AzureSettings.load(home)
        os.environ.update({name: value for name, value in command_env(azure).items() if name != MARK})
        settings = load(DEMO)
        done = provision(settings, github=GitHub(environments.load(), REPOSITORY))
        yield World(azure, settings, done.clients, tmp_path_factory.mktemp("files"))
    finally:
        os.environ.clear()
        os.environ.update(before)
        stop_serve(serve, home)


def deploys(world: World) -> None:
    from azure.ai.ml.entities import CodeConfiguration, ManagedOnlineDeployment

    (world.folder / "score.py").write_text("def init():\n    pass\n\n\ndef run(data):\n    return {}\n")
    image, serving = world.settings.serving_environment, world.settings.serving
    Endpoint(world.settings).create_deployment(
        ManagedOnlineDeployment(
            name="lacking",
            endpoint_name=world.settings.endpoint,
            code_configuration=CodeConfiguration(code=str(world.folder), scoring_script="score.py"),
            environment=f"azureml:{image.name}:{environment_version(image)}",
            instance_type=serving.instance_type,
            instance_count=1,
            data_collector=_collector(serving.collect),
        )
    )


def trains(world: World) -> None:
    """A job ends as `train` sees it end."""
    from azure.ai.ml import command

    ml, image = azure_ml.client(world.settings), world.settings.training_environment
    wanted = command(
        command="true",
        environment=f"azureml:{image.name}:{environment_version(image)}",
        compute=world.settings.compute.name,
    )
    with azure_ml.explained("Training job"):
        job = training_job.wait(ml, ml.jobs.create_or_update(wanted), 60)
        if training_job.status(job) != "Completed":
            raise AzureFailed(f"It ended as {training_job.status(job)}{training_job.follow(ml, str(job.name))}.")


def counts(monitor: type[MetricsMonitor | LogsMonitor]) -> Callable[[World], object]:
    now = records.now()
    return lambda world: monitor(world.settings, world.settings.endpoint).minutes(
        ["blue"], now - timedelta(minutes=20), now
    )


def reads_the_state(world: World) -> object:
    return BlobStore(world.settings).read()


def takes_feedback(world: World) -> object:
    return feedback.take(world.settings, 7, world.folder / "review.jsonl", records.now())


def asks_for_room(world: World) -> None:
    room.check(world.settings, "Deployment green", world.settings.serving.instance_type, 1)


def moves_traffic(world: World) -> object:
    return Endpoint(world.settings).set_traffic({})


DEPLOYER, TRAFFIC, QUOTA = "Release train deployer", "Release train traffic", "Release train quota reader"
BLOBS = "Storage Blob Data Contributor"
# Who and which role: what needs it. None: nothing is refused without it, and only `doctor` can tell.
USES: dict[tuple[str, str], Callable[[World], object] | None] = {
    ("training", "AzureML Data Scientist"): lambda world: Endpoint(world.settings).traffic(),
    ("training", BLOBS): takes_feedback,
    ("staging", DEPLOYER): lambda world: Endpoint(world.settings).deployments(),
    ("staging", BLOBS): lambda world: verdicts.looked(world.settings, "0" * 32),
    ("staging", QUOTA): asks_for_room,
    ("production", TRAFFIC): moves_traffic,
    ("production", BLOBS): reads_the_state,
    ("production", "Managed Identity Operator"): moves_traffic,
    ("production", QUOTA): asks_for_room,
    ("production", "Monitoring Reader"): counts(MetricsMonitor),
    ("production", "Log Analytics Reader"): counts(LogsMonitor),
    ("operations", "Contributor"): lambda world: Endpoint(world.settings).traffic(),
    ("operations", BLOBS): reads_the_state,
    ("training_identity", BLOBS): trains,
    ("training_identity", "AcrPull"): trains,
    ("endpoint_identity", "AcrPull"): deploys,
    ("endpoint_identity", "Storage Blob Data Reader"): deploys,
    ("endpoint_identity", BLOBS): deploys,
    ("endpoint_identity", "AzureML Metrics Writer (preview)"): None,
    (
        "endpoint_identity",
        "Cognitive Services User",
    ): None,  # the service refuses, not Azure ML (docs/content-filter.md)
}
IN_DATA = [
    *(
        (each.name, role.name)
        for each in environments.load().environments
        if each.azure
        for role in each.azure.roles
        if role.when != "scaling"  # the demo's settings scale nothing: tests/scripts/test_tiers.py has who gets it
    ),
    *(
        (each.identity, role.name)
        for each in workloads(ROOT / "scripts/provision/workloads.yaml").workloads
        for role in each.roles
    ),
]
# A role that another one of the same identity holds as well, so both are taken away.
ALSO = {
    "Storage Blob Data Reader": BLOBS,
    QUOTA: "Monitoring Reader",
    "Log Analytics Reader": "Monitoring Reader",
}


@pytest.mark.parametrize(("who", "role"), IN_DATA, ids=lambda value: str(value).replace(" ", "-"))
def test_without_the_role_its_use_names_it(
    world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, who: str, role: str
) -> None:
    use = USES[who, role]
    if use is None:
        pytest.skip("Azure refuses nothing for the want of it")
    workload = who.endswith("_identity")
    identity = getattr(world.settings, who) if workload else names.github_identity(who)
    lost = [each for each in world.grants() if each.who == identity and each.wanted.name in (role, ALSO.get(role))]
    assert lost
    for grant in lost:
        grant.remove()
    try:
        with monkeypatch.context() as signed_in:
            if not workload:
                subject = f"repo:acme/phi-train:environment:{who}"
                (tmp_path / "assertion").write_text(Tokens(world.azure.home, world.azure.tenant_id).assertion(subject))
                signed_in.setenv("AZURE_FEDERATED_TOKEN_FILE", str(tmp_path / "assertion"))
                signed_in.setenv("AZURE_CLIENT_ID", world.clients[who])
                signed_in.setenv("MLOPS_GITHUB_ENVIRONMENT", who)
            with pytest.raises(AzureFailed) as refused:
                use(world)
    finally:
        for grant in lost:
            grant.create()
    said = str(refused.value)
    scope = next(each.wanted.scope for each in lost if each.wanted.name == role)
    assert f"lacks the role {role} on the" in said
    assert scope.removesuffix(" of the workspace") in said, said
    assert "an Owner runs `python -m scripts provision" in said
    assert "\n" not in said


def test_with_every_role_nothing_is_refused(world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Else the cases above would prove nothing."""
    for who, use in {(who, use) for (who, _), use in USES.items()}:
        if use in (None, deploys, trains):  # servers and jobs that run are the releases' to show
            continue
        with monkeypatch.context() as signed_in:
            if not who.endswith("_identity"):
                subject = f"repo:acme/phi-train:environment:{who}"
                (tmp_path / "assertion").write_text(Tokens(world.azure.home, world.azure.tenant_id).assertion(subject))
                signed_in.setenv("AZURE_FEDERATED_TOKEN_FILE", str(tmp_path / "assertion"))
                signed_in.setenv("AZURE_CLIENT_ID", world.clients[who])
            assert use
            use(world)


def test_runs_are_for_those_who_may_read_them(world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The tracking of jobs asks for a role too: staging, which trains nothing, has none."""
    place = f"https://{world.azure.region}.api.azureml.ms/history/v1.0{Place(world.settings).workspace_id}"
    answers = {}
    for who in ("training", "staging"):
        with monkeypatch.context() as signed_in:
            subject = f"repo:acme/phi-train:environment:{who}"
            (tmp_path / "assertion").write_text(Tokens(world.azure.home, world.azure.tenant_id).assertion(subject))
            signed_in.setenv("AZURE_FEDERATED_TOKEN_FILE", str(tmp_path / "assertion"))
            signed_in.setenv("AZURE_CLIENT_ID", world.clients[who])
            token = azure_ml.credential().get_token(azure_ml.SCORING_SCOPE).token
        answers[who] = httpx.get(
            f"{place}/runs/nobodys",
            headers={"Authorization": f"Bearer {token}"},
            verify=ssl.create_default_context(cafile=world.azure.ca),
        )
    assert [answers[who].status_code for who in ("training", "staging")] == [404, 403]
    assert "experiments/runs/read" in answers["staging"].json()["error"]["message"]


def test_the_serverless_route_needs_no_more_and_gets_no_more(
    world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Who is let through is told that there is no such endpoint, or no such model; the others get a 403."""
    place = f"https://management.azure.com{Place(world.settings).workspace_id}/serverlessEndpoints"
    calls = {"list": ("GET", ""), "ask": ("POST", "/nobodys/listKeys"), "make": ("PUT", "/nobodys")}
    calls["delete"] = ("DELETE", "/nobodys")
    let_through = {}
    for who in ("staging", "production", "operations"):
        with monkeypatch.context() as signed_in:
            subject = f"repo:acme/phi-train:environment:{who}"
            (tmp_path / "assertion").write_text(Tokens(world.azure.home, world.azure.tenant_id).assertion(subject))
            signed_in.setenv("AZURE_FEDERATED_TOKEN_FILE", str(tmp_path / "assertion"))
            signed_in.setenv("AZURE_CLIENT_ID", world.clients[who])
            token = azure_ml.credential().get_token("https://management.azure.com/.default").token
        with httpx.Client(
            headers={"Authorization": f"Bearer {token}"}, verify=ssl.create_default_context(cafile=world.azure.ca)
        ) as client:
            given = {
                name: client.request(verb, f"{place}{path}?api-version=2024-10-01-preview", json={}).status_code
                for name, (verb, path) in calls.items()
            }
        assert set(given.values()) <= {200, 204, 400, 403, 404, 409}, given
        let_through[who] = {name for name, status in given.items() if status != httpx.codes.FORBIDDEN}
    assert let_through == {
        "staging": {"list", "ask", "make"},
        "production": {"list", "ask"},
        "operations": {"list", "ask", "make", "delete"},
    }


def test_doctor_names_every_role_that_is_missing(world: World) -> None:
    """Last, because it leaves nobody any role."""
    lost = world.grants()
    not_asked_for = {role.name for each in workloads().workloads for role in each.roles if role.when == "filtering"}
    assert not_asked_for, "the demo's settings do without Azure's content filter"
    assert {(each.wanted.name) for each in lost} == {role for _, role in IN_DATA} - not_asked_for
    for grant in lost:
        grant.remove()
    found = next(each for each in examine(Context(DEMO, github=False), ["roles"]).findings if each.check == "roles")
    assert found.outcome == "failed"
    told = {part.partition(" lacks ")[0]: part for part in found.said.split("; ")}
    for grant in lost:
        assert f"{grant.wanted.name} on the {grant.wanted.scope}" in told[grant.who]
