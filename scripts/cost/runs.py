"""What Azure knows of cost: earlier runs of a recipe, the tier of the cluster, when a job began and ended.

A job carries what it cost as tags, so that the next estimate of its recipe reads one listing and no files.
"""

import contextlib
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING

from azure.core.exceptions import ResourceNotFoundError

from scripts import azure_ml, records
from scripts.cost import estimate, prices
from scripts.cost.hours import Past
from scripts.errors import AzureFailed
from scripts.rollout import policy
from scripts.settings import Settings
from scripts.training_job import status

if TYPE_CHECKING:
    from azure.ai.ml import MLClient
    from azure.ai.ml.entities import Job

    from scripts.train import Plan

SIZE, PLANNED, ESTIMATED = "size", "planned_tokens", "estimated_cost"  # written when a job is submitted …
TRAIN_HOURS, HOURS, COST = "train_hours", "hours", "cost"  # … and when it has completed


def forecast(settings: Settings, work: "Plan", table: prices.Table, *, ml: "MLClient | None") -> estimate.Estimate:
    """What this work will cost on the environment's cluster. Without `ml` nothing is asked of Azure."""
    size, earlier = settings.compute.size, list[Past]()
    tier: prices.Tier = "dedicated"
    if ml:
        tier = cluster_tier(ml, settings)
        with azure_ml.explained("Looking for earlier runs"):
            tags = (each.tags or {} for each in ml.jobs.list() if each.experiment_name == settings.experiment)
            earlier = past(tags, work.recipe, size)
    rate = prices.rate(table, size, settings.location, tier, records.now().date())
    return estimate.of_work(work.load, work.recipe, rate, earlier)


def rollout(settings: Settings, table: prices.Table) -> estimate.Capacity:
    """What the second colour costs while a rollout of the environment lasts and its way back is kept."""
    serving, today = settings.serving, records.now().date()
    rate = prices.rate(table, serving.instance_type, settings.location, "dedicated", today)
    return estimate.capacity(policy.load(settings.rollout_policy), serving.instance_count, rate)


def past(tags: Iterable[Mapping[str, str]], recipe: str, size: str) -> list[Past]:
    """The runs of a recipe on a size that say how long they took, in the order of the listing (the newest first)."""
    found = []
    for each in tags:
        if each.get("recipe") != recipe or each.get(SIZE, "").lower() != size.lower() or each.get("sweep"):
            continue
        with contextlib.suppress(KeyError, ValueError):
            found.append(Past(int(each[PLANNED]), float(each[TRAIN_HOURS]), float(each[HOURS])))
    return found


def cluster_tier(ml: "MLClient", settings: Settings) -> prices.Tier:
    """As the cluster is, whatever it was meant to be; what `provision` makes when there is none yet."""
    with azure_ml.explained(f"Reading cluster {settings.compute.name}"):
        try:
            found = str(getattr(ml.compute.get(settings.compute.name), "tier", None) or "dedicated")
        except ResourceNotFoundError:
            found = settings.compute.tier
    return "low_priority" if found.lower().replace("_", "") == "lowpriority" else "dedicated"


def submitted(work: "Plan", size: str, asked: estimate.Estimate) -> dict[str, str]:
    """Tags of a new job: what the next estimate, and the bill, will want to know of it."""
    tokens = {PLANNED: str(work.load.tokens)} if work.load else {}
    return {SIZE: size, **tokens, ESTIMATED: asked.said[:200]}


def settle(
    ml: "MLClient", settings: Settings, work: "Plan", job: "Job", metrics: records.TrainingMetrics
) -> records.Paid:
    """What a completed job did cost, written on it once. Never fails a training that has succeeded."""
    tags = dict(job.tags or {})
    size = tags.get(SIZE, settings.compute.size)
    # A search runs several jobs, some of them at once: the time of the whole is not what was paid for.
    started, ended = (None, None) if work.sweep else ran(ml, str(job.name))
    tier: prices.Tier = "dedicated"
    try:
        tier = cluster_tier(ml, settings)
    except AzureFailed:
        started = ended = None  # without the tier there is no price, and without times none is asked for
    rate = prices.rate(prices.load(), size, settings.location, tier, records.now().date())
    done = estimate.paid(started, ended, work.scale.instances, rate, tags.get(ESTIMATED, ""))
    # A run that went on from a checkpoint did a part of the work, and says nothing of how long the whole takes.
    whole = metrics.resumed_from_step is None and status(job) == "Completed"
    if done.node_hours is not None and whole and HOURS not in tags and metrics.train_seconds is not None:
        train_hours, on_nodes = metrics.train_seconds / 3600, done.node_hours / work.scale.instances
        job.tags = {**tags, HOURS: f"{on_nodes:.6f}", TRAIN_HOURS: f"{train_hours:.6f}", COST: done.said[:200]}
        with contextlib.suppress(Exception):  # the model is trained; a tag less makes an estimate less sure, no more
            ml.jobs.create_or_update(job)
    return done


def ran(ml: "MLClient", job: str) -> tuple[datetime | None, datetime | None]:
    """When a job began and ended on its nodes. The job itself has no times; the SDK's own way to run history has."""
    with contextlib.suppress(Exception):  # unknown times are an unknown cost, which is said
        run = ml.jobs._runs_operations.get_run(job)
        return run.start_time_utc, run.end_time_utc
    return None, None
