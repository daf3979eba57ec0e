"""Release notes: every number comes from a record, what is missing is said, only a promoted model is published."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from scripts.errors import InvalidInput, Refused
from scripts.github.notes import cell, write
from tests.scripts.github.conftest import GitHub
from tests.scripts.github.gh import REPOSITORY

FIXTURES = Path(__file__).parents[1] / "fixtures" / "report"
SECTIONS = ("Made from", "Verdict", "Traffic", "Approved by", "How to roll back")


@pytest.fixture
def promoted(tmp_path: Path) -> Path:
    return Path(shutil.copytree(FIXTURES / "promoted", tmp_path / "promoted"))


def record(folder: Path, name: str) -> dict[str, Any]:
    return json.loads((folder / name).read_text())  # type: ignore[no-any-return]


def change(folder: Path, name: str, **values: Any) -> None:
    (folder / name).write_text(json.dumps({**record(folder, name), **values}))


def section(markdown: str, title: str) -> str:
    return markdown.split(f"## {title}\n", 1)[1].split("\n## ", 1)[0].strip()


def test_the_notes_hold_what_the_records_hold(promoted: Path, tmp_path: Path) -> None:
    change(promoted, "rollout.json", approved_by="octocat")
    done = write(promoted, tmp_path / "notes.md")
    text = (tmp_path / "notes.md").read_text()
    model, verdict, rollout = (record(promoted, f"{name}.json") for name in ("model", "verdict", "rollout"))
    assert done.missing == []
    assert done.tag == f"model-{model['version']}"
    assert text.startswith(f"# {model['name']} {model['version']}\n")
    for part in (model["digest"], *filter(None, model["lineage"].values())):
        assert part in section(text, "Made from") or part == model["lineage"]["recipe"]
    assert f"**{verdict['outcome']}**: " in section(text, "Verdict")
    for metric in verdict["metrics"]:
        assert (f"| {metric['name']} |" in section(text, "Verdict")) == metric["primary"]
    assert section(text, "Traffic").count(" % |") == len(rollout["steps"])
    assert section(text, "Approved by") == "octocat"
    assert f"gh workflow run rollback.yml -f endpoint={rollout['endpoint']}" in section(text, "How to roll back")
    assert f"--to {rollout['stable']}" in section(text, "How to roll back")


@pytest.mark.parametrize("name", ["dataset", "training", "model", "verdict", "rollout"])
def test_a_missing_record_is_said_to_be_missing(promoted: Path, tmp_path: Path, name: str) -> None:
    (promoted / f"{name}.json").unlink()
    done = write(promoted, tmp_path / "notes.md")
    text = (tmp_path / "notes.md").read_text()
    assert done.missing == [f"{name}.json"]
    assert f"> {name}.json is missing." in text
    assert all(f"## {title}\n" in text for title in SECTIONS)


def test_nobody_approved_is_not_left_out(promoted: Path, tmp_path: Path) -> None:
    write(promoted, tmp_path / "notes.md")
    assert section((tmp_path / "notes.md").read_text(), "Approved by") == "*not on record*"


def test_a_first_release_has_nothing_to_go_back_to(promoted: Path, tmp_path: Path) -> None:
    change(promoted, "rollout.json", stable="")
    write(promoted, tmp_path / "notes.md")
    assert section((tmp_path / "notes.md").read_text(), "How to roll back").startswith("This was the first release")


def test_a_changed_verdict_counts_as_missing(promoted: Path, tmp_path: Path) -> None:
    change(promoted, "verdict.json", reason="all is well")
    done = write(promoted, tmp_path / "notes.md")
    text = (tmp_path / "notes.md").read_text()
    assert done.missing == ["verdict.json"]
    assert "all is well" not in text
    assert "its digest does not fit" in text


def test_nothing_on_record_is_nothing_to_write_about(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for folder in ("empty", "none"):
        with pytest.raises(InvalidInput):
            write(tmp_path / folder, tmp_path / "notes.md")
    assert not (tmp_path / "notes.md").exists()


def test_publishing_is_idempotent_and_corrects(promoted: Path, tmp_path: Path, github: GitHub) -> None:
    def publish() -> str | None:
        return write(promoted, tmp_path / "notes.md", publish=REPOSITORY, commit="c" * 40).published

    assert publish() == "created"
    [release] = github.state["releases"]
    assert release["tag_name"] == f"model-{record(promoted, 'model.json')['version']}"
    assert release["target_commitish"] == "c" * 40
    assert release["body"] == (tmp_path / "notes.md").read_text()
    writes = github.writes()
    assert publish() == "unchanged"
    assert github.writes() == writes
    change(promoted, "rollout.json", approved_by="octocat")
    assert publish() == "updated"
    assert len(github.state["releases"]) == 1
    assert "octocat" in github.state["releases"][0]["body"]


@pytest.mark.parametrize("scenario", ["refused", "rollback"])
def test_only_a_promoted_model_becomes_a_release(scenario: str, tmp_path: Path, github: GitHub) -> None:
    with pytest.raises(Refused):
        write(FIXTURES / scenario, tmp_path / "notes.md", publish=REPOSITORY, commit="c" * 40)
    assert github.writes() == []


def test_no_commit_and_no_model_publish_nothing(promoted: Path, tmp_path: Path, github: GitHub) -> None:
    with pytest.raises(InvalidInput, match="--commit"):
        write(promoted, tmp_path / "notes.md", publish=REPOSITORY, commit=None)
    (promoted / "model.json").unlink()
    with pytest.raises(Refused, match=r"model\.json"):
        write(promoted, tmp_path / "notes.md", publish=REPOSITORY, commit="c" * 40)
    assert github.writes() == []


def test_text_of_a_record_cannot_leave_its_place() -> None:
    shown = cell("a | b\n# c `d` <e> @acme")
    assert "\n" not in shown
    assert "@acme" not in shown
    assert "`" not in shown
    assert "\\|" in shown
