"""The facts behind `retrain-decision`: the data as it stands now, the live model, the jobs that were tried."""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from azure.core.exceptions import ResourceNotFoundError

from scripts import azure_ml, training_job
from scripts.dataset import learned_rows
from scripts.endpoint import Endpoint
from scripts.operate import azure_facts
from scripts.operate.retrain import Facts, Job, Live
from scripts.settings import Settings

if TYPE_CHECKING:
    from azure.ai.ml import MLClient

    from data.manifest import Dataset


def gather(settings: Settings, source: Path, held_out: Path) -> Facts:
    """Raises DataError for data that may not be trained on, AzureFailed as Azure does."""
    data = data_now(settings, source, held_out)
    endpoint = Endpoint(settings)
    live, why_none = live_model(settings, endpoint)
    return Facts(
        live=live,
        data_digest=data.digest,
        rows=learned_rows(data),
        jobs=jobs(settings) if live else (),
        why_none=why_none,
    )


def data_now(settings: Settings, source: Path, held_out: Path) -> "Dataset":
    """The data set that `data` would make, checked and split in a folder that is gone afterwards."""
    from data.prepare import prepare

    with tempfile.TemporaryDirectory() as folder:
        return prepare(source, held_out, Path(folder) / "data", settings.dataset)


def live_model(settings: Settings, endpoint: Endpoint) -> tuple[Live | None, str]:
    """The model with all the traffic, or None and why there is none to compare with."""
    traffic = endpoint.traffic()
    if not traffic:
        return None, f"endpoint {endpoint.name} has no live model, so a first release is needed (`deploy --first`)"
    if list(traffic.values()) != [100]:
        return None, f"the traffic of {endpoint.name} is split {traffic}; decide when that rollout has ended"
    # Azure writes the names in `traffic` in lower case, whatever the deployments are called.
    named = {name.lower(): deployment for name, deployment in endpoint.deployments().items()}
    deployment = named.get(next(iter(traffic)))
    if deployment is None:
        return None, f"the traffic of {endpoint.name} goes to {list(traffic)}, which is not among its deployments"
    name, version = azure_facts.model_of(deployment)
    ml = azure_ml.client(settings)
    with azure_ml.explained(f"Reading model {name}:{version}, which is live"):
        model = azure_facts.model(ml, name, version)
        if model is None:
            return None, f"deployment {deployment.name} is live, but its model is not in the workspace any more"
        tags = model.tags or {}
        digest = str(tags.get("data", ""))
        return Live(
            model=f"{name}:{version}",
            data_digest=digest,
            rows=rows_of(ml, settings.dataset, digest),
            created_at=azure_facts.created(model),
            job=str(tags.get("job", "")),
        ), ""


def rows_of(ml: "MLClient", dataset: str, digest: str) -> int | None:
    """The rows that an uploaded data set says it has; None when it does not say."""
    from data.manifest import version_of

    if not digest:
        return None
    try:
        tags = ml.data.get(dataset, version_of(digest)).tags or {}
    except ResourceNotFoundError:
        return None
    rows = str(tags.get("rows", ""))
    return int(rows) if rows.isdecimal() and tags.get("digest") == digest else None


def jobs(settings: Settings) -> tuple[Job, ...]:
    """The training jobs of this train's experiment, each with the verdict on the model that came of it."""
    ml = azure_ml.client(settings)
    with azure_ml.explained(f"Listing the training jobs of {settings.experiment}"):
        verdicts = _verdicts(ml, settings.model)
        return tuple(
            Job(
                name=str(job.name),
                status=training_job.status(job),
                data_digest=str(job.tags["data_digest"]),
                period=str(job.tags.get("period") or ""),
                created_at=azure_facts.created(job),
                verdict=verdicts.get(str(job.name), ""),
            )
            for job in azure_facts.jobs(ml)
            if job.experiment_name == settings.experiment and (job.tags or {}).get("data_digest")
        )


def _verdicts(ml: "MLClient", name: str) -> dict[str, str]:
    """The gate's verdict by the job that trained the model."""
    try:
        tagged = [version.tags or {} for version in ml.models.list(name=name)]
    except ResourceNotFoundError:
        return {}
    return {str(tags["job"]): " ".join(str(tags.get("verdict", "")).split()) for tags in tagged if tags.get("job")}
