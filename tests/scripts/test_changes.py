"""Which slow checks a change calls for: path patterns, the repository's own table, and git as it is."""

import json
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from scripts import changes
from scripts.commands import pull_request
from scripts.errors import InvalidInput

ROOT = Path(__file__).parents[2]
TABLE = changes.Table(everything=["Makefile"], parts={"data": ["data/**"], "demo": ["data/**", "serving/*.py"]})
paths = st.lists(
    st.sampled_from(["data/a.jsonl", "data/deep/b.py", "serving/score.py", "serving/x/y.py", "docs/a.md", "Makefile"])
)


def on(given_paths: list[str] | None, table: changes.Table = TABLE) -> set[str]:
    return {name for name, part in changes.decide(table, given_paths).items() if part.run}


@pytest.mark.parametrize(
    ("pattern", "matches", "not_"),
    [
        ("data/**", ["data/a", "data/b/c"], ["data", "other/data/a", "database/a"]),
        ("*.md", ["a.md"], ["docs/a.md", "a.mdx"]),
        ("**/*.md", ["a.md", "docs/a.md", "x/y/a.md"], ["a.txt"]),
        ("requirements*", ["requirements.txt", "requirements-model.txt"], ["x/requirements.txt"]),
        ("a?c", ["abc"], ["ac", "a/c"]),
        ("a.b", ["a.b"], ["axb"]),
    ],
)
def test_patterns(pattern: str, matches: list[str], not_: list[str]) -> None:
    assert changes.matching([pattern], [*matches, *not_]) == matches


def test_no_known_change_is_no_evidence() -> None:
    assert on(None) == on([]) == {"data", "demo"}


@given(paths, paths)
def test_more_changes_never_turn_a_part_off(some: list[str], more: list[str]) -> None:
    if some:
        assert on(some) <= on([*some, *more])


@given(paths)
def test_a_part_runs_exactly_when_a_path_of_its_changed(some: list[str]) -> None:
    if some:
        for_all = "Makefile" in some
        assert ("data" in on(some)) == (for_all or any(path.startswith("data/") for path in some))
        assert ("demo" in on(some)) == (for_all or bool({*some} - {"serving/x/y.py", "docs/a.md"}))


class TestTheRepositorysOwnTable:
    table = changes.load(ROOT / ".github/changes.yaml")

    @pytest.mark.parametrize(
        ("path", "parts"),
        [
            ("docs/verdict.md", set()),
            ("README.md", set()),
            ("tests/eval/test_gate.py", set()),
            ("data/tickets.jsonl", {"data", "demo"}),
            ("scripts/rollout/decide.py", {"demo"}),
            ("serving/score.py", {"demo"}),
            ("demo.sh", {"demo"}),
            ("requirements.txt", {"data", "demo"}),
            (".github/workflows/pr.yml", {"data", "demo"}),
        ],
    )
    def test_what_a_path_calls_for(self, path: str, parts: set[str]) -> None:
        assert on([path], self.table) == parts

    def test_every_pattern_names_something(self) -> None:
        listed = subprocess.run(
            ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, check=True, capture_output=True, text=True
        )
        there = listed.stdout.splitlines()
        patterns = [*self.table.everything, *(each for part in self.table.parts.values() for each in part)]
        assert not [pattern for pattern in patterns if not changes.matching([pattern], there)]


class TestGit:
    @pytest.fixture
    def repository(self, tmp_path: Path) -> Path:
        self.commit(tmp_path, {"data/a.jsonl": "1", "docs/ä b.md": "1"}, "init", "--quiet")
        return tmp_path

    def commit(self, folder: Path, files: dict[str, str | None], *first: str) -> str:
        if first:
            self.git(folder, *first)
        for name, text in files.items():
            path = folder / name
            path.parent.mkdir(exist_ok=True)
            path.unlink() if text is None else path.write_text(text)
        self.git(folder, "add", "--all")
        self.git(folder, "-c", "user.name=a", "-c", "user.email=a@example.invalid", "commit", "--quiet", "-m", "x")
        return self.git(folder, "rev-parse", "HEAD")

    def git(self, folder: Path, *arguments: str) -> str:
        return subprocess.run(
            ["git", *arguments], cwd=folder, check=True, capture_output=True, text=True
        ).stdout.strip()

    def test_names_as_they_are_and_both_of_a_renamed_file(self, repository: Path) -> None:
        base = self.git(repository, "rev-parse", "HEAD")
        self.commit(repository, {"docs/ä b.md": "2", "data/a.jsonl": None, "data/b.jsonl": "1"})
        assert changes.changed_paths(base, repository) == ["data/a.jsonl", "data/b.jsonl", "docs/ä b.md"]

    def test_what_main_did_meanwhile_is_not_ours(self, repository: Path) -> None:
        self.git(repository, "checkout", "--quiet", "-b", "topic")
        self.commit(repository, {"docs/new.md": "1"})
        self.git(repository, "checkout", "--quiet", "-")
        base = self.commit(repository, {"data/a.jsonl": "2"})
        self.git(repository, "checkout", "--quiet", "topic")
        assert changes.changed_paths(base, repository) == ["docs/new.md"]

    @pytest.mark.parametrize("base", ["", "main", "0" * 40, "--output=/tmp/x", "f" * 41])
    def test_a_base_that_is_not_there_is_unknown(self, repository: Path, base: str) -> None:
        assert changes.changed_paths(base, repository) is None

    def test_outside_a_repository_it_is_unknown(self, tmp_path: Path) -> None:
        assert changes.changed_paths("0" * 40, tmp_path) is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("parts: {}", "everything: Field required"),
        ("everything: []\nparts: {}\nmore: 1", "more: Extra inputs are not permitted"),
        ("everything: []\nparts: {data: [1]}", "parts.data.0: Input should be a valid string"),
        ("[", "not YAML"),
        ("- a", "the table of parts: Input should be a valid dictionary"),
    ],
)
def test_a_wrong_table_is_one_sentence(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "changes.yaml"
    path.write_text(text)
    with pytest.raises(InvalidInput) as error:
        changes.load(path)
    assert str(error.value).startswith(f"{path}: {said}")
    assert "\n" not in str(error.value)


def test_the_command_writes_record_outputs_and_summary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY"):
        monkeypatch.setenv(name, str(tmp_path / name))
    out = tmp_path / "changes.json"
    done = CliRunner().invoke(
        pull_request.app, ["--base", "none", "--parts", str(ROOT / ".github/changes.yaml"), "--out", str(out)]
    )
    assert done.exit_code == 0, done.output
    record = json.loads(out.read_text())
    assert record["paths"] is None
    assert record["parts"]["demo"] == {"run": True, "why": "it is not known what changed"}
    assert (tmp_path / "GITHUB_OUTPUT").read_text() == "data=true\ndemo=true\n"
    assert "| demo | yes | it is not known what changed |" in (tmp_path / "GITHUB_STEP_SUMMARY").read_text()
