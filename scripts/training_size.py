"""Which Azure sizes have GPUs, and how many: a job that its size cannot run is refused before anything is uploaded."""

import re

from scripts import records
from scripts.errors import InvalidInput

# GPUs of an instance that CUDA can use, by the name of the size without "Standard_".
GPUS = {
    "nc4as_t4_v3": 1,
    "nc8as_t4_v3": 1,
    "nc16as_t4_v3": 1,
    "nc64as_t4_v3": 4,
    "nc6s_v3": 1,
    "nc12s_v3": 2,
    "nc24s_v3": 4,
    "nc24rs_v3": 4,
    "nc24ads_a100_v4": 1,
    "nc48ads_a100_v4": 2,
    "nc96ads_a100_v4": 4,
    "nc40ads_h100_v5": 1,
    "nc80adis_h100_v5": 2,
    "nd40rs_v2": 8,
    "nd96asr_v4": 8,
    "nd96amsr_a100_v4": 8,
    "nd96isr_h100_v5": 8,
    "nd96isr_h200_v5": 8,
    "nv36ads_a10_v5": 1,
    "nv72ads_a10_v5": 2,
}
GPU_FAMILY = re.compile(r"n[cdv]\d")  # a size that the table does not know yet


class Scale(records.Part):
    """The `scale` part of a recipe, as far as Azure must know it."""

    device: str
    instances: int
    processes_per_instance: int


def check(size: str, most_instances: int, recipe: str, scale: Scale) -> None:
    """Refuse a recipe that instances of this size, or so many of them, cannot run. Raises InvalidInput."""
    name = size.lower().removeprefix("standard_")
    gpus = GPUS.get(name)
    if scale.device == "gpu":
        if gpus is None and not GPU_FAMILY.match(name):
            raise InvalidInput(
                f"Recipe {recipe} needs a GPU and {size} has none: set compute.size to one that has, such as "
                "Standard_NC24ads_A100_v4, or take a recipe for CPUs such as cpu_small."
            )
        if gpus is not None and scale.processes_per_instance > gpus:
            raise InvalidInput(
                f"Recipe {recipe} starts {scale.processes_per_instance} processes on an instance and {size} has "
                f"{gpus} GPU{'s' if gpus > 1 else ''}: set compute.size to a larger one, or mend "
                "scale.processes_per_instance."
            )
    if scale.instances > most_instances:
        raise InvalidInput(
            f"Recipe {recipe} needs {scale.instances} instances and the cluster has at most {most_instances}: "
            "raise compute.max_instances and run `provision`, or mend scale.instances."
        )
