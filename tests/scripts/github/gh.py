#!/usr/bin/env python3
"""A stand-in for GitHub's `gh`: its REST side, for the paths that our scripts use, on a state kept in a JSON file.

Statuses, shapes, messages and exit codes are those of GitHub and gh. Put a folder with this file as `gh` on PATH
(`install`), and set GH_STATE to the state's file. The state is plain data, so a test prepares and reads it directly:

    {"signed_in": true, "admin": true, "created_at": …, "teams": {slug: id}, "users": {login: id}, "environments": …,
     "variables": …, "labels": …, "rulesets": …, "issues": …, "releases": …, "calls": [[method, path], …]}
"""

import json
import os
import re
import shutil
import sys
import urllib.parse
from pathlib import Path
from typing import Any

State = dict[str, Any]
OWNER, REPO = "acme", "phi-train"
REPOSITORY = f"{OWNER}/{REPO}"
NEW: State = {
    "signed_in": True,
    "admin": True,
    "repository": REPOSITORY,
    "created_at": "2026-08-01T10:00:00Z",
    "teams": {"release-managers": 501},
    "users": {"octocat": 1},
    "environments": {},
    "variables": {},
    "labels": [],
    "rulesets": [],
    "issues": [],
    "releases": [],
    "codeowners_errors": [],
    "next": 1,
    "calls": [],
}


class Answer(Exception):
    """An HTTP status that is not a success."""

    def __init__(self, status: int, message: str, errors: list[Any] | None = None) -> None:
        super().__init__(message)
        self.status, self.body = (
            status,
            {"message": message, "status": str(status), **({"errors": errors} if errors else {})},
        )


def install(folder: Path) -> Path:
    """Put this file into `folder` as `gh`; returns the folder, for PATH."""
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / "gh"
    text = Path(__file__).read_text(encoding="utf-8")
    target.write_text(text.replace("#!/usr/bin/env python3", f"#!{sys.executable}", 1), encoding="utf-8")
    target.chmod(0o755)
    return folder


def new_state(path: Path, **changes: Any) -> Path:
    path.write_text(json.dumps({**NEW, **changes}), encoding="utf-8")
    return path


def number(state: State) -> int:
    state["next"] += 1
    return int(state["next"])


def not_found() -> Answer:
    return Answer(404, "Not Found")


def environment(state: State, name: str) -> dict[str, Any]:
    for known, found in state["environments"].items():
        if known.lower() == name.lower():
            return found  # type: ignore[no-any-return]  # the state's own, so that changes stay
    raise not_found()


def put_environment(state: State, body: Any, name: str) -> Any:
    admin(state)
    for each in body.get("reviewers") or []:
        known = state["teams" if each["type"] == "Team" else "users"].values()
        if each["id"] not in known:
            raise Answer(422, "Validation Failed", [f"The reviewer {each['id']} could not be resolved."])
    names = {**{v: k for k, v in state["teams"].items()}, **{v: k for k, v in state["users"].items()}}
    rules: list[Any] = []
    if body.get("wait_timer"):
        rules.append({"id": number(state), "type": "wait_timer", "wait_timer": body["wait_timer"]})
    if body.get("reviewers"):
        who = [{"type": r["type"], "reviewer": {"id": r["id"], "login": names[r["id"]]}} for r in body["reviewers"]]
        rule = {"id": number(state), "type": "required_reviewers", "reviewers": who}
        rules.append({**rule, "prevent_self_review": bool(body.get("prevent_self_review"))})
    if body.get("deployment_branch_policy"):
        rules.append({"id": number(state), "type": "branch_policy"})
    old = state["environments"].get(name, {"id": number(state), "policies": [], "variables": {}})
    policy = body.get("deployment_branch_policy")
    state["environments"][name] = {**old, "name": name, "protection_rules": rules, "deployment_branch_policy": policy}
    return state["environments"][name]


def get_environment(state: State, _body: Any, name: str) -> Any:
    found = environment(state, name)
    return {key: value for key, value in found.items() if key not in ("policies", "variables")}


def policies(state: State, _body: Any, name: str) -> Any:
    found = environment(state, name)["policies"]
    return {"total_count": len(found), "branch_policies": found}


def add_policy(state: State, body: Any, name: str) -> Any:
    admin(state)
    made = {"id": number(state), "name": body["name"], "type": body.get("type", "branch")}
    environment(state, name)["policies"].append(made)
    return made


def delete_policy(state: State, _body: Any, name: str, which: str) -> Any:
    admin(state)
    found = environment(state, name)
    found["policies"] = [each for each in found["policies"] if each["id"] != int(which)]


def variables_of(state: State, name: str | None) -> dict[str, str]:
    return environment(state, name)["variables"] if name else state["variables"]  # type: ignore[no-any-return]


def get_variable(state: State, _body: Any, *place: str) -> Any:
    *where, variable = place
    held = variables_of(state, where[0] if where else None)
    if variable not in held:
        raise not_found()
    return {"name": variable, "value": held[variable]}


def add_variable(state: State, body: Any, *where: str) -> Any:
    admin(state)
    held = variables_of(state, where[0] if where else None)
    if body["name"] in held:
        raise Answer(409, "Already exists - Variable already exists")
    held[body["name"]] = body["value"]
    return {}


def change_variable(state: State, body: Any, *place: str) -> Any:
    admin(state)
    *where, variable = place
    get_variable(state, body, *place)
    variables_of(state, where[0] if where else None)[variable] = body["value"]


def by(items: list[Any], key: str, value: Any) -> Any:
    for each in items:
        if str(each[key]) == str(value):
            return each
    raise not_found()


def add_label(state: State, body: Any) -> Any:
    state["labels"].append(body)
    return body


def add_ruleset(state: State, body: Any) -> Any:
    admin(state)
    made = {"id": number(state), **with_defaults(body)}
    state["rulesets"].append(made)
    return made


def with_defaults(body: Any) -> Any:
    """GitHub answers with parameters that nobody sent."""
    rules = json.loads(json.dumps(body["rules"]))
    for rule in rules:
        if rule["type"] == "pull_request":
            rule["parameters"].setdefault("allowed_merge_methods", ["merge", "squash", "rebase"])
    return {**body, "rules": rules}


def change_ruleset(state: State, body: Any, which: str) -> Any:
    admin(state)
    by(state["rulesets"], "id", which).update(with_defaults(body))


def list_issues(state: State, query: dict[str, str]) -> Any:
    wanted, open_or = query.get("labels"), query.get("state", "open")
    found = [each for each in state["issues"] if open_or in ("all", each["state"])]
    return [each for each in found if not wanted or wanted in [label["name"] for label in each["labels"]]]


def add_issue(state: State, body: Any) -> Any:
    labels = [{"name": name} for name in body.get("labels", [])]
    made = {"number": number(state), "title": body["title"], "body": body.get("body"), "state": "open"}
    state["issues"].append({**made, "labels": labels, "comments_list": []})
    return made


def add_comment(state: State, body: Any, which: str) -> Any:
    made = {"id": number(state), "body": body["body"]}
    by(state["issues"], "number", which)["comments_list"].append(made)
    return made


def add_release(state: State, body: Any) -> Any:
    if any(each["tag_name"] == body["tag_name"] for each in state["releases"]):
        raise Answer(422, "Validation Failed", [{"resource": "Release", "code": "already_exists", "field": "tag_name"}])
    made = {"id": number(state), **body}
    state["releases"].append(made)
    return made


def update(key: str, field: str) -> Any:
    def change(state: State, body: Any, which: str) -> Any:
        by(state[key], field, which).update(body)

    return change


def admin(state: State) -> None:
    if not state["admin"]:
        raise Answer(403, "Resource not accessible by integration")


def repository(state: State, _body: Any) -> Any:
    return {
        "id": 7001,
        "full_name": state["repository"],
        "owner": {"id": 9001, "login": state["repository"].split("/")[0]},
        "created_at": state["created_at"],
        "permissions": {"admin": state["admin"], "push": True, "pull": True},
    }


def person(key: str) -> Any:
    def look_up(state: State, _body: Any, name: str) -> Any:
        if name not in state[key]:
            raise not_found()
        return {"id": state[key][name]}

    return look_up


ENV = r"environments/([^/]+)"
# (method, path below the repository, what answers it)
ROUTES: list[tuple[str, str, Any]] = [
    ("GET", "", repository),
    ("PUT", ENV, put_environment),
    ("GET", ENV, get_environment),
    ("GET", ENV + "/deployment-branch-policies", policies),
    ("POST", ENV + "/deployment-branch-policies", add_policy),
    ("DELETE", ENV + r"/deployment-branch-policies/(\d+)", delete_policy),
    ("GET", ENV + "/variables/([^/]+)", get_variable),
    ("POST", ENV + "/variables", add_variable),
    ("PATCH", ENV + "/variables/([^/]+)", change_variable),
    ("GET", "actions/variables/([^/]+)", get_variable),
    ("POST", "actions/variables", add_variable),
    ("PATCH", "actions/variables/([^/]+)", change_variable),
    ("GET", "labels/([^/]+)", lambda state, _body, name: by(state["labels"], "name", name)),
    ("POST", "labels", add_label),
    ("GET", "rulesets", lambda state, _body: [{"id": each["id"], "name": each["name"]} for each in state["rulesets"]]),
    ("GET", r"rulesets/(\d+)", lambda state, _body, which: by(state["rulesets"], "id", which)),
    ("POST", "rulesets", add_ruleset),
    ("PUT", r"rulesets/(\d+)", change_ruleset),
    ("POST", "issues", add_issue),
    ("PATCH", r"issues/(\d+)", update("issues", "number")),
    (
        "GET",
        r"issues/(\d+)/comments",
        lambda state, _body, which: by(state["issues"], "number", which)["comments_list"],
    ),
    ("POST", r"issues/(\d+)/comments", add_comment),
    ("GET", "codeowners/errors", lambda state, _body: {"errors": state["codeowners_errors"]}),
    ("GET", "releases/tags/([^/]+)", lambda state, _body, tag: by(state["releases"], "tag_name", tag)),
    ("POST", "releases", add_release),
    ("PATCH", r"releases/(\d+)", update("releases", "id")),
]
OUTSIDE = [("users/([^/]+)", person("users")), (f"orgs/{OWNER}/teams/([^/]+)", person("teams"))]


def answer(state: State, method: str, address: str, body: Any) -> Any:
    path, _, raw = address.partition("?")
    query = dict(urllib.parse.parse_qsl(raw))
    state["calls"].append([method, path])
    for pattern, handler in OUTSIDE:
        if method == "GET" and (found := re.fullmatch(pattern, path)):
            return handler(state, body, *found.groups())
    root = f"repos/{state['repository']}"
    if path != root and not path.startswith(root + "/"):
        raise not_found()
    below = path[len(root) :].lstrip("/")
    if (method, below) == ("GET", "issues"):
        return paged(list_issues(state, query), query)
    for verb, pattern, handler in ROUTES:
        if verb == method and (found := re.fullmatch(pattern, below)):
            result = handler(state, body, *found.groups())
            return paged(result, query) if isinstance(result, list) else result
    raise not_found()


def paged(items: list[Any], query: dict[str, str]) -> list[Any]:
    size, page = int(query.get("per_page", 30)), int(query.get("page", 1))
    return items[size * (page - 1) : size * page]


def main(argv: list[str]) -> int:
    file = Path(os.environ["GH_STATE"])
    state: State = json.loads(file.read_text(encoding="utf-8"))
    if not state["signed_in"]:
        print("To get started with GitHub CLI, please run:  gh auth login", file=sys.stderr)
        return 1 if argv[:1] == ["auth"] else 4
    if argv[:2] == ["auth", "status"]:
        return 0
    if len(argv) < 4 or argv[:2] != ["api", "--method"]:
        print(f"the stand-in does not know: gh {' '.join(argv)}", file=sys.stderr)
        return 1
    method, address = argv[2], argv[3]
    body = json.loads(sys.stdin.read()) if argv[4:] == ["--input", "-"] else None
    try:
        result = answer(state, method, address, body)
    except Answer as refused:
        print(json.dumps(refused.body))
        print(f"gh: {refused} (HTTP {refused.status})", file=sys.stderr)
        return 1
    finally:
        beside = file.with_suffix(f".{os.getpid()}")
        beside.write_text(json.dumps(state, indent=1), encoding="utf-8")
        shutil.move(beside, file)
    if result is not None:
        print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
