"""`provision github`: the plan, applying it, applying it again, and what goes wrong on the way."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scripts.errors import InvalidInput, ScriptError
from scripts.github import api
from scripts.github.environments import Identity, load, this_repository
from scripts.github.plan import Change, _covers, changes, ruleset
from scripts.github.setup import recorded, set_up
from tests.scripts.github.conftest import GitHub
from tests.scripts.github.gh import NEW, OWNER, REPO, REPOSITORY, Answer, answer

ROOT = Path(__file__).parents[3]
CLIENTS = [
    f"{name}=22222222-2222-2222-2222-22222222222{i}"
    for i, name in enumerate(["training", "staging", "production", "operations"])
]


@pytest.fixture
def values(github: GitHub, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: ARG001 (it clears them first)
    monkeypatch.setenv("AZURE_TENANT_ID", "11111111-1111-1111-1111-111111111111")
    monkeypatch.setenv("AZURE_SUBSCRIPTION_ID", "33333333-3333-3333-3333-333333333333")


def run(*arguments: str, out: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "scripts", *arguments, "--out", str(out)]
    return subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)


def test_a_plan_changes_nothing_and_says_every_call(github: GitHub) -> None:
    planned = set_up(load(), this_repository())
    assert github.writes() == []
    assert planned.compared
    assert not planned.applied
    assert [call.path.removeprefix(f"repos/{REPOSITORY}/") for call in planned.calls if call.method == "PUT"] == [
        f"environments/{name}" for name in ("training", "staging", "production-approval", "production", "operations")
    ]
    assert len(planned.left) == 6  # four client ids, tenant and subscription


@pytest.mark.usefixtures("values")
def test_applied_it_is_as_the_data_says_and_a_second_time_changes_nothing(github: GitHub) -> None:
    first = set_up(load(), this_repository(), apply=True, client_ids=CLIENTS)
    state = github.state
    assert first.left == []
    assert all(call.done for call in first.calls)
    approval = state["environments"]["production-approval"]
    [rule] = [rule for rule in approval["protection_rules"] if rule["type"] == "required_reviewers"]
    assert rule["prevent_self_review"]
    assert [each["reviewer"]["id"] for each in rule["reviewers"]] == [501]
    assert approval["variables"] == {}
    for name in ("training", "staging", "production", "operations"):
        assert set(state["environments"][name]["variables"]) == {"AZURE_CLIENT_ID"}
    for environment in state["environments"].values():  # the listed branches, not any protected one
        assert environment["deployment_branch_policy"] == {"protected_branches": False, "custom_branch_policies": True}
        assert {each["name"] for each in environment["policies"]} == {"main"}
    assert set(state["variables"]) == {"AZURE_TENANT_ID", "AZURE_SUBSCRIPTION_ID"}
    assert [each["name"] for each in state["labels"]] == ["workflow-failure"]
    rules = {rule["type"]: rule.get("parameters") for rule in state["rulesets"][0]["rules"]}
    assert rules["required_status_checks"]["required_status_checks"] == [{"context": "Ready to merge"}]
    assert rules["pull_request"]["require_code_owner_review"]
    assert "merge_queue" not in rules

    before = github.writes()
    again = set_up(load(), this_repository(), apply=True, client_ids=CLIENTS)
    assert again.calls == []
    assert github.writes() == before


DRIFT = {
    "a reviewer too many": lambda s: s["environments"]["production-approval"]["protection_rules"][0][
        "reviewers"
    ].append({"type": "User", "reviewer": {"id": 1}}),
    "self-review": lambda s: s["environments"]["production-approval"]["protection_rules"][0].update(
        prevent_self_review=False
    ),
    "reviewers where a rollback would wait": lambda s: s["environments"]["production"]["protection_rules"].append(
        {"type": "required_reviewers", "reviewers": [{"type": "User", "reviewer": {"id": 1}}]}
    ),
    "a wait timer": lambda s: s["environments"]["production"]["protection_rules"].append(
        {"type": "wait_timer", "wait_timer": 30}
    ),
    "any branch": lambda s: s["environments"]["staging"].update(deployment_branch_policy=None),
    "another branch": lambda s: s["environments"]["staging"]["policies"].append(
        {"id": 77, "name": "feature/*", "type": "branch"}
    ),
    "a tag called main": lambda s: s["environments"]["staging"]["policies"][0].update(type="tag"),
    "an environment deleted": lambda s: s["environments"].pop("operations"),
    "a client id": lambda s: s["environments"]["staging"]["variables"].update(AZURE_CLIENT_ID="other"),
    "the tenant": lambda s: s["variables"].update(AZURE_TENANT_ID="other"),
    "the label": lambda s: s["labels"].clear(),
    "the ruleset off": lambda s: s["rulesets"][0].update(enforcement="disabled"),
    "a bypass": lambda s: s["rulesets"][0].update(bypass_actors=[{"actor_id": 5, "actor_type": "RepositoryRole"}]),
    "the required check": lambda s: s["rulesets"][0]["rules"][3]["parameters"].update(required_status_checks=[]),
    "no ruleset": lambda s: s["rulesets"].clear(),
}


VALUES = {("staging", "AZURE_CLIENT_ID"): "id", ("", "AZURE_TENANT_ID"): "id"}


def compared(state: dict[str, Any]) -> list[Change | str]:
    """What differs between the data and a state of the stand-in, asked without a process for each question."""

    def find(path: str) -> Any | None:
        try:
            return json.loads(json.dumps(answer(state, "GET", path, None)))
        except Answer as refused:
            assert refused.status == 404
            return None

    return list(changes(load(), REPOSITORY, find, lambda *_: 501, VALUES))


def differences(state: dict[str, Any]) -> list[Change]:
    return [each for each in compared(state) if isinstance(each, Change)]


def mend(state: dict[str, Any]) -> None:
    for each in differences(state):
        answer(state, each.method, each.path, json.loads(json.dumps(each.body)))


@pytest.mark.parametrize("drift", DRIFT)
def test_whatever_drifted_is_seen_and_mended(drift: str) -> None:
    state = json.loads(json.dumps(NEW))
    mend(state)
    assert differences(state) == []
    DRIFT[drift](state)
    assert differences(state)
    mend(state)
    assert differences(state) == []


def test_the_credentials_are_those_of_the_repository_as_github_knows_it(github: GitHub) -> None:
    by_name = {each.environment: each for each in set_up(load(), this_repository()).credentials}
    assert set(by_name) == {"training", "staging", "production", "operations"}
    assert by_name["staging"].subjects == [f"repo:{OWNER}@9001/{REPO}@7001:environment:staging"]
    github.change(created_at="2026-07-14T23:00:00Z")
    old = {each.environment: each.subjects for each in set_up(load(), this_repository()).credentials}
    assert old["staging"] == [f"repo:{REPOSITORY}:environment:staging"]


@pytest.mark.usefixtures("no_gh")
def test_without_gh_the_plan_is_everything_and_applying_is_refused() -> None:
    planned = set_up(load(), Identity("acme", "phi"))
    assert not planned.compared
    assert sum(call.method == "PUT" for call in planned.calls) == 5
    with pytest.raises(InvalidInput, match="gh is not installed"):
        set_up(load(), Identity("acme", "phi"), apply=True)


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ({"signed_in": False}, "gh auth login"),
        ({"repository": "acme/other"}, "no repository acme/phi-train"),
        ({"admin": False}, "admin rights"),
        ({"teams": {}}, "does not know a team release-managers in acme"),
    ],
)
def test_what_stops_applying_is_one_sentence_and_nothing_is_written(
    github: GitHub, state: dict[str, Any], words: str
) -> None:
    github.change(**state)
    with pytest.raises(InvalidInput, match=words) as raised:
        set_up(load(), this_repository(), apply=True)
    assert "\n" not in str(raised.value)
    assert github.writes() == []


@pytest.mark.parametrize("pair", ["staging", "nowhere=1", "production-approval=1", "staging="])
def test_a_client_id_for_no_environment_is_refused(github: GitHub, pair: str) -> None:
    with pytest.raises(InvalidInput, match="--client-id"):
        set_up(load(), this_repository(), client_ids=[pair])
    assert github.state["calls"] == []


def test_the_command_plans_prints_and_records(github: GitHub, tmp_path: Path) -> None:
    done = run("provision", "github", out=tmp_path / "github-plan.json")
    assert done.returncode == 0, done.stderr
    assert f"gh api --method PUT repos/{REPOSITORY}/environments/training --input -" in done.stdout
    assert f"python -m scripts provision --repository {REPOSITORY}" in done.stdout
    record = json.loads((tmp_path / "github-plan.json").read_text())
    assert record["applied"] is False
    assert github.writes() == []


def test_a_refusal_leaves_no_record_and_no_traceback(github: GitHub, tmp_path: Path) -> None:
    github.change(admin=False)
    done = run("provision", "github", "--apply", out=tmp_path / "none.json")
    assert done.returncode == 3
    assert "admin rights" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "none.json").exists()


def test_the_merge_queue_is_a_rule_when_asked_for() -> None:
    main = load().repository.main
    kinds = [rule["type"] for rule in ruleset(main.model_copy(update={"merge_queue": True}))["rules"]]
    assert kinds[-1] == "merge_queue"


def test_a_value_goes_in_on_stdin_never_as_an_argument(github: GitHub, tmp_path: Path) -> None:
    script = tmp_path / "bin" / "gh"
    spy = tmp_path / "argv"
    script.write_text(f'#!/bin/sh\nprintf "%s\\n" "$*" >>{spy}\ncat >>{spy}.stdin\necho "{{}}"\n')
    api.call("POST", "repos/a/b/actions/variables", {"name": "N", "value": "the-value"})
    assert "the-value" not in spy.read_text()
    assert "the-value" in Path(f"{spy}.stdin").read_text()
    assert github.file.exists()


@pytest.mark.parametrize(
    ("status", "body", "code", "words"),
    [
        (401, '{"message": "Bad credentials"}', 3, "token is not good"),
        (403, '{"message": "Upgrade to GitHub Pro"}', 3, "Upgrade to GitHub Pro"),
        (404, '{"message": "Not Found"}', 3, "nothing of that name"),
        (422, '{"message": "Validation Failed", "errors": ["wait timer: no"]}', 3, "wait timer: no"),
        (422, '{"message": "Validation Failed", "errors": [{"code": "invalid"}]}', 3, "invalid"),
        (429, "{}", 4, "try again"),
        (502, "<html>", 4, "try again"),
    ],
)
def test_each_status_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int, body: str, code: int, words: str
) -> None:
    script = tmp_path / "bin" / "gh"
    script.parent.mkdir()
    script.write_text(f"#!/bin/sh\necho '{body}'\necho 'gh: no (HTTP {status})' >&2\nexit 1\n")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{script.parent}{os.pathsep}{os.environ['PATH']}")
    with pytest.raises(ScriptError, match=words) as raised:
        api.call("GET", "repos/a/b")
    assert raised.value.exit_code == code
    assert "\n" not in str(raised.value)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(st.text(), JSON, min_size=1), st.text(), JSON)
def test_what_github_adds_is_no_difference_and_what_it_lacks_is_one(
    wanted: dict[str, Any], key: str, extra: Any
) -> None:
    assert _covers(wanted, wanted)
    assert _covers({key: extra, **wanted}, wanted)
    for lost in wanted:
        assert not _covers({name: value for name, value in wanted.items() if name != lost}, wanted)


def test_owners_that_github_does_not_know_are_for_a_person_to_mend() -> None:
    state = json.loads(json.dumps(NEW))
    mend(state)
    state["codeowners_errors"] = [{"line": 6, "kind": "Unknown owner"}, {"line": 7, "kind": "Unknown owner"}]
    [said] = [each for each in compared(state) if isinstance(each, str) and "CODEOWNERS" in each]
    assert "(6, 7)" in said


def test_variables_can_be_left_out_of_the_comparison() -> None:
    found = changes(load(), "a/b", lambda _: None, lambda *_: 1, {}, variables=False)
    assert all(isinstance(each, Change) for each in found)


def test_client_ids_come_from_the_record_of_provision(tmp_path: Path) -> None:
    record = tmp_path / "provision.json"
    record.write_text(json.dumps({"clients": {"staging": "one", "training": "two"}}))
    assert recorded(record) == ["staging=one", "training=two"]
    assert recorded(None) == []
    for wrong in ("{}", '{"clients": {}}', '{"clients": 3}', "[]", "not json"):
        record.write_text(wrong)
        with pytest.raises(InvalidInput, match="provision --repository"):
            recorded(record)
    with pytest.raises(InvalidInput, match=r"none\.json"):
        recorded(tmp_path / "none.json")
