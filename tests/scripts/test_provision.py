"""`provision`: twice is once, what a person made counts, least roles suffice, every missing one has its sentence.

Against a real local Azure ML that enforces roles, through the unmodified SDKs.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from emulator.command import command_env
from emulator.context import Settings as AzureSettings
from emulator.identity import Tokens
from emulator.launcher import Options, start_serve, stop_serve
from emulator.processes import MARK
from scripts import azure_ml
from scripts.deploy import _collector
from scripts.doctor.context import Context
from scripts.doctor.run import Finding, examine
from scripts.endpoint import Endpoint
from scripts.errors import AzureFailed, InvalidInput
from scripts.github import environments
from scripts.provision import GitHub, Provision, names, provision
from scripts.provision.destroy import destroy
from scripts.provision.place import Place
from scripts.provision.roles import github_grants, workload_grants
from scripts.settings import Settings, load

ROOT = Path(__file__).parents[2]
DEMO = Path("scripts/environments/demo.yaml")
REPOSITORY = environments.Identity("acme", "phi-train")
READY = "def init():\n    pass\n\n\ndef run(data):\n    return {}\n"
pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


def states(done: Provision) -> set[str]:
    return {each.state for each in done.resources}


@dataclass(frozen=True)
class World:
    """A provisioned Azure with GitHub's side; this process is its Owner unless it signs in as somebody else."""

    azure: AzureSettings
    settings: Settings
    first: Provision
    folder: Path

    @property
    def place(self) -> Place:
        return Place(self.settings)

    def github(self) -> GitHub:
        return GitHub(environments.load(), REPOSITORY)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    home = tmp_path_factory.mktemp("provision") / "home"
    serve = start_serve(Options(home, {}, operation_seconds=0.0), detached=False)
    before = dict(os.environ)
    os.chdir(ROOT)
    try:
        azure = AzureSettings.load(home)
        os.environ.update({name: value for name, value in command_env(azure).items() if name != MARK})
        settings = load(DEMO)
        first = provision(settings, github=GitHub(environments.load(), REPOSITORY))
        yield World(azure, settings, first, tmp_path_factory.mktemp("files"))
    finally:
        os.environ.clear()
        os.environ.update(before)
        stop_serve(serve, home)


@pytest.fixture
def sign_in(world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., None]:
    """Be the identity of a GitHub environment, as its jobs are: by an assertion with its subject."""

    def be(environment: str, *, subject: str = "") -> None:
        presented = subject or f"repo:acme/phi-train:environment:{environment}"
        (tmp_path / "assertion").write_text(Tokens(world.azure.home, world.azure.tenant_id).assertion(presented))
        monkeypatch.setenv("AZURE_FEDERATED_TOKEN_FILE", str(tmp_path / "assertion"))
        monkeypatch.setenv("AZURE_CLIENT_ID", world.first.clients[environment])
        monkeypatch.setenv("MLOPS_GITHUB_ENVIRONMENT", environment)

    return be


def refusal(action: Callable[[], object]) -> str:
    with pytest.raises(AzureFailed) as failed, azure_ml.explained("Trying"):
        action()
    return str(failed.value)


class TestTwiceIsOnce:
    def test_the_first_run_makes_everything_and_the_second_nothing(self, world: World) -> None:
        assert states(world.first) == {"created"}
        assert {each.state for each in world.first.roles} == {"created"}
        again = provision(world.settings, github=world.github())
        assert states(again) == {"exists"}
        assert [each.name for each in again.resources] == [each.name for each in world.first.resources]
        assert states(provision(world.settings, github=world.github(), plan_only=True)) == {"exists"}
        kinds = [each.kind for each in world.first.resources]
        assert (kinds.count("managed identity"), kinds.count("federated credential")) == (6, 4)
        place = world.place
        everybody = place.authorization.role_assignments.list_for_subscription()
        assert len(list(everybody)) == kinds.count("role assignment") == len(world.first.roles)

    def test_what_a_person_made_counts_and_what_changed_is_mended(self, world: World) -> None:
        """A role that lost an action and a credential of another subject are; an assignment of another name is left."""
        place, side = world.place, environments.load()
        grant = next(each for each in workload_grants(place) if each.wanted.name == "AcrPull")
        known = place.authorization.role_assignments
        made = known.get(grant.scope, grant.name())
        grant.remove()
        by_hand = known.create(
            grant.scope,
            names.guid("a person"),
            {"properties": {"roleDefinitionId": made.role_definition_id, "principalId": made.principal_id}},
        )
        own = next(each for each in github_grants(place, side) if each.wanted.actions)
        role = place.authorization.role_definitions.get_by_id(own.definition())
        role.permissions[0].actions.pop()
        place.authorization.role_definitions.create_or_update(place.group, role.name, role)
        place.msi.federated_identity_credentials.create_or_update(
            world.settings.resource_group,
            names.github_identity("staging"),
            "github-staging",
            {
                "properties": {
                    "issuer": side.oidc.issuer,
                    "subject": "repo:acme/other:environment:staging",
                    "audiences": [side.oidc.audience],
                }
            },
        )
        plan = provision(world.settings, github=world.github(), plan_only=True)
        assert sorted(each.kind for each in plan.resources if each.state == "differs") == [
            "federated credential",
            "role definition",
        ]
        assert "missing" not in states(plan)
        provision(world.settings, github=world.github())
        assert states(provision(world.settings, github=world.github())) == {"exists"}
        known.delete(grant.scope, by_hand.name)
        grant.create()


class TestRoles:
    def deployment(self, world: World, name: str) -> Any:
        from azure.ai.ml.entities import CodeConfiguration, ManagedOnlineDeployment

        from scripts.provision import environment_version

        code = world.folder / "code"
        code.mkdir(exist_ok=True)
        (code / "score.py").write_text(READY)
        image = world.settings.serving_environment
        return ManagedOnlineDeployment(
            name=name,
            endpoint_name=world.settings.endpoint,
            code_configuration=CodeConfiguration(code=str(code), scoring_script="score.py"),
            environment=f"azureml:{image.name}:{environment_version(image)}",
            instance_type=world.settings.serving.instance_type,
            instance_count=1,
            data_collector=_collector(world.settings.serving.collect),
        )

    @pytest.mark.parametrize(
        ("role", "also", "where"),
        [
            ("AcrPull", "", "container registry"),
            ("Storage Blob Data Reader", "Storage Blob Data Contributor", "storage account"),
            ("Storage Blob Data Contributor", "", "storage account"),
        ],
    )
    def test_an_endpoint_without_a_role_deploys_nothing_and_says_which(
        self, world: World, role: str, also: str, where: str
    ) -> None:
        endpoint, who = Endpoint(world.settings), world.settings.endpoint_identity
        lost = [one for one in workload_grants(world.place) if one.who == who and one.wanted.name in (role, also)]
        for grant in lost:
            grant.remove()
        try:
            with pytest.raises(AzureFailed) as failed:
                endpoint.create_deployment(self.deployment(world, "lacking"))
        finally:
            for grant in lost:
                grant.create()
        assert f"lacks the role {role} on the workspace's {where}" in str(failed.value)
        assert "python -m scripts provision" in str(failed.value)
        assert endpoint.deployments()["lacking"].provisioning_state == "Failed"

    @pytest.mark.parametrize("name", ["training", "staging", "production", "operations"])
    def test_each_environment_reads_what_it_needs(self, world: World, sign_in: Callable[..., None], name: str) -> None:
        sign_in(name)
        endpoint = Endpoint(world.settings)
        assert endpoint.traffic() == {}
        assert "lacking" in endpoint.deployments() or endpoint.deployments() == {}

    def test_staging_deploys_and_cannot_move_traffic_and_production_can(
        self, world: World, sign_in: Callable[..., None]
    ) -> None:
        sign_in("staging")
        endpoint = Endpoint(world.settings)
        endpoint.create_deployment(self.deployment(world, "blue"))
        with pytest.raises(AzureFailed) as failed:
            endpoint.set_traffic({"blue": 100})
        assert "the GitHub environment staging has no role for it" in str(failed.value)
        assert "production (Release train traffic)" in str(failed.value)
        sign_in("production")
        assert Endpoint(world.settings).set_traffic({"blue": 100}) == {"blue": 100}
        assert Endpoint(world.settings).set_traffic({}) == {}

    def test_production_without_the_right_to_the_identity_says_so(
        self, world: World, sign_in: Callable[..., None]
    ) -> None:
        grants = github_grants(world.place, environments.load())
        grant = next(each for each in grants if each.wanted.name == "Managed Identity Operator")
        grant.remove()
        owner = {name: os.environ[name] for name in ("AZURE_CLIENT_ID", "AZURE_FEDERATED_TOKEN_FILE")}
        sign_in("production")
        try:
            with pytest.raises(AzureFailed) as failed:
                Endpoint(world.settings).set_traffic({})
        finally:
            os.environ.update(owner)
            Place(world.settings)
            next(
                each for each in github_grants(world.place, environments.load()) if each.name() == grant.name()
            ).create()
        assert "lacks the role Managed Identity Operator on the identity of the endpoint" in str(failed.value)
        assert "provision --repository OWNER/NAME" in str(failed.value)

    @pytest.mark.parametrize(
        ("name", "action", "part"),
        [
            ("training", lambda place: place.ml.compute.begin_delete("gpu-nc24ads-a100"), "computes/delete"),
            ("staging", lambda place: list(place.ml.jobs.list()), "jobs/read"),
            (
                "operations",
                lambda place: workload_grants(place)[0].create(),
                "may not give roles",
            ),
        ],
    )
    def test_what_an_environment_may_not_is_refused_by_name(
        self,
        world: World,
        sign_in: Callable[..., None],
        name: str,
        action: Callable[[Place], object],
        part: str,
    ) -> None:
        sign_in(name)
        assert part in refusal(lambda: action(Place(world.settings)))

    def test_who_may_not_look_at_the_subscription_sees_the_rest(
        self, world: World, sign_in: Callable[..., None]
    ) -> None:
        sign_in("operations")
        plan = provision(world.settings, github=world.github(), plan_only=True)
        hidden = {each.kind for each in plan.resources if each.state == "hidden"}
        assert hidden == {"provider", "role assignment"}
        assert "missing" not in states(plan)

    def test_a_job_of_another_environment_cannot_sign_in(self, world: World, sign_in: Callable[..., None]) -> None:
        sign_in("production", subject="repo:acme/phi-train:environment:staging")
        assert "AADSTS700213" in refusal(lambda: Endpoint(world.settings).traffic())


class TestDoctor:
    def look(self, check: str) -> Finding:
        return next(each for each in examine(Context(DEMO, github=False), [check]).findings if each.check == check)

    def test_each_role_that_is_missing_is_named(self, world: World) -> None:
        every = len(world.first.roles)
        assert self.look("roles").said == f"{every} of {every} roles are there"
        side = environments.load()
        lost = [workload_grants(world.place)[-1], github_grants(world.place, side)[0]]
        for grant in lost:
            grant.remove()
        found = self.look("roles")
        for grant in lost:
            grant.create()
        assert found.outcome == "failed"
        assert all(f"{grant.who} lacks {grant.wanted.name} on the {grant.wanted.scope}" in found.said for grant in lost)
        assert "provision --repository OWNER/NAME" in found.said

    @pytest.mark.usefixtures("world")
    def test_credentials_of_another_repository_are_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        assert self.look("credentials").outcome == "skipped"
        monkeypatch.setenv("GITHUB_REPOSITORY", "acme/phi-train")
        assert self.look("credentials").outcome == "ok"
        monkeypatch.setenv("GITHUB_REPOSITORY", "acme/other")
        found = self.look("credentials")
        assert found.outcome == "failed"
        assert (
            "production: the credential for repo:acme/other:environment:production is for something else" in found.said
        )

    @pytest.mark.usefixtures("world")
    def test_a_region_without_azure_ml_is_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        assert self.look("region").outcome == "ok"
        monkeypatch.setenv("MLOPS_LOCATION", "atlantis")
        assert "not in the region atlantis" in self.look("region").said

    def test_who_may_not_look_is_told_so_and_nothing_counts_as_checked(self, sign_in: Callable[..., None]) -> None:
        sign_in("training")
        found = examine(Context(DEMO, github=False)).findings
        outcomes = {each.check: each.outcome for each in found}
        assert outcomes["sign-in"] == outcomes["resources"] == "ok"
        assert outcomes["roles"] == outcomes["region"] == outcomes["quota"] == "skipped"
        assert "not ours to see" in next(each.said for each in found if each.check == "resources")


class TestDestroy:
    """Last, because it does what it says."""

    def test_nothing_goes_without_the_groups_name(self, world: World) -> None:
        assert "deleted" not in {part.state for part in destroy(world.settings).parts}
        with pytest.raises(InvalidInput, match="rg-phi-mlops"):
            destroy(world.settings, typed="rg-other")
        assert states(provision(world.settings, github=world.github(), plan_only=True)) == {"exists"}

    def test_what_provision_did_not_make_stays(self, world: World) -> None:
        from azure.ai.ml.entities import ManagedOnlineEndpoint

        place, group = world.place, world.settings.resource_group
        place.msi.user_assigned_identities.create_or_update(group, "id-somebody", {"location": "eastus2"})
        training = place.identity(world.settings.training_identity)
        place.msi.user_assigned_identities.update(group, training.name, {"tags": {"owner": "somebody"}})
        place.ml.online_endpoints.begin_create_or_update(ManagedOnlineEndpoint(name="somebodys")).result()
        done = destroy(world.settings, typed=group)
        stays = {(part.kind, part.name) for part in done.parts if part.state == "stays"}
        assert stays == {
            ("managed identity", training.name),
            ("workspace", world.settings.workspace),
            ("resource group", group),
        }
        assert {one.name for one in place.msi.user_assigned_identities.list_by_resource_group(group)} == {
            "id-somebody",
            training.name,
        }
        assert [one.name for one in place.ml.online_endpoints.list()] == ["somebodys"]
        assert not list(place.authorization.role_assignments.list_for_subscription())
        again = destroy(world.settings, typed=group)
        assert "deleted" not in {part.state for part in again.parts}
