"""The gate's verdict by the job whose model it judged: what `pending` and `retrain-decision` ask of every job."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from azure.core.exceptions import ResourceNotFoundError

if TYPE_CHECKING:
    from azure.ai.ml import MLClient


def of_jobs(ml: "MLClient", model: str, jobs: Iterable[Any]) -> dict[str, str]:
    """`model`: the name of the environment's models. One that a service fine-tuned is named by its job.

    The archived ones too: a release whose model was cleared away is finished all the same.
    """
    from azure.ai.ml.constants import JobType, ListViewType

    named = [str(job.name) for job in jobs if getattr(job, "type", "") == JobType.FINE_TUNING]
    tags: list[dict[str, str]] = []
    for name in (model, *named):
        try:
            tags += [each.tags or {} for each in ml.models.list(name=name, list_view_type=ListViewType.ALL)]
        except ResourceNotFoundError:
            continue
    said = [(str(each["job"]), " ".join(str(each.get("verdict", "")).split())) for each in tags if each.get("job")]
    # A job's model and what `quantise` made of it share the job: one of them judged is the job judged.
    return {job: verdict for job, verdict in said if verdict}
