"""The folders' import arrows (docs/architecture.md): each production folder may import only what its row allows."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
OURS = {"scripts", "training", "convert", "serving", "flow", "eval", "data", "emulator", "tests"}
MAY_IMPORT = {
    "scripts": {"scripts", "eval", "data"},
    "training": {"training"},
    "convert": {"convert"},
    "serving": {"serving"},
    "flow": {"flow"},
    "eval": {"eval"},
    "data": {"data"},
    "emulator": {"emulator"},
}


def imported(tree: ast.AST) -> set[str]:
    """Top-level names of every module a file imports, wherever in the file."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.split(".")[0])
    return names


def python_files(folder: str) -> list[Path]:
    return [path for path in (ROOT / folder).rglob("*.py") if "node_modules" not in path.parts]


@pytest.mark.parametrize("folder", sorted(MAY_IMPORT))
def test_a_folder_imports_only_what_it_may(folder: str) -> None:
    files = python_files(folder)
    assert files, f"{folder}/ has no Python files: the table of arrows is out of date"
    for path in files:
        across = imported(ast.parse(path.read_text(encoding="utf-8"))) & OURS - MAY_IMPORT[folder]
        assert not across, f"{path.relative_to(ROOT)} imports {across}"


@pytest.mark.parametrize("folder", sorted(set(MAY_IMPORT) - {"emulator"}))
def test_production_code_does_not_know_the_emulator(folder: str) -> None:
    for path in python_files(folder):
        assert "emulator" not in path.read_text(encoding="utf-8").lower(), (
            f"{path.relative_to(ROOT)} names the emulator"
        )


def test_a_forbidden_import_would_be_seen() -> None:
    assert imported(ast.parse("def f():\n    from emulator.store import Store\n    import eval.gate")) == {
        "emulator",
        "eval",
    }
