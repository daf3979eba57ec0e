"""A job that lost its node goes on by itself, on a low-priority cluster, while each try gets further than the last.

Azure ML queues a preempted job again; one that it ends as failed starts anew here from its newest checkpoint. Whether a
node was taken away or the training is broken is told by what is there to see: a try that left a newer checkpoint than
it began with was worth its money, and the next one will be too. A job that somebody cancelled stays cancelled.
"""

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from scripts import azure_ml, storage
from scripts.settings import Settings

if TYPE_CHECKING:
    from scripts.train import Plan

FROM_STEP = "from_step"  # the tag that says where a try began
FOLDER = "checkpoints/{work}/"  # below the container of the workspace's storage; training_job.py mounts it
COMPLETE = re.compile(r"(?:^|/)checkpoint-(\d+)/complete\.json$")  # training/checkpoints.py writes it last
ENDED_BY_THE_SERVICE = {"Failed", "NotResponding"}


def newest(names: Iterable[str]) -> int:
    """The step of the newest whole checkpoint among blobs of these names; 0 where there is none."""
    return max((int(found[1]) for name in names if (found := COMPLETE.search(name))), default=0)


def checkpoint(settings: Settings, work: str) -> int:
    """The newest step that a piece of work has kept. Raises AzureFailed."""
    box = storage.container(settings)
    with azure_ml.explained(f"Looking for the checkpoints of {work}"):
        return newest(box.list_blob_names(name_starts_with=FOLDER.format(work=work)))


def tags(settings: Settings, work: "Plan") -> dict[str, str]:
    """What a new try is marked with, where it may be followed by another one."""
    if settings.compute.tier != "low_priority" or not work.checkpoints or work.sweep:
        return {}
    return {FROM_STEP: str(checkpoint(settings, work.name))}


def goes_on(settings: Settings, work: "Plan", status: str, marked: Mapping[str, str]) -> int | None:
    """The step from which a try that ended like this is to be followed by another one; None where it is not."""
    began = marked.get(FROM_STEP, "")
    if settings.compute.tier != "low_priority" or status not in ENDED_BY_THE_SERVICE or not began.isdigit():
        return None
    step = checkpoint(settings, work.name)
    return step if step > int(began) else None
