"""The data about GitHub: complete, strict, and its subjects are what Azure will be shown."""

import datetime as dt
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from scripts.errors import InvalidInput
from scripts.github.environments import FILE, Identity, load, subjects, this_repository

NAMES = ["training", "staging", "production-approval", "production", "operations"]


def changed(tmp_path: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    values = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    change(values)
    path = tmp_path / "environments.yaml"
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    return path


def test_the_repositorys_own_data_says_who_must_agree() -> None:
    side = load()
    by_name = {each.name: each for each in side.environments}
    assert list(by_name) == NAMES
    assert all(each.branches == ["main"] for each in side.environments)
    assert by_name["production-approval"].reviewers.all
    assert by_name["production-approval"].prevent_self_review
    assert by_name["production-approval"].azure is None
    # A rollback must never wait for a person, so no other environment has reviewers.
    assert [each.name for each in side.environments if each.reviewers.all] == ["production-approval"]


def test_only_production_may_change_traffic() -> None:
    own = {
        each.name: [a for role in (each.azure.roles if each.azure else []) for a in role.actions]
        for each in load().environments
    }
    traffic = "Microsoft.MachineLearningServices/workspaces/onlineEndpoints/write"
    assert [name for name, actions in own.items() if traffic in actions] == ["production"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda v: v["environments"][0].update(reviewer="me"), "environments.0.reviewer"),
        (lambda v: v["environments"][0].update(name="production"), "named twice"),
        (lambda v: v["environments"][2].update(azure=v["environments"][0]["azure"]), "AZURE_CLIENT_ID"),
        (lambda v: v["environments"][0].update(variables=[]), "AZURE_CLIENT_ID"),
        (lambda v: v["environments"][2].update(reviewers={"users": [], "teams": []}), "prevents self-review"),
        (lambda v: v["environments"][0].update(wait_minutes=50_000), "wait_minutes"),
        (lambda v: v["environments"][0]["reviewers"].update(users=list("abcdefg")), "more than 6"),
        (lambda v: v["environments"][0].update(branches=[]), "branches"),
        (lambda v: v["oidc"].update(subject="repo:{organisation}"), "organisation"),
        (lambda v: v.update(environments=[]), "environments"),
    ],
)
def test_a_mistake_in_the_data_is_one_sentence(tmp_path: Path, change: Any, words: str) -> None:
    with pytest.raises(InvalidInput, match=words) as raised:
        load(changed(tmp_path, change))
    assert "\n" not in str(raised.value)


def test_no_file_and_no_yaml(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="cannot be read"):
        load(tmp_path / "none.yaml")
    (tmp_path / "bad.yaml").write_text("a: [", encoding="utf-8")
    with pytest.raises(InvalidInput, match="not YAML"):
        load(tmp_path / "bad.yaml")


@example(dt.date(2026, 7, 14))
@example(dt.date(2026, 7, 15))
@given(st.dates(dt.date(2015, 1, 1), dt.date(2035, 1, 1)))
def test_the_subject_carries_ids_from_the_day_github_says(created: dt.date) -> None:
    found = subjects(load(), Identity("acme", "phi", 9, 7, created), "staging")
    ids = "repo:acme@9/phi@7:environment:staging"
    assert found == [ids if created >= dt.date(2026, 7, 15) else "repo:acme/phi:environment:staging"]


def test_both_forms_while_nobody_knows_the_day() -> None:
    assert subjects(load(), Identity("acme", "phi"), "staging") == [
        "repo:acme/phi:environment:staging",
        "repo:acme@OWNER_ID/phi@REPO_ID:environment:staging",
    ]


@pytest.mark.parametrize("named", ["acme", "acme/", "/phi", "a/b/c", "acme/ph i", "acme/../x", "acme/..", "a/b?x=1"])
def test_what_is_no_repository_is_refused(named: str) -> None:
    with pytest.raises(InvalidInput, match="OWNER/NAME"):
        this_repository(named)


def test_the_repository_comes_from_the_job(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITHUB_REPOSITORY", "acme/phi")
    monkeypatch.setenv("GITHUB_REPOSITORY_OWNER_ID", "9")
    monkeypatch.setenv("GITHUB_REPOSITORY_ID", "7")
    assert this_repository() == Identity("acme", "phi", 9, 7)
    monkeypatch.delenv("GITHUB_REPOSITORY")
    with pytest.raises(InvalidInput, match="GITHUB_REPOSITORY"):
        this_repository()
