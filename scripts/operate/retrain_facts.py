"""The facts behind `retrain-decision`: the data as it stands now, the live model, the jobs that were tried."""

import tempfile
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from azure.core.exceptions import ResourceNotFoundError

from scripts import azure_ml, job_verdicts, records, train, training_job
from scripts.dataset import learned_rows
from scripts.endpoint import Endpoint
from scripts.errors import InvalidInput
from scripts.operate import azure_facts, drift_facts
from scripts.operate.facts import Facts, Job, Live
from scripts.operate.fresh import score
from scripts.operate.policy import Retrain
from scripts.rollout.state import Phase
from scripts.rollout.store import BlobStore
from scripts.serverless import release
from scripts.settings import Settings

if TYPE_CHECKING:
    from azure.ai.ml import MLClient

    from data.manifest import Dataset


def gather(
    settings: Settings,
    source: Path,
    held_out: Path,
    policy: Retrain,
    now: datetime,
    *,
    recipe: str = "",
    fresh: Path | None = None,
) -> Facts:
    """Raises DataError for data that may not be trained on, AzureFailed as Azure does."""
    data = data_now(settings, source, held_out)
    base = base_of(recipe) if recipe else ""
    endpoint = Endpoint(settings)
    live, why_none = live_model(settings, endpoint)
    return Facts(
        live=live,
        data_digest=data.digest,
        rows=learned_rows(data),
        jobs=jobs(settings) if live else (),
        why_none=why_none,
        base=base,
        drift=drift_facts.look(settings, live, policy.drift, now, policy.judge) if live else None,
        fresh=score(settings, live, fresh, now) if live and fresh else None,
    )


def base_of(recipe: str) -> str:
    """ "SOURCE REVISION" of a recipe's base model. Raises InvalidInput for a recipe that is not there."""
    path = training_job.CODE / "recipes" / f"{recipe}.yaml"
    try:
        return train.base_of(yaml.safe_load(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise InvalidInput(f"{path}: the recipe cannot be read ({error.strerror}); --recipe names another.") from None
    except (yaml.YAMLError, UnicodeDecodeError, KeyError, TypeError):
        raise InvalidInput(f"{path}: the recipe has no base_model with a source.") from None


def data_now(settings: Settings, source: Path, held_out: Path) -> "Dataset":
    """The data set that `data` would make, checked and split in a folder that is gone afterwards."""
    from data.prepare import prepare

    with tempfile.TemporaryDirectory() as folder:
        return prepare(source, held_out, Path(folder) / "data", settings.dataset)


def live_model(settings: Settings, endpoint: Endpoint) -> tuple[Live | None, str]:
    """The model with all the traffic, or None and why there is none to compare with."""
    if led := release.live(settings):
        return _led_to(settings, led)
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
            digest=str(tags.get("digest", "")),
            deployment=str(deployment.name),
            since=_since(settings, deployment, model),
        ), ""


def _led_to(settings: Settings, led: records.Live) -> tuple[Live | None, str]:
    """The model behind the serverless endpoint that a record names. A catalogue model has no age here."""
    if led.model is None:
        return None, f"users of {led.endpoint} are led nowhere, so a first release is needed (`deploy --first`)"
    ml, model = azure_ml.client(settings), led.model
    with azure_ml.explained(f"Reading model {model.name}:{model.version}, which is live"):
        found = azure_facts.model(ml, model.name, model.version) if model.lineage.job else None
        held = BlobStore(settings).read()
        state = held.state if held else None
        promoted = state.since if state and state.phase is Phase.PROMOTED and state.candidate == led.stable else None
        return Live(
            model=f"{model.name}:{model.version}",
            data_digest=model.lineage.data,
            rows=rows_of(ml, settings.dataset, model.lineage.data),
            created_at=azure_facts.created(found) if found else None,
            job=model.lineage.job,
            digest=model.digest,
            deployment=led.stable,
            since=promoted or (azure_facts.created(found) if found else None),
        ), ""


def _since(settings: Settings, deployment: Any, model: Any) -> datetime | None:
    """From when on the live model surely had the traffic; before its promotion it was only tried."""
    held = BlobStore(settings).read()
    state = held.state if held else None
    if state and state.phase is Phase.PROMOTED and state.candidate.lower() == str(deployment.name).lower():
        return state.since
    known = [when for when in (azure_facts.created(deployment), azure_facts.created(model)) if when]
    return max(known, default=None)


def rows_of(ml: "MLClient", dataset: str, digest: str) -> int | None:
    """The rows that an uploaded data set says it has; None when it does not say."""
    from data.manifest import is_version_of

    if not digest:
        return None
    try:
        # The same rows may be there more than once, with token files made with another tokenizer.
        found = [asset.tags or {} for asset in ml.data.list(name=dataset) if is_version_of(str(asset.version), digest)]
    except ResourceNotFoundError:
        return None
    said = [str(tags.get("rows", "")) for tags in found if tags.get("digest") == digest]
    return next((int(rows) for rows in said if rows.isdecimal()), None)


def jobs(settings: Settings) -> tuple[Job, ...]:
    """The training jobs of this train's experiment, each with the verdict on the model that came of it."""
    ml = azure_ml.client(settings)
    with azure_ml.explained(f"Listing the training jobs of {settings.experiment}"):
        ours = [job for job in azure_facts.jobs(ml) if job.experiment_name == settings.experiment]
        verdicts = job_verdicts.of_jobs(ml, settings.model, ours)
        return tuple(
            Job(
                name=str(job.name),
                status=training_job.status(job),
                data_digest=str(job.tags["data_digest"]),
                period=str(job.tags.get("period") or ""),
                created_at=azure_facts.created(job),
                verdict=verdicts.get(str(job.name), ""),
                base=str(job.tags.get("base") or ""),
            )
            for job in ours
            if (job.tags or {}).get("data_digest")
        )
