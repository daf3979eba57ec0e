"""What has to change at GitHub to make it like `.github/environments.yaml`: one REST call for each difference.

`changes` only reads, through the functions it is given, so the same code makes the plan of a signed-in user (what
differs now), the plan without `gh` (everything), and what `doctor` compares.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from scripts.github.environments import Environment, GitHubSide, Main

Find = Callable[[str], Any | None]  # GET; None for what is not there
IdOf = Callable[[str, str], int | str]  # id of ("User"|"Team", name)
Values = Mapping[tuple[str, str], str]  # ("" or an environment, variable) -> value to set


@dataclass(frozen=True)
class Change:
    """One call, and why it is needed."""

    why: str
    method: str
    path: str
    body: Any = None


def missing(environment: str, variable: str) -> str:
    """What a person must do about a variable without a value: `environment` is "" for the repository's own."""
    if not environment:
        return (
            f"The repository's variable {variable} is not set: export {variable} and apply again, "
            "or add it under Settings → Secrets and variables → Actions → Variables."
        )
    return (
        f"Environment {environment} lacks the variable {variable}: apply again with --clients out/provision.json "
        f"(or --client-id {environment}=CLIENT_ID), or add it under Settings → Environments → {environment} "
        "→ Environment variables."
    )


def changes(
    side: GitHubSide, repository: str, find: Find, id_of: IdOf, values: Values, *, variables: bool = True
) -> Iterator[Change | str]:
    """Every difference, in the order in which it can be mended; a sentence for what a person has to do.

    `variables` False leaves them out.
    """
    root = f"repos/{repository}"
    for environment in side.environments:
        yield from _environment(root, environment, find, id_of)
        if variables:
            for name in environment.variables:
                place = f"{root}/environments/{environment.name}/variables"
                yield from _variable(place, environment.name, name, find, values)
    if variables:
        for name in side.repository.variables:
            yield from _variable(f"{root}/actions/variables", "", name, find, values)
    for label in side.repository.labels:
        if find(f"{root}/labels/{label.name}") is None:
            yield Change(f"label {label.name} is missing", "POST", f"{root}/labels", label.model_dump())
    yield from _ruleset(root, side.repository.main, find)
    unowned = (find(f"{root}/codeowners/errors") or {}).get("errors", [])
    if unowned:
        lines = ", ".join(str(each["line"]) for each in unowned)
        yield f"GitHub ignores lines of .github/CODEOWNERS ({lines}): name people or teams there that may write here."


def _environment(root: str, wanted: Environment, find: Find, id_of: IdOf) -> Iterator[Change]:
    path = f"{root}/environments/{wanted.name}"
    reviewers = [{"type": kind, "id": id_of(kind, name)} for kind, name in wanted.reviewers.all]
    body = {
        "wait_timer": wanted.wait_minutes,
        "prevent_self_review": wanted.prevent_self_review,
        "reviewers": reviewers,
        "deployment_branch_policy": {"protected_branches": False, "custom_branch_policies": True},
    }
    now = find(path)
    wrong = ["missing"] if now is None else _differences(body, now)
    if wrong:
        yield Change(f"environment {wanted.name}: {', '.join(wrong)}", "PUT", path, body)
    listed = find(f"{path}/deployment-branch-policies?per_page=100") if now else None
    policies = {
        (each["name"], each.get("type") or "branch"): each["id"] for each in (listed or {}).get("branch_policies", [])
    }
    for branch in wanted.branches:
        if (branch, "branch") not in policies:
            why = f"environment {wanted.name}: branch {branch} may not deploy yet"
            yield Change(why, "POST", f"{path}/deployment-branch-policies", {"name": branch, "type": "branch"})
    for (name, kind), number in policies.items():
        if kind != "branch" or name not in wanted.branches:
            why = f"environment {wanted.name}: {kind} {name} must not deploy"
            yield Change(why, "DELETE", f"{path}/deployment-branch-policies/{number}")


def _differences(body: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What of an environment is not as `body` would make it, in words."""
    rules = {rule["type"]: rule for rule in now.get("protection_rules") or []}
    review = rules.get("required_reviewers", {})
    found = {
        "wait_timer": rules.get("wait_timer", {}).get("wait_timer", 0),
        "reviewers": {(each["type"], each["reviewer"]["id"]) for each in review.get("reviewers") or []},
        "deployment_branch_policy": now.get("deployment_branch_policy"),
    }
    wanted = {
        "wait_timer": body["wait_timer"],
        "reviewers": {(each["type"], each["id"]) for each in body["reviewers"]},
        "deployment_branch_policy": body["deployment_branch_policy"],
    }
    if wanted["reviewers"]:  # GitHub keeps this with the reviewers and forgets it without any
        found["prevent_self_review"] = bool(review.get("prevent_self_review"))
        wanted["prevent_self_review"] = body["prevent_self_review"]
    words = {
        "wait_timer": "the wait timer differs",
        "reviewers": "the reviewers differ",
        "deployment_branch_policy": "the branch rule differs",
        "prevent_self_review": "self-review differs",
    }
    return [words[key] for key in wanted if wanted[key] != found[key]]


def _variable(place: str, environment: str, name: str, find: Find, values: Values) -> Iterator[Change | str]:
    now, value = find(f"{place}/{name}"), values.get((environment, name))
    where = f"environment {environment}" if environment else "repository"
    if now is None and value is None:
        yield missing(environment, name)
    elif now is None:
        yield Change(f"{where}: variable {name} is missing", "POST", place, {"name": name, "value": value})
    elif value is not None and now["value"] != value:
        yield Change(f"{where}: variable {name} differs", "PATCH", f"{place}/{name}", {"name": name, "value": value})


def _ruleset(root: str, main: Main, find: Find) -> Iterator[Change]:
    body = ruleset(main)
    listed = find(f"{root}/rulesets?per_page=100") or []
    number = next((each["id"] for each in listed if each["name"] == main.ruleset), None)
    if number is None:
        yield Change(f"ruleset {main.ruleset} of the default branch is missing", "POST", f"{root}/rulesets", body)
        return
    now = find(f"{root}/rulesets/{number}") or {}
    hidden = {"bypass_actors"} - set(now)  # only administrators are shown who may bypass it
    if not _covers(now, {key: value for key, value in body.items() if key not in hidden}):
        why = f"ruleset {main.ruleset} of the default branch differs"
        yield Change(why, "PUT", f"{root}/rulesets/{number}", body)


def ruleset(main: Main) -> dict[str, Any]:
    """The protection of the default branch as the REST API wants it. Nobody bypasses it, administrators included."""
    review = {
        "required_approving_review_count": main.approvals,
        "require_code_owner_review": main.code_owner_review,
        "dismiss_stale_reviews_on_push": True,
        "require_last_push_approval": False,
        "required_review_thread_resolution": False,
    }
    checks = {
        "required_status_checks": [{"context": main.required_check}],
        "strict_required_status_checks_policy": False,
    }
    rules: list[dict[str, Any]] = [
        {"type": "deletion"},
        {"type": "non_fast_forward"},
        {"type": "pull_request", "parameters": review},
        {"type": "required_status_checks", "parameters": checks},
    ]
    if main.merge_queue:
        queue = {
            "check_response_timeout_minutes": 60,
            "grouping_strategy": "ALLGREEN",
            "max_entries_to_build": 5,
            "max_entries_to_merge": 5,
            "merge_method": "SQUASH",
            "min_entries_to_merge": 1,
            "min_entries_to_merge_wait_minutes": 5,
        }
        rules.append({"type": "merge_queue", "parameters": queue})
    return {
        "name": main.ruleset,
        "target": "branch",
        "enforcement": "active",
        "bypass_actors": [],
        "conditions": {"ref_name": {"include": ["~DEFAULT_BRANCH"], "exclude": []}},
        "rules": rules,
    }


def _covers(now: Any, wanted: Any) -> bool:
    """Whether `now` says all that `wanted` says. GitHub answers with more keys than it was sent; lists must agree."""
    if isinstance(wanted, dict):
        return isinstance(now, dict) and all(key in now and _covers(now[key], value) for key, value in wanted.items())
    if isinstance(wanted, list) and wanted and isinstance(wanted[0], dict):
        return (
            isinstance(now, list)
            and len(now) == len(wanted)
            and all(any(_covers(each, value) for each in now) for value in wanted)
        )
    return bool(now == wanted)
