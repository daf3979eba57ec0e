"""Runs a command job: a real subprocess in the code snapshot's folder, its log streamed, its outputs collected."""

from __future__ import annotations

import contextlib
import logging
import shutil
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import isodate

from emulator import job_identity
from emulator.errors import ArmError
from emulator.job_files import OutputPlace, Plan, collect, prepare
from emulator.models_from_jobs import ARTIFACT_FOLDER, ARTIFACT_STORE
from emulator.quota import check_job
from emulator.resources import utc_now
from emulator.runtime import Runtime, on_start
from emulator.storage import container_of
from emulator.store import Resource
from emulator.tracking import create_run, end_run, workspace_of

TERMINAL = frozenset({"Completed", "Failed", "Canceled"})
LOG = "user_logs/std_log.txt"
POLL_SECONDS = 0.1
BYTES_PER_SECOND = 4_000_000  # the whole log is sent again each time, so long logs are sent less often
TAIL_CHARACTERS = 2_000
log = logging.getLogger(__name__)


@dataclass
class JobRun:
    runtime: Runtime
    job_id: str
    name: str
    folder: Path
    artifacts: str = ""  # container of the workspace's artifacts
    cancelled: threading.Event = field(default_factory=threading.Event)
    reason: str = ""  # why it was cancelled, when not by a user
    process: subprocess.Popen[bytes] | None = None
    stages: Callable[[JobRun], dict[str, str] | None] | None = None  # of a job that is no command
    children: list[JobRun] = field(default_factory=list)  # steps of a pipeline

    @property
    def log_file(self) -> Path:
        return self.folder / "std_log.txt"

    def cancel(self, reason: str = "") -> None:
        """Ask for the end; kills the whole process group when one is running."""
        self.reason = self.reason or reason
        self.cancelled.set()
        if self.process is not None:
            self.runtime.emulator.processes.stop(self.process)
        for child in self.children:
            child.cancel(reason)


class Run(Protocol):
    """What has a status: a job's run, or a sweep's."""

    runtime: Runtime
    job_id: str


class Cancelled(Exception):
    pass


def start(runtime: Runtime, job: Resource, stages: Callable[[JobRun], dict[str, str] | None] | None = None) -> JobRun:
    """Begin to run a job that has just been stored; returns at once. `stages`: what to do when it is no command."""
    workspace, name = job["id"].split("/")[8], job["name"]
    folder = runtime.emulator.settings.home / "jobs" / workspace / name
    container = container_of(runtime.emulator.store.need(workspace_of(job), "Workspace"), ARTIFACT_STORE)
    run = JobRun(runtime, job["id"], name, folder, container, stages=stages)
    runtime.jobs[job["id"].lower()] = run
    threading.Thread(target=_run, args=(run,), name=f"job {name}", daemon=True).start()
    return run


def set_status(run: Run, status: str, error: dict[str, str] | None = None) -> None:
    """Move a job on. A job that has ended stays as it ended."""

    def change(job: Resource) -> None:
        if job["properties"]["status"] in TERMINAL:
            return
        job["properties"]["status"] = status
        job.setdefault("_statuses", []).append([status, utc_now()])
        if status == "Running":
            job["_started"] = utc_now()
        if status in TERMINAL:
            job["_ended"], job["_error"] = utc_now(), error

    run.runtime.emulator.store.update(run.job_id, change)


def _run(run: JobRun) -> None:
    status, error = "Failed", None
    try:
        error = (run.stages or _stages)(run)
        status = "Failed" if error else "Completed"
    except Cancelled:
        status = "Canceled"
        error = {"code": "Canceled", "message": run.reason} if run.reason else None
    except ArmError as refused:
        error = {"code": refused.code, "message": refused.message}
    except Exception as unexpected:
        log.exception("job %s failed in an unexpected way", run.name)
        error = {"code": "ServiceError", "message": f"The local Azure ML could not run the job: {unexpected!r}"}
    if run.runtime.stopping:  # whatever went wrong, that was the reason; `fail_interrupted` says so on the next start
        return
    end_run(run.runtime, run.job_id, status)
    set_status(run, status, error)
    run.runtime.jobs.pop(run.job_id.lower(), None)
    shutil.rmtree(run.folder, ignore_errors=True)  # everything worth keeping is in the storage


def _stages(run: JobRun) -> dict[str, str] | None:
    """All of a job but its end; returns the error of a command that failed."""
    emulator, store = run.runtime.emulator, run.runtime.emulator.store
    set_status(run, "Preparing")
    job = store.need(run.job_id, "Job")
    properties = job["properties"]
    check_job(store, properties)
    job_identity.check(emulator, store.need(workspace_of(job), "Workspace"), job)
    shutil.rmtree(run.folder, ignore_errors=True)
    mlflow_run = create_run(run.runtime, job)
    job = store.update(run.job_id, lambda found: found.update(_mlflow_run=mlflow_run))
    plan = prepare(emulator, job, run.folder)
    if run.cancelled.is_set():
        raise Cancelled
    code = _execute(run, plan, (properties.get("limits") or {}).get("timeout"))
    set_status(run, "Finalizing")
    _keep(run, plan.outputs)
    if run.cancelled.is_set():
        raise Cancelled
    return _failure(run, code) if code else None


def _execute(run: JobRun, plan: Plan, timeout: str | None) -> int:
    """Run the command to its end, or to its limit, sending the log on the way; returns the exit code."""
    processes = run.runtime.emulator.processes
    deadline = time.monotonic() + isodate.parse_duration(timeout).total_seconds() if timeout else None
    command = ["bash", "-c", plan.command]
    run.process = processes.start(run.name, command, env=plan.environment, cwd=plan.code, log=run.log_file)
    set_status(run, "Running")
    if run.cancelled.is_set():  # between the last look and the start
        run.cancel()
    sent, pause_until = -1, 0.0
    while (code := run.process.poll()) is None:
        if deadline and time.monotonic() > deadline:
            run.cancel(f"The job ran longer than its limit ({timeout}).")
        if time.monotonic() >= pause_until:
            sent = _send_log(run, sent)
            pause_until = time.monotonic() + max(0.3, sent / BYTES_PER_SECOND)
        with contextlib.suppress(subprocess.TimeoutExpired):
            run.process.wait(POLL_SECONDS)
    processes.stop(run.process, grace=1.0)  # what the command left running in the background
    _send_log(run, sent)
    return code


def _send_log(run: JobRun, sent: int) -> int:
    """Send the log if it has grown since `sent` bytes; returns its size now."""
    content = run.log_file.read_bytes() if run.log_file.exists() else b""
    if len(content) != sent:
        run.runtime.emulator.storage.put_bytes(run.artifacts, f"{ARTIFACT_FOLDER.format(job=run.name)}/{LOG}", content)
    return len(content)


def _keep(run: JobRun, outputs: list[OutputPlace]) -> None:
    """Upload what the job left, also when it failed or was cancelled: a checkpoint is worth most then."""
    storage, base = run.runtime.emulator.storage, ARTIFACT_FOLDER.format(job=run.name)
    for folder in ("outputs", "logs"):
        storage.upload(run.artifacts, f"{base}/{folder}", run.folder / "code" / folder)
    for place in outputs:
        collect(storage, place)


def _failure(run: JobRun, code: int) -> dict[str, str]:
    tail = run.log_file.read_text(errors="replace")[-TAIL_CHARACTERS:].strip()
    message = (
        f"Execution failed. User process 'bash' exited with status code {code}. "
        f"Please check log file '{LOG}' for error details. Error: {tail}"
    )
    return {"code": "UserError", "message": message}


@on_start
def fail_interrupted(runtime: Runtime) -> None:
    """After a restart nothing runs the jobs of the last run any more, and they must not look as if it did."""
    message = "The local Azure ML was stopped while this job was running. Submit it again under a new name."
    shutil.rmtree(runtime.emulator.settings.home / "jobs", ignore_errors=True)
    for job in runtime.emulator.store.find(r".*/workspaces/[^/]+/jobs/[^/]+"):
        if job["properties"]["status"] not in TERMINAL:
            if job.get("_mlflow_run"):
                runtime.runs_of(workspace_of(job)).remember(job["name"], job["_mlflow_run"])
            end_run(runtime, job["id"], "Failed")
            run = JobRun(runtime, job["id"], job["name"], Path())
            set_status(run, "Failed", {"code": "JobInterrupted", "message": message})
