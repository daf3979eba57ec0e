"""`reap --apply`: do what the plan says, one after another; each is looked at again right before it goes."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from azure.core.exceptions import ResourceExistsError

from scripts import azure_ml, records
from scripts.errors import AzureFailed, ScriptError
from scripts.operate import policy as policies
from scripts.operate.azure_facts import API_VERSION
from scripts.operate.finding import Action, Finding
from scripts.operate.leftovers_facts import delete_checkpoints
from scripts.operate.reap import plan
from scripts.operate.reap_facts import gather
from scripts.settings import Settings

if TYPE_CHECKING:
    from azure.ai.ml import MLClient


class Done(records.Part):
    kind: str
    name: str
    state: Literal["done", "kept", "failed"]
    said: str


class Reaped(records.Record):
    """`reap.json`: what was found, and with `applied` what became of each."""

    endpoint: str
    applied: bool
    findings: list[Finding]
    done: list[Done]

    @property
    def failed(self) -> list[Done]:
        return [each for each in self.done if each.state == "failed"]


def reap(
    settings: Settings,
    config: Path | None,
    policy: policies.Reap,
    *,
    apply: bool,
    tell: Callable[[str], None] = lambda _: None,
) -> Reaped:
    """Find what is idle; with `apply` remove it. A failure is kept for the record and the next one is still done."""
    findings = plan(gather(settings, config), policy, records.now())
    done = []
    for finding in findings if apply else ():
        if finding.doable:
            done.append(_do(settings, config, policy, finding))
            tell(f"{done[-1].state}: {finding.kind} {finding.name} ({done[-1].said})")
    return Reaped(endpoint=settings.endpoint, applied=apply, findings=findings, done=done)


def _do(settings: Settings, config: Path | None, policy: policies.Reap, finding: Finding) -> Done:
    def ended(state: Literal["done", "kept", "failed"], said: str) -> Done:
        return Done(kind=finding.kind, name=finding.name, state=state, said=said)

    try:
        facts = gather(settings, config, storage=finding.kind == CHECKPOINTS)
        again = {(each.kind, each.name): each for each in plan(facts, policy, records.now())}
        still = again.get((finding.kind, finding.name))
        if still is None or still.action != finding.action:
            return ended("kept", still.why if still else "it is gone or in use by now")
        what = f"{finding.kind} {finding.name}"
        doing = f"{DOING[finding.action]} {what}"
        with azure_ml.explained(doing), azure_ml.waiting(doing):
            ACTIONS[finding.kind, finding.action](azure_ml.client(settings), settings, finding.name)
    except ScriptError as error:
        return ended("failed", str(error))
    return ended("done", finding.why)


def _delete_deployment(ml: "MLClient", settings: Settings, name: str) -> None:
    ml.online_deployments.begin_delete(name=name, endpoint_name=settings.endpoint).result()


def _delete_endpoint(ml: "MLClient", _: Settings, name: str) -> None:
    ml.online_endpoints.begin_delete(name).result()


def _delete_serverless(ml: "MLClient", _: Settings, name: str) -> None:
    ml.serverless_endpoints.begin_delete(name).result()


def _scale_to_zero(ml: "MLClient", _: Settings, name: str) -> None:
    cluster = ml.compute.get(name)
    cluster.min_instances = 0
    ml.compute.begin_update(cluster).result()


def _archive_model(ml: "MLClient", _: Settings, name: str) -> None:
    model, version = name.rsplit(":", 1)
    ml.models.archive(model, version)


def _delete_model(ml: "MLClient", settings: Settings, name: str) -> None:
    """The SDK only archives; Azure Resource Manager deletes, and refuses while a deployment runs the version."""
    from azure.mgmt.resource.resources import ResourceManagementClient

    model, version = name.rsplit(":", 1)
    found = ml.models.get(model, version)
    resources = ResourceManagementClient(azure_ml.credential(), settings.subscription_id).resources
    try:
        resources.begin_delete_by_id(str(found.id), api_version=API_VERSION).result()
    except ResourceExistsError as error:  # how the SDK calls a conflict
        raise AzureFailed(
            f"Model {name} is deployed, so Azure refuses to delete it ({azure_ml.first_line(error)}): "
            "delete that deployment first, or leave the model."
        ) from error


def _delete_checkpoints(_: "MLClient", settings: Settings, name: str) -> None:
    delete_checkpoints(settings, name)


CHECKPOINTS = "checkpoints"
DOING: dict[Action, str] = {"delete": "Deleting", "archive": "Archiving", "scale to 0": "Scaling"}
ACTIONS: dict[tuple[str, Action], Callable[["MLClient", Settings, str], None]] = {
    ("deployment", "delete"): _delete_deployment,
    ("endpoint", "delete"): _delete_endpoint,
    ("serverless endpoint", "delete"): _delete_serverless,
    ("cluster", "scale to 0"): _scale_to_zero,
    ("model", "archive"): _archive_model,
    ("model", "delete"): _delete_model,
    (CHECKPOINTS, "delete"): _delete_checkpoints,
}
