"""`provision`: twice is once, what a person made counts, least roles suffice, every missing one has its sentence.

Looking changes nothing, not even the resource providers of a subscription that has never registered one.

Against a real local Azure ML that enforces roles, through the unmodified SDKs.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, cast

import pytest
import requests

from emulator.command import command_env
from emulator.context import Settings as AzureSettings
from emulator.finetuning import NEEDS_PROVIDER
from emulator.identity import Tokens
from emulator.launcher import Options, start_serve, stop_serve
from emulator.processes import MARK
from scripts import azure_ml, records
from scripts.deploy import _collector, deploy
from scripts.doctor.context import Context
from scripts.doctor.run import ROUTE, Doctor, Finding, _run, examine
from scripts.endpoint import Endpoint
from scripts.errors import AzureFailed, InvalidInput, Refused
from scripts.github import environments
from scripts.provision import GitHub, Provision, alerts, environment_version, names, provision, registered
from scripts.provision.destroy import Destroyed, destroy
from scripts.provision.diagnostics import VERSION
from scripts.provision.place import REGISTRY_VERSION, Place
from scripts.provision.providers import PROVIDERS
from scripts.provision.roles import github_grants, workload_grants
from scripts.provision.workplace import environment
from scripts.routes import job
from scripts.serverless import endpoints
from scripts.settings import Settings, load

ROOT = Path(__file__).parents[2]
DEMO = Path("scripts/environments/demo.yaml")
ROUTE_RECIPE = "serverless_phi4_mini"
REPOSITORY = environments.Identity("acme", "phi-train")
LOGGED = "/providers/Microsoft.Insights/diagnosticSettings/requests"
READY = "def init():\n    pass\n\n\ndef run(data):\n    return {}\n"
pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


def states(done: Provision) -> set[str]:
    return {each.state for each in done.resources}


@dataclass(frozen=True)
class Before:
    """What a plan and the doctor said of a fresh subscription, and what they left behind."""

    plan: Provision
    doctor: Doctor
    destroy: Destroyed
    registered: list[str]
    refused: requests.Response


@dataclass(frozen=True)
class World:
    """A provisioned Azure with GitHub's side; this process is its Owner unless it signs in as somebody else."""

    azure: AzureSettings
    settings: Settings
    before: Before
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
    before = dict(os.environ)
    os.environ.pop("EMULATOR_PROVIDERS", None)  # a fresh subscription
    os.environ["EMULATOR_REGISTERING_SECONDS"] = "0.5"
    serve = start_serve(Options(home, {}, operation_seconds=0.0), detached=False)
    os.chdir(ROOT)
    try:
        azure = AzureSettings.load(home)
        os.environ.update({name: value for name, value in command_env(azure).items() if name != MARK})
        settings = load(DEMO)
        looked = look(settings)
        first = provision(settings, github=GitHub(environments.load(), REPOSITORY))
        yield World(azure, settings, looked, first, tmp_path_factory.mktemp("files"))
    finally:
        os.environ.clear()
        os.environ.update(before)
        stop_serve(serve, home)


def look(settings: Settings) -> Before:
    """Everything that only looks, at a subscription in which nobody ever made anything."""
    place = Place(settings)
    plan = provision(settings, github=GitHub(environments.load(), REPOSITORY), plan_only=True)
    doctor = examine(Context(DEMO, github=False))
    gone = destroy(settings)
    token = place.credential.get_token("https://management.azure.com/.default").token
    url = f"https://management.azure.com{place.identity_id('id-any')}?api-version=2023-01-31"
    refused = requests.get(url, headers={"Authorization": f"Bearer {token}"}, timeout=10)
    return Before(plan, doctor, gone, [name for name in PROVIDERS if place.registered(name)], refused)


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


def test_serverless_endpoints_want_a_provider_that_nothing_registers_by_the_way(
    world: World, sign_in: Callable[..., None]
) -> None:
    """`doctor` says it before anything is made; the service refuses whoever goes on all the same."""
    told = _run(ROUTE, Context(DEMO, github=False, recipe=ROUTE_RECIPE))
    assert told.outcome == "failed"
    assert "Microsoft.Network is NotRegistered" in told.said
    assert "az provider register --namespace Microsoft.Network" in told.said
    sign_in("staging")
    with pytest.raises(AzureFailed, match=r"not registered to use namespace 'Microsoft.Network'"):
        endpoints.deploy_model(world.settings, endpoints.base_model(ROUTE_RECIPE), [])
    assert endpoints.ours(world.settings, azure_ml.client(world.settings)) == {}


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

    def test_what_was_made_is_as_the_settings_say(self, world: World) -> None:
        place, settings = world.place, world.settings
        cluster, endpoint = (
            place.ml.compute.get(settings.compute.name),
            place.ml.online_endpoints.get(settings.endpoint),
        )
        assert (cluster.min_instances, cluster.max_instances) == (0, settings.compute.max_instances)
        assert (cluster.size, cluster.idle_time_before_scale_down) == (
            settings.compute.size,
            settings.compute.idle_seconds,
        )
        for who, name in ((cluster, settings.training_identity), (endpoint, settings.endpoint_identity)):
            assert [each.resource_id for each in who.identity.user_assigned_identities] == [place.identity_id(name)]
        assert endpoint.auth_mode == "aad_token"
        made = names.registry(settings)
        assert place.workspace.container_registry.endswith(made)
        kinds = {
            each.type.rpartition("/")[2].lower()
            for each in place.management.resources.list_by_resource_group(place.settings.resource_group)
        }
        assert {"storageaccounts", "vaults", "components", "registries", "actiongroups", "metricalerts"} <= kinds
        registry = place.management.resources.get_by_id(place.registry_id, api_version=REGISTRY_VERSION)
        assert registry.properties["adminUserEnabled"] is False
        setting = place.management.resources.get_by_id(f"{place.endpoint_id}{LOGGED}", api_version=VERSION)
        assert [log["category"] for log in setting.properties["logs"]] == ["AmlOnlineEndpointTrafficLog"]

    def test_a_workspace_that_was_there_is_kept_and_gets_a_registry(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from azure.ai.ml.entities import Workspace

        for name, value in {"RESOURCE_GROUP": "rg-theirs", "WORKSPACE": "mlw-theirs", "ENDPOINT": "theirs"}.items():
            monkeypatch.setenv(f"MLOPS_{name}", value)
        theirs = load(DEMO)
        world.place.management.resource_groups.create_or_update("rg-theirs", {"location": theirs.location})
        place = Place(theirs)
        place.ml.workspaces.begin_create(Workspace(name="mlw-theirs", location=theirs.location)).result()
        done = {(each.kind, each.name): each.state for each in provision(theirs).resources}
        assert done["resource group", "rg-theirs"] == "exists"
        assert done["workspace", "mlw-theirs"] == "changed"
        assert Place(theirs).workspace.container_registry == place.registry_id
        assert states(provision(theirs)) == {"exists"}
        stays = {part.kind for part in destroy(theirs, typed="rg-theirs").parts if part.state == "stays"}
        assert stays == {"workspace", "resource group"}
        assert place.ml.workspaces.get("mlw-theirs").name == "mlw-theirs"

    def test_a_repository_whose_age_nobody_knows_gets_both_forms_of_the_subject(self, world: World) -> None:
        """One that is known gets the form that GitHub presents for it."""
        side = environments.load()

        def planned(**known: Any) -> dict[str, tuple[str, str]]:
            github = GitHub(side, environments.Identity("acme", "phi-train", 7, 9, **known))
            plan = provision(world.settings, github=github, plan_only=True).resources
            return {each.name: (each.why, each.state) for each in plan if each.kind == "federated credential"}

        both, end = planned(), "environment:production"
        plain, with_ids = f"repo:acme/phi-train:{end}", f"repo:acme@7/phi-train@9:{end}"
        assert both["github-production"] == (plain, "exists")
        assert both["github-production-ids"] == (with_ids, "missing")
        assert [why for why, _ in planned(created=date(2026, 7, 14)).values() if why.endswith(end)] == [plain]
        assert [why for why, _ in planned(created=date(2026, 7, 15)).values() if why.endswith(end)] == [with_ids]

    def test_the_endpoint_may_ask_azures_content_filter_where_the_settings_name_it(self, world: World) -> None:
        """On that resource alone, and not while the filter is another."""
        there = f"{world.place.subscription}/resourceGroups/rg-x/providers/Microsoft.CognitiveServices/accounts/safe"
        named = {"content_safety_endpoint": "https://safe.cognitiveservices.azure.com", "content_safety_id": there}

        def grants(mode: str) -> list[Any]:
            serving = world.settings.serving.model_copy(update={**named, "content_filter": mode})
            place = Place(world.settings.model_copy(update={"serving": serving}))
            return [each for each in workload_grants(place) if each.wanted.name == "Cognitive Services User"]

        assert grants("local") == grants("off") == []
        (grant,) = grants("azure")
        assert (grant.scope, grant.who) == (there, world.settings.endpoint_identity)
        made = grant.resource()
        assert made.state() == "missing"
        grant.create()
        assert made.state() == "exists"
        grant.remove()
        assert made.state() == "missing"

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


class TestEnvironments:
    """An environment is its files: other files or another tier are another one, which only `provision` makes."""

    def test_nothing_is_deployed_or_trained_in_one_that_is_not_there(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("MLOPS_SERVING__TIER", "cpu")
        monkeypatch.setenv("MLOPS_SERVING__INSTANCE_TYPE", "Standard_E8s_v5")
        cpu, ml = load(DEMO), world.place.ml
        model = records.Model(
            name="m", version="1", id="", digest="d" * 64, path="", lineage=records.Lineage(data="d"), artifact="onnx"
        )
        with pytest.raises(Refused, match=r"phi-serving:\w{12}, as serving/conda_cpu.yaml .*: run .*scripts provision"):
            deploy(cpu, model, "green", [])
        assert Endpoint(cpu).deployments() == {}
        assert cpu.serving_environment is not None
        environment(world.place, cpu.serving_environment).create()
        version = environment_version(cpu.serving_environment)
        assert registered(ml, cpu.serving_environment) == f"azureml:phi-serving:{version}"
        renamed = cpu.training_environment.model_copy(update={"name": "other"})
        with pytest.raises(Refused, match="other:"):
            job.entity(ml, cpu.model_copy(update={"training_environment": renamed}), cast(Any, None), "", {})


class TestProviders:
    def test_looking_at_a_fresh_subscription_registers_nothing(self, world: World) -> None:
        before = world.before
        assert before.registered == []
        assert states(before.plan) == {"missing"}
        assert [each.name for each in before.plan.resources] == [each.name for each in world.first.resources]
        assert before.destroy.parts == []

    def test_the_doctor_names_each_that_is_missing(self, world: World) -> None:
        found = {each.check: each for each in world.before.doctor.findings}
        assert all(f"provider {name}" in found["resources"].said for name in PROVIDERS)
        assert {found[name].outcome for name in ("alerts", "roles", "quota")} == {"skipped"}

    def test_azure_refuses_what_belongs_to_one_that_is_not_registered(self, world: World) -> None:
        """In ARM's words, by which the SDK knows it."""
        error = world.before.refused.json()["error"]
        assert (world.before.refused.status_code, error["code"]) == (409, "MissingSubscriptionRegistration")
        assert error["message"] == (
            "The subscription is not registered to use namespace 'Microsoft.ManagedIdentity'. "
            "See https://aka.ms/rps-not-found for how to register subscriptions."
        )

    def test_provision_registers_all_of_them_and_waits(self, world: World) -> None:
        """Nothing was refused for the want of one, although registering took half a second.

        (Serverless endpoints want one more, which a test above asks for in vain on purpose.)
        """
        lines = [json.loads(line) for line in (world.azure.home / "requests.jsonl").read_text().splitlines()]
        asked = [line for line in lines if line["path"].endswith("/register")]
        assert {line["path"].split("/")[-2] for line in asked} == set(PROVIDERS)
        assert len(asked) == len(PROVIDERS)  # each once, all before the first had ended
        after = lines[lines.index(asked[0]) :]
        assert "Registering" in {(line["response"] or {}).get("registrationState") for line in after}
        refused = [line["response"]["error"] for line in after if line["status"] == 409]
        wanted = {each["target"]: error for error in refused for each in error["details"]}
        assert wanted.keys() <= {NEEDS_PROVIDER}, wanted


class TestAlerts:
    """In their order: each leaves what the next one begins with, the last one everything as it was."""

    def check(self) -> Finding:
        return next(
            each for each in examine(Context(DEMO, github=False), ["alerts"]).findings if each.check == "alerts"
        )

    def changed(self, settings: Settings) -> set[str]:
        done = provision(settings).resources
        return {each.name for each in done if each.state in ("created", "changed")}

    def test_each_alert_calls_the_group_and_says_what_to_do(self, world: World) -> None:
        place, group = world.place, world.settings.resource_group
        made = {one.name: one for one in place.monitor.metric_alerts.list_by_resource_group(group)}
        wanted = alerts.wanted(world.settings)
        assert set(made) == {names.alert(world.settings, each.name) for each in wanted}
        for each in wanted:
            one = made[names.alert(world.settings, each.name)]
            assert each.todo in one.description
            assert one.tags == names.MADE_BY
            assert [action.action_group_id for action in one.actions] == [place.action_group_id]
        [told] = place.monitor.action_groups.get(group, names.action_group(world.settings)).email_receivers
        assert [told.email_address] == list(world.settings.alert_emails)
        assert self.check().said == f"{len(wanted)} alerts tell 1 receiver"

    def test_the_limits_are_data_again_and_what_a_person_added_stays(self, world: World) -> None:
        from azure.mgmt.monitor.models import EmailReceiver

        group, known = world.settings.resource_group, world.place.monitor
        one = known.metric_alerts.get(group, names.alert(world.settings, "failing"))
        one.criteria.all_of[0].threshold, one.enabled = 500.0, False
        known.metric_alerts.create_or_update(group, one.name, one)
        who = known.action_groups.get(group, names.action_group(world.settings))
        who.email_receivers.append(EmailReceiver(name="a person", email_address="person@example.com"))
        known.action_groups.create_or_update(group, who.name, who)
        assert f"as the settings say: {one.name}" in self.check().said
        assert self.changed(world.settings) == {one.name}
        mended = known.metric_alerts.get(group, one.name)
        assert (mended.criteria.all_of[0].threshold, mended.enabled) == (5.0, False)
        found = self.check()
        assert found.outcome == "ok"
        assert found.said.endswith(f"tell 2 receivers; switched off by somebody: {one.name}")
        mended.enabled = True
        known.metric_alerts.create_or_update(group, one.name, mended)
        known.metric_alerts.delete(group, names.alert(world.settings, "slow"))
        assert names.alert(world.settings, "slow") in self.check().said
        assert self.changed(world.settings) == {names.alert(world.settings, "slow")}

    def test_without_an_address_the_plan_and_the_doctor_say_that_nobody_hears(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        known, group, name = world.place.monitor, world.settings.resource_group, names.action_group(world.settings)
        with monkeypatch.context() as patch:
            patch.setenv("MLOPS_ALERT_EMAILS", "")
            nobody = load(DEMO)
            plan = {each.name: each for each in provision(nobody, plan_only=True).resources}
            assert (plan[name].state, plan[name].why) == ("differs", alerts.NOBODY)
            assert self.changed(nobody) == {name}
            assert self.check().outcome == "ok"  # the person is left
            who = known.action_groups.get(group, name)
            assert [each.name for each in who.email_receivers] == ["a person"]
            who.email_receivers = []
            known.action_groups.create_or_update(group, name, who)
            found = self.check()
            assert found.outcome == "failed"
            assert "nobody is told" in found.said
        assert self.changed(world.settings) == {name}
        assert self.check().outcome == "ok"


class TestRoles:
    def deployment(self, world: World, name: str) -> Any:
        from azure.ai.ml.entities import CodeConfiguration, ManagedOnlineDeployment

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
        assert outcomes["roles"] == outcomes["region"] == outcomes["quota"] == outcomes["alerts"] == "skipped"
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
        kept = place.monitor.metric_alerts.get(group, names.alert(world.settings, "slow"))
        kept.tags = {"owner": "somebody"}
        place.monitor.metric_alerts.create_or_update(group, kept.name, kept)
        done = destroy(world.settings, typed=group)
        stays = {(part.kind, part.name) for part in done.parts if part.state == "stays"}
        assert stays == {
            ("managed identity", training.name),
            ("metric alert", kept.name),
            ("workspace", world.settings.workspace),
            ("resource group", group),
        }
        assert {one.name for one in place.msi.user_assigned_identities.list_by_resource_group(group)} == {
            "id-somebody",
            training.name,
        }
        assert [one.name for one in place.ml.online_endpoints.list()] == ["somebodys"]
        assert [one.name for one in place.monitor.metric_alerts.list_by_resource_group(group)] == [kept.name]
        assert not list(place.monitor.action_groups.list_by_resource_group(group))
        assert not list(place.authorization.role_assignments.list_for_subscription())
        again = destroy(world.settings, typed=group)
        assert "deleted" not in {part.state for part in again.parts}
