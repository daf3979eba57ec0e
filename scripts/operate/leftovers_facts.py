"""The facts behind what `reap` says of old model versions and checkpoints: who runs them, who made them, how old."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from azure.core.exceptions import ResourceNotFoundError

from scripts import azure_ml, storage, training_job
from scripts.operate import azure_facts
from scripts.operate.leftovers import GIGABYTE, Checkpoints, ModelVersion
from scripts.settings import Settings

if TYPE_CHECKING:
    from azure.ai.ml import MLClient

FOLDER = training_job.CHECKPOINTS.partition("/paths/")[2].partition("{")[0]  # "checkpoints/"
MODEL_TAGS = ("rollout-stable-model", "rollout-candidate-model")  # scripts/rollout/state.py writes them


def named(endpoint: Any) -> frozenset[str]:
    """Digests of the models that an endpoint's tags name as live, candidate or the way back."""
    tags = endpoint.tags or {}
    return frozenset(str(tags[name]) for name in MODEL_TAGS if tags.get(name))


def models(
    ml: "MLClient", settings: Settings, deployed: Mapping[str, Iterable[Any]], jobs: Iterable[Any]
) -> tuple[ModelVersion, ...]:
    """The versions of the environment's model that are not archived. `deployed`: by endpoint, all of the workspace."""
    users: dict[tuple[str, str], list[str]] = {}
    for endpoint, deployments in deployed.items():
        for each in deployments:
            users.setdefault(azure_facts.model_of(each), []).append(f"deployment {each.name} of {endpoint}")
    for job in jobs:
        asset = str((job.tags or {}).get("base_model", "")).removeprefix("azureml:")
        if training_job.status(job) not in training_job.ENDED and ":" in asset:
            name, _, version = asset.rpartition(":")
            users.setdefault((name, version), []).append(f"job {job.name}")
    return tuple(
        ModelVersion(
            name=settings.model,
            version=str(each.version),
            digest=str((each.tags or {}).get("digest", "")),
            job=str((each.tags or {}).get("job", "")),
            created_at=azure_facts.created(each),
            verdict=str((each.tags or {}).get("verdict", "")),
            used_by=tuple(users.get((settings.model, str(each.version)), ())),
        )
        for each in _versions(ml, settings.model, archived=False)
    )


def checkpoints(ml: "MLClient", settings: Settings, jobs: Sequence[Any]) -> tuple[Checkpoints, ...]:
    """Every folder of checkpoints in the workspace's storage, with the jobs of our experiment that write there."""
    mine = {str(job.name): training_job.status(job) for job in jobs if job.experiment_name == settings.experiment}
    made = {str((each.tags or {}).get("job", "")) for each in _versions(ml, settings.model, archived=True)}
    folders: dict[str, list[Any]] = {}
    with azure_ml.explained("Looking for checkpoints"):
        for blob in storage.container(settings).list_blobs(name_starts_with=FOLDER):
            folder, inside, _ = blob.name.removeprefix(FOLDER).partition("/")
            if inside:
                folders.setdefault(folder, []).append(blob)
    return tuple(
        Checkpoints(
            name=name,
            tries=tuple(status for job, status in mine.items() if writes_to(job, name)),
            written_at=max((blob.last_modified for blob in blobs), default=None),
            gigabytes=sum(blob.size for blob in blobs) / GIGABYTE,
            registered=any(writes_to(job, name) for job in made),
        )
        for name, blobs in sorted(folders.items())
    )


def writes_to(job: str, folder: str) -> bool:
    """A folder is named by the work: its first job, each retry of it, and the trials of a search write there."""
    return bool(re.fullmatch(re.escape(folder) + r"(-retry\d+)?(_\d+)?", job))


def delete_checkpoints(settings: Settings, name: str) -> None:
    """The seals first: a checkpoint that is half gone must not look whole to a job that begins meanwhile. What was
    written again since it was listed stays. Raises AzureFailed."""
    from azure.core import MatchConditions

    with azure_ml.explained(f"Deleting the checkpoints of {name} (this needs Storage Blob Data Contributor)"):
        box = storage.container(settings)
        blobs = list(box.list_blobs(name_starts_with=f"{FOLDER}{name}/"))
        for blob in sorted(blobs, key=lambda each: not each.name.endswith("/complete.json")):
            box.delete_blob(blob.name, etag=blob.etag, match_condition=MatchConditions.IfNotModified)


def _versions(ml: "MLClient", name: str, *, archived: bool) -> Iterator[Any]:
    """All versions of a model, without or with the archived ones."""
    from azure.ai.ml.constants import ListViewType

    try:
        yield from ml.models.list(name=name, list_view_type=ListViewType.ALL if archived else ListViewType.ACTIVE_ONLY)
    except ResourceNotFoundError:
        return
