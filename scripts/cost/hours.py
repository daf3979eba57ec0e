"""How long a training job takes: from what earlier runs of the recipe measured, else from the arithmetic of a step."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from scripts import records
from scripts.training_size import GPUS

Basis = Literal["measured", "estimated", "unknown"]
RUNS = 5  # the newest of them: a recipe's speed changes with the libraries below it
# A measured run says roughly what the next one takes: other data has other lengths, and a node may start slowly.
ROOM = (0.8, 1.25)

# Without a measurement: arithmetic of a token ÷ what the GPU could do ÷ the share of it that runs reach (docs/cost.md).
PARAMETERS = {  # of the bases that our recipes name
    "microsoft/Phi-3-mini-4k-instruct": 3.821e9,
    "microsoft/Phi-3.5-mini-instruct": 3.821e9,
    "microsoft/Phi-4-mini-instruct": 3.836e9,
}
FLOPS_A_WEIGHT = {"all": 6.1, "adapters": 4.16}  # forward and backward, for each token; attention is the fraction
PEAK_FLOPS = {"a100": 312e12, "h100": 835e12, "t4": 65e12, "v3": 125e12, "a10": 125e12}  # dense half precision
SHARE_OF_PEAK = (0.15, 0.35, 0.5)  # worst, likely, best
START_HOURS = (0.1, 0.25, 0.75)  # node, image, model and data before the first step; evaluation and upload after it


class Span(records.Part):
    """At least, likely and at most."""

    low: float
    likely: float
    high: float

    def times(self, factor: float) -> "Span":
        return Span(low=self.low * factor, likely=self.likely * factor, high=self.high * factor)


@dataclass(frozen=True)
class Past:
    """A run that has ended: what it was planned for and how long it was on its nodes."""

    tokens: int
    train_hours: float
    hours: float


class Work(records.Part):
    """What a recipe wants to train: all that its duration depends on. `tokens` are those of all epochs."""

    recipe: str
    base: str
    adapters: bool
    device: str
    instances: int
    processes: int
    tokens: int
    trials: int = 1


class Hours(records.Part):
    """Hours on each node. `span` None: unknown, and `said` is why."""

    basis: Basis
    span: Span | None
    said: str


def work(recipe: str, content: dict[str, Any], tokens: int, rows: int, *, trials: int = 1, epochs: int = 0) -> Work:
    """Read off a recipe that the training code has found good. `tokens` and `rows` are those of the training split;
    `epochs` the most that a search tries, 0 for the recipe's own."""
    run, scale = content["run"], content["scale"]
    wanted = tokens * max(epochs, run["epochs"] or 0)
    if run["max_steps"] and not epochs:
        a_row = content["data"]["max_length"] if content["data"]["packing"] else tokens / rows
        at_once = run["batch_size"] * run["accumulation"] * scale["instances"] * scale["processes_per_instance"]
        wanted = int(run["max_steps"] * at_once * a_row)
    return Work(
        recipe=recipe,
        base=str(content["base_model"]["source"]),
        adapters=bool(content["lora"]),
        device=scale["device"],
        instances=scale["instances"],
        processes=scale["processes_per_instance"],
        tokens=wanted,
        trials=trials,
    )


def hours(job: Work, size: str, past: Sequence[Past]) -> Hours:
    """`past`: earlier runs of the same recipe on the same size, the newest first."""
    runs = [each for each in past if each.tokens > 0 and 0 < each.train_hours <= each.hours][:RUNS]
    if runs:
        each = [one.hours - one.train_hours + one.train_hours * job.tokens / one.tokens for one in runs]
        span = Span(low=ROOM[0] * min(each), likely=sorted(each)[len(each) // 2], high=ROOM[1] * max(each))
        speed = sorted(one.tokens / one.train_hours / 3600 for one in runs)[len(runs) // 2]
        many = f"{len(runs)} earlier run{'s' if len(runs) > 1 else ''}"
        return Hours(basis="measured", span=span, said=f"{many} of {job.recipe} on {size}, {speed:,.0f} tokens/s")
    return _estimated(job, size)


def _estimated(job: Work, size: str) -> Hours:
    name = size.lower()
    peak = next((flops for part, flops in PEAK_FLOPS.items() if part in name.replace("standard_", "").split("_")), None)
    weights = PARAMETERS.get(job.base)
    if job.device != "gpu" or peak is None or name.removeprefix("standard_") not in GPUS:
        return unknown(f"{job.recipe} has never run on {size}, and for that there is no estimate")
    if weights is None:
        return unknown(f"{job.recipe} has never run on {size}, and the size of {job.base} is not known here")
    flops = FLOPS_A_WEIGHT["adapters" if job.adapters else "all"] * weights
    possible = peak * job.processes * job.instances / flops  # tokens a second
    slow, usual, fast = (job.tokens / (possible * share) / 3600 for share in SHARE_OF_PEAK)
    span = Span(low=fast + START_HOURS[0], likely=usual + START_HOURS[1], high=slow + START_HOURS[2])
    usual_speed = possible * SHARE_OF_PEAK[1]
    said = f"estimated, because {job.recipe} has never run on {size}: about {usual_speed:,.0f} tokens/s"
    return Hours(basis="estimated", span=span, said=said)


def unknown(why: str) -> Hours:
    return Hours(basis="unknown", span=None, said=why)
