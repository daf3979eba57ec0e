"""Sweep jobs: a command job tried with several values, each trial a job of its own, the best one named at the end.

A policy that ends poor trials early is accepted and not carried out: every trial runs to its end.
"""

from __future__ import annotations

import contextlib
import copy
import math
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import isodate

from emulator.job_resource import job_resource
from emulator.job_runner import TERMINAL, set_status, start
from emulator.runtime import Runtime
from emulator.search_space import filled, trials
from emulator.store import Resource
from emulator.tracking import last_metric

LOOK_SECONDS = 0.1
OF_THE_SWEEP = ("searchSpace", "samplingAlgorithm", "limits", "earlyTermination", "objective", "trial", "resources")


@dataclass
class SweepRun:
    runtime: Runtime
    job_id: str
    name: str
    cancelled: threading.Event = field(default_factory=threading.Event)
    reason: str = ""

    def cancel(self, reason: str = "") -> None:
        self.reason = self.reason or reason
        self.cancelled.set()
        for key, run in list(self.runtime.jobs.items()):
            if key.startswith(f"{self.job_id.lower()}_"):
                run.cancel()


def start_sweep(runtime: Runtime, job: Resource) -> None:
    """Begin a sweep that has just been stored; returns at once."""
    run = SweepRun(runtime, job["id"], job["name"])
    runtime.jobs[job["id"].lower()] = run
    threading.Thread(target=_run, args=(run, job), name=f"sweep {job['name']}", daemon=True).start()


def _run(run: SweepRun, job: Resource) -> None:
    properties, store = job["properties"], run.runtime.emulator.store
    limits = properties.get("limits") or {}
    sampling = properties["samplingAlgorithm"]["samplingAlgorithmType"]
    wanted = trials(run.name, properties["searchSpace"], sampling, int(limits.get("maxTotalTrials") or 1))
    deadline = time.monotonic() + seconds if (seconds := _seconds(limits.get("timeout"))) else math.inf
    set_status(run, "Running")

    def one(number: int) -> str:
        name = f"{run.name}_{number}"
        if run.cancelled.is_set():
            return name
        trial = store.put(f"{run.job_id}_{number}", _trial(run, job, number, wanted[number]))
        start(run.runtime, trial)
        while store.need(trial["id"], "Job")["properties"]["status"] not in TERMINAL:
            if time.monotonic() > deadline and not run.cancelled.is_set():
                run.cancel(f"The sweep ran longer than its limit ({limits['timeout']}).")
            time.sleep(LOOK_SECONDS)
        return name

    with ThreadPoolExecutor(int(limits.get("maxConcurrentTrials") or 1)) as pool:
        names = list(pool.map(one, range(len(wanted))))
    if run.runtime.stopping:
        return
    status, error = _end(run, names, properties["objective"])
    set_status(run, status, error)
    run.runtime.jobs.pop(run.job_id.lower(), None)


def _trial(run: SweepRun, job: Resource, number: int, values: dict[str, Any]) -> Resource:
    given, trial = job["_asked"], job["_asked"]["trial"]
    plain = {key: value for key, value in given.items() if key not in OF_THE_SWEEP}
    timeout = (given.get("limits") or {}).get("trialTimeout")
    asked = copy.deepcopy(
        {
            **plain,
            **trial,
            "jobType": "Command",
            "command": filled(trial["command"], values),
            "displayName": f"{run.name}_{number}",
            "limits": {"timeout": timeout, "jobLimitsType": "Command"},
        }
    )
    region = run.runtime.emulator.settings.region
    return {**job_resource(region, job["systemData"], f"{run.job_id}_{number}", asked), "_parent": run.name}


def _end(run: SweepRun, names: list[str], objective: dict[str, Any]) -> tuple[str, dict[str, str] | None]:
    """How the sweep ended. The best of the trials that completed is kept in the job's properties."""
    if run.cancelled.is_set():
        return "Canceled", {"code": "Canceled", "message": run.reason} if run.reason else None
    store, metric = run.runtime.emulator.store, objective["primaryMetric"]
    scores = {}
    for name in names:
        trial = store.need(f"{run.job_id.rpartition('/')[0]}/{name}", "Job")
        value = last_metric(run.runtime, trial, metric) if trial["properties"]["status"] == "Completed" else None
        if value is not None and math.isfinite(value):
            scores[name] = value
    if not scores:
        why = f"No trial of sweep {run.name} completed and reported the metric {metric}."
        return "Failed", {"code": "UserError", "message": why}
    best = (min if objective["goal"].lower() == "minimize" else max)(scores, key=lambda name: scores[name])

    def note(found: Resource) -> None:
        told = {"best_child_run_id": best, "score": str(scores[best]), "best_metric_status": "Succeeded"}
        found["properties"]["properties"] |= told

    store.update(run.job_id, note)
    return "Completed", None


def _seconds(duration: str | None) -> float:
    with contextlib.suppress(isodate.ISO8601Error):
        return float(isodate.parse_duration(duration).total_seconds()) if duration else 0.0
    return 0.0
