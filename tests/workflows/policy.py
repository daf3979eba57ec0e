"""What must hold of the workflow files and what no linter and no run of act can see. Each check returns sentences.

act ignores concurrency, environments, permissions, job time-outs, path filters and schedules, so these are read from
the files. A check takes all files at once, because most of what can go wrong is between two of them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
CHECKS: dict[str, Callable[[Files], list[str]]] = {}
# Commands a step may run: one of ours, or what a job needs before there are any.
COMMAND = re.compile(r"python -m scripts( [\w-]+)+ ?")
OTHERS = {"make lint", "make test-fast", "make demo"}
CALLED = ("train.yml", "evaluate.yml", "rollout.yml")
# Who may hold the endpoint, each for as long as it needs it.
DEPLOY = {("release.yml", "judge"), ("release.yml", "rollout"), ("reap.yml", "")}
MOVES_TRAFFIC = re.compile(r"scripts (rollout run|rollback|watchdog)")


@dataclass(frozen=True)
class Files:
    """Text of every file by its name: release.yml …, setup/action.yml …, environments.yaml."""

    texts: Mapping[str, str]

    @property
    def workflows(self) -> dict[str, Any]:
        return {name: parsed(text) for name, text in self.texts.items() if "/" not in name and name.endswith(".yml")}

    def jobs(self) -> Iterator[tuple[str, str, dict[str, Any]]]:
        for name, workflow in self.workflows.items():
            for job_id, job in workflow["jobs"].items():
                yield name, job_id, job

    def steps(self) -> Iterator[tuple[str, str, dict[str, Any]]]:
        for name, job_id, job in self.jobs():
            for step in job.get("steps", []):
                yield name, job_id, step


def parsed(text: str) -> Any:
    """YAML in which `on` is a word, as GitHub reads it."""
    content = yaml.safe_load(text)
    if isinstance(content, dict) and True in content:
        content["on"] = content.pop(True)
    return content


def read(root: Path = ROOT) -> Files:
    github = root / ".github"
    texts = {path.name: path.read_text(encoding="utf-8") for path in (github / "workflows").glob("*.yml")}
    texts |= {f"{path.parent.name}/action.yml": path.read_text("utf-8") for path in github.glob("actions/*/action.yml")}
    texts["environments.yaml"] = (github / "environments.yaml").read_text(encoding="utf-8")
    return Files(texts)


def check(function: Callable[[Files], list[str]]) -> Callable[[Files], list[str]]:
    CHECKS[function.__name__] = function
    return function


def given(step: Mapping[str, Any]) -> dict[str, Any]:
    return dict(step.get("with") or {})


def group(job: Mapping[str, Any]) -> str:
    return str((job.get("concurrency") or {}).get("group", ""))


@check
def permissions_start_from_nothing_and_have_reasons(files: Files) -> list[str]:
    found = [
        f"{name}: `permissions: {{}}` is not at the top"
        for name, w in files.workflows.items()
        if w.get("permissions") != {}
    ]
    for name in files.workflows:
        inside = False
        for number, line in enumerate(files.texts[name].splitlines(), 1):
            scope = re.match(r"^ +(contents|id-token|actions|issues|pull-requests|[a-z-]+): (read|write)\b(.*)$", line)
            inside = bool(re.match(r"^ +permissions:", line)) or (inside and scope is not None)
            if inside and scope and not re.match(r" # \w", scope[3]):
                found.append(f"{name}:{number}: no reason beside {scope[1]}: {scope[2]}")
    return found


@check
def every_job_has_a_timeout_and_a_fixed_runner(files: Files) -> list[str]:
    return [
        f"{name}: {job_id}"
        for name, job_id, job in files.jobs()
        if "uses" not in job and (not 0 < job.get("timeout-minutes", 0) <= 360 or job.get("runs-on") != "ubuntu-24.04")
    ]


@check
def actions_are_pinned_and_local_ones_are_our_own(files: Files) -> list[str]:
    found = []
    for name, text in files.texts.items():
        for number, line in enumerate(text.splitlines(), 1):
            used = re.match(r"\s*(?:- )?uses: (\S+)( # v\d+\.\d+\.\d+)?\s*$", line)
            if "uses:" in line and not line.lstrip().startswith("#"):
                pinned = used and re.fullmatch(r"[\w.-]+/[\w./-]+@[0-9a-f]{40}", used[1]) and used[2]
                own = used and used[1].startswith("$/.github/")
                if not (pinned or own):
                    found.append(f"{name}:{number}: {line.strip()}")
    return found


@check
def checkout_keeps_no_credentials(files: Files) -> list[str]:
    return [
        f"{name}: {job_id}"
        for name, job_id, step in files.steps()
        if "actions/checkout" in step.get("uses", "")
        and (step.get("with") or {}).get("persist-credentials") is not False
    ]


@check
def nothing_is_inlined_into_a_shell(files: Files) -> list[str]:
    found = [f"{name}: {job_id}" for name, job_id, step in files.steps() if "${{" in step.get("run", "")]
    for name, text in files.texts.items():
        if name.endswith("/action.yml"):
            found += [name for step in parsed(text)["runs"]["steps"] if "${{" in step.get("run", "")]
    return found


@check
def each_step_is_one_command_of_scripts(files: Files) -> list[str]:
    found = []
    for name, job_id, step in files.steps():
        run = step.get("run", "").strip()
        if not run or run in OTHERS or (name, job_id) in {("release.yml", "refuse"), ("pr.yml", "ready")}:
            continue
        if "\n" in run or not COMMAND.match(run + " ") or re.search(r"&&|\|\||;|\||\$\(", run):
            found.append(f"{name}: {job_id}: {run}")
    return found


@check
def only_a_job_of_a_known_environment_signs_in(files: Files) -> list[str]:
    known = environments(files)
    found = []
    for name, job_id, job in files.jobs():
        if "uses" in job:
            continue
        environment = job.get("environment")
        environment = environment.get("name") if isinstance(environment, dict) else environment
        signs_in = [step for step in job["steps"] if step.get("uses") == "$/.github/actions/azure"]
        may = (job.get("permissions") or {}).get("id-token") == "write"
        if bool(signs_in) != may:
            found.append(f"{name}: {job_id}: id-token and the sign-in do not belong together")
        if signs_in and (environment is None or signs_in[0]["with"]["environment"] != environment):
            found.append(f"{name}: {job_id}: signs in without its environment, or as another one")
        if environment and environment not in known:
            found.append(f"{name}: {job_id}: environment {environment} is not in environments.yaml")
    used = {str(job.get("environment")) for _, _, job in files.jobs()} | {"production-approval"}
    return found + [f"environment {name} is used by no job" for name in known if name not in used]


def environments(files: Files) -> dict[str, Any]:
    return {each["name"]: each for each in parsed(files.texts["environments.yaml"])["environments"]}


@check
def traffic_moves_only_in_production_and_only_after_an_approval(files: Files) -> list[str]:
    found = []
    for name, job_id, job in files.jobs():
        runs = [step.get("run", "") for step in job.get("steps", [])]
        if any(MOVES_TRAFFIC.search(run) for run in runs) and job.get("environment") != "production":
            found.append(f"{name}: {job_id} moves traffic outside the environment production")
        if any("rollout run" in run and "--approval out/approval.json" not in run for run in runs):
            found.append(f"{name}: {job_id} moves traffic without an approval")
        if job.get("uses", "").endswith("rollout.yml") and (name, job_id, job.get("needs")) != (
            *("release.yml", "rollout"),
            "approve",
        ):
            found.append(f"{name}: {job_id} rolls out without waiting for approve")
    release = files.workflows["release.yml"]["jobs"]
    approve = release.get("approve", {})
    if (approve.get("environment") or {}).get("name") != "production-approval":
        found.append("approve is not in the environment production-approval")
    if "needs.judge.outputs.outcome == 'pass'" not in approve.get("if", "") or approve.get("needs") != "judge":
        found.append("approve does not ask for a verdict that passed")
    if "||" in approve.get("if", "") or "always()" in approve.get("if", ""):
        found.append("approve has a way around the verdict")
    if "if" in release.get("rollout", {}):
        found.append("rollout has a condition of its own, which could skip the approval")
    return found


@check
def a_verdict_that_is_no_pass_turns_the_run_red(files: Files) -> list[str]:
    job = files.workflows["release.yml"]["jobs"].get("refuse", {})
    # "live": the candidate is live already, so there was nothing to release and nothing to refuse.
    outcome = "needs.judge.outputs.outcome"
    condition = f"${{{{ needs.judge.result == 'success' && {outcome} != 'pass' && {outcome} != 'live' }}}}"
    good = job.get("needs") == "judge" and job.get("if") == condition
    red = any("exit 1" in step.get("run", "") for step in job.get("steps", [])) and not job.get("continue-on-error")
    return [] if good and red else ["refuse does not end red whatever else than a pass the gate said"]


@check
def deploys_hold_one_group_on_the_callers_job(files: Files) -> list[str]:
    found = []
    holders = {(name, job_id) for name, job_id, job in files.jobs() if group(job) == "deploy"}
    holders |= {(name, "") for name, workflow in files.workflows.items() if group(workflow) == "deploy"}
    if holders != DEPLOY:
        found.append(f"the group `deploy` is held by {sorted(holders)}, not by {sorted(DEPLOY)}")
    for name in CALLED:
        if "concurrency" in files.texts[name].replace("#", ""):
            found.append(f"{name}: a called workflow has a group of its own, so its jobs would let go in between")
    return found


@check
def nothing_that_touches_azure_is_cancelled(files: Files) -> list[str]:
    found = []
    for name, workflow in files.workflows.items():
        if name == "pr.yml":
            continue
        for where, part in [("", workflow), *workflow["jobs"].items()]:
            limits = part.get("concurrency")
            if limits and limits.get("cancel-in-progress") is not False:
                found.append(f"{name}: {where}: cancel-in-progress is not false")
            if (
                limits
                and limits["group"].split("-")[0] in ("deploy", "release", "rollback")
                and limits.get("queue") != "max"
            ):
                found.append(f"{name}: {where}: without `queue: max` a waiting run is dropped by a newer one")
    return found


@check
def the_emergency_brake_waits_for_nothing(files: Files) -> list[str]:
    workflow = files.workflows["rollback.yml"]
    others = {
        group(part)
        for name, w in files.workflows.items()
        if name != "rollback.yml"
        for part in [w, *w["jobs"].values()]
    }
    found = ["rollback shares a group with another workflow"] if group(workflow) in others else []
    if any("needs" in job for job in workflow["jobs"].values()):
        found.append("a job of rollback waits for another")
    slow = {name for name, e in environments(files).items() if any(e["reviewers"].values()) or e["wait_minutes"]}
    used = {str(job.get("environment")) for job in workflow["jobs"].values()}
    return found + [f"rollback waits for the rules of {name}" for name in used & slow]


@check
def the_approval_is_outside_every_group(files: Files) -> list[str]:
    return (
        ["approve holds a group while it waits"]
        if group(files.workflows["release.yml"]["jobs"].get("approve", {}))
        else []
    )


@check
def a_rollout_that_does_not_end_is_taken_back(files: Files) -> list[str]:
    jobs = files.workflows["rollout.yml"]["jobs"]
    revert = jobs.get("revert", {})
    condition = revert.get("if", "")
    runs = " ".join(step.get("run", "") for step in revert.get("steps", []))
    good = revert.get("needs") == "shift" and "failure()" in condition and "cancelled()" in condition
    return (
        []
        if good and "watchdog --stale-minutes 0" in runs
        else ["rollout.yml has no job that takes back what broke off"]
    )


@check
def artifacts_are_made_before_they_are_read(files: Files) -> list[str]:
    found = []
    made: dict[str, set[str]] = {}
    for name, job_id, step in files.steps():
        what = given(step)
        if "actions/upload-artifact" in step.get("uses", ""):
            made.setdefault(name, set()).add(what["name"])
            if not 1 <= int(what.get("retention-days", 0)) <= 90:
                found.append(f"{name}: {job_id}: artifact {what['name']} has no retention")
            if what.get("if-no-files-found") != "error":
                found.append(f"{name}: {job_id}: artifact {what['name']} may be empty")
    train = set().union(*(made.get(name, set()) for name in ("release.yml", *CALLED)))
    for name, job_id, step in files.steps():
        if "actions/download-artifact" in step.get("uses", ""):
            wanted = step["with"].get("name", "")
            pool = train if name in ("release.yml", *CALLED) else made.get(name, set())
            if wanted not in pool:
                found.append(f"{name}: {job_id}: nobody makes artifact {wanted!r}")
    return found


@check
def schedules_run_in_the_own_repository_only(files: Files) -> list[str]:
    found = []
    for name, workflow in files.workflows.items():
        if "schedule" not in workflow["on"]:
            continue
        first = next(iter(workflow["jobs"].values()))
        if "!github.event.repository.fork" not in first.get("if", ""):
            found.append(f"{name}: would run in forks")
        found += [
            f"{name}: {each['cron']} is on the full hour"
            for each in workflow["on"]["schedule"]
            if each["cron"].startswith("0 ")
        ]
    return found


@check
def pull_requests_see_no_secret_and_no_azure(files: Files) -> list[str]:
    found = [f"{name}: pull_request_target" for name, w in files.workflows.items() if "pull_request_target" in w["on"]]
    found += [f"{name}: a stored secret" for name, text in files.texts.items() if "secrets." in text]
    workflow = files.workflows["pr.yml"]
    scopes = [job.get("permissions") or {} for job in workflow["jobs"].values()]
    found += ["pr.yml: may write" for scope in scopes if "write" in scope.values()]
    if set(workflow["on"]) != {"pull_request", "merge_group"}:
        found.append("pr.yml: its events are not pull_request and merge_group")
    return found


@check
def the_required_check_waits_for_every_job(files: Files) -> list[str]:
    jobs = files.workflows["pr.yml"]["jobs"]
    ready = jobs.get("ready", {})
    found = []
    if set(ready.get("needs", [])) != set(jobs) - {"ready"}:
        found.append("ready does not wait for every job of pr.yml")
    if ready.get("if") not in ("${{ always() }}", "always()") or "toJSON(needs)" not in str(ready):
        found.append("ready does not look at every result")
    if ready.get("name") not in files.texts["environments.yaml"]:
        found.append("environments.yaml requires a check of another name")
    return found


@check
def failures_of_every_workflow_are_reported(files: Files) -> list[str]:
    told = files.workflows["report-failure.yml"]["on"]["workflow_run"]["workflows"]
    quiet = {"pr.yml", "report-failure.yml", *CALLED}
    names = {workflow["name"] for name, workflow in files.workflows.items() if name not in quiet}
    return (
        [f"report-failure listens to {sorted(told)}, and the workflows are {sorted(names)}"]
        if set(told) != names
        else []
    )


@check
def a_change_of_anything_that_is_released_starts_a_release(files: Files) -> list[str]:
    push = files.workflows["release.yml"]["on"].get("push") or {}
    missing = {f"{folder}/**" for folder in ("training", "data", "eval", "flow", "serving")} - set(
        push.get("paths", [])
    )
    return ([f"no release for {sorted(missing)}"] if missing else []) + (
        [] if push.get("branches") == ["main"] else ["not main"]
    )


@check
def what_a_release_does_is_done_at_one_commit(files: Files) -> list[str]:
    return [
        f"{name}: {job_id}: checks out something else than the release's commit"
        for name, job_id, step in files.steps()
        if name in ("release.yml", *CALLED)
        and "actions/checkout" in step.get("uses", "")
        and "inputs.commit" not in str(given(step).get("ref", ""))
    ]
