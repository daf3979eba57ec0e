"""`changes`: which slow parts of a pull request's checks its changed paths call for. When in doubt, all of them."""

import re
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from scripts import records, yaml_files

SHOWN = 3
SHA = re.compile(r"[0-9a-f]{40}")


class Table(BaseModel):
    """`.github/changes.yaml`: patterns of paths by part; `everything` turns on all parts."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    everything: list[str]
    parts: dict[str, list[str]]


class Part(records.Part):
    run: bool
    why: str


class Changes(records.Record):
    """`changes.json`: the parts and why each runs or not; `paths` is null when nobody knows what changed."""

    base: str
    paths: list[str] | None
    parts: dict[str, Part]


def load(path: Path) -> Table:
    """Raises InvalidInput naming the key that is wrong."""
    return yaml_files.read(Table, path, "the table of parts")


def changed_paths(base: str, repository: Path = Path()) -> list[str] | None:
    """Paths that differ between HEAD and where it left `base`; both names of a renamed file. None when unknowable."""
    if not SHA.fullmatch(base):
        return None
    command = ["git", "diff", "--name-only", "--no-renames", "-z", f"{base}...HEAD"]
    try:
        done = subprocess.run(command, cwd=repository, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return sorted(path.decode("utf-8", "replace") for path in done.stdout.split(b"\0") if path)


def decide(table: Table, paths: Sequence[str] | None) -> Mapping[str, Part]:
    """Each part with its reason. No known change is no evidence that a part is not needed: all run."""
    if not paths:
        why = "it is not known what changed" if paths is None else "no path differs"
        return {name: Part(run=True, why=why) for name in table.parts}
    for_all = matching(table.everything, paths)
    return {name: _part(for_all or matching(patterns, paths)) for name, patterns in table.parts.items()}


def matching(patterns: Iterable[str], paths: Iterable[str]) -> list[str]:
    expressions = [_expression(pattern) for pattern in patterns]
    return [path for path in paths if any(expression.fullmatch(path) for expression in expressions)]


def _part(found: Sequence[str]) -> Part:
    if not found:
        return Part(run=False, why="nothing it depends on changed")
    more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    return Part(run=True, why=f"changed: {', '.join(found[:SHOWN])}{more}")


@cache
def _expression(pattern: str) -> re.Pattern[str]:
    """A path pattern as GitHub's path filters have it: * and ? within a folder, ** across folders."""
    pieces = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    tokens = re.findall(r"\*\*/|\*\*|\*|\?|[^*?]+", pattern)
    return re.compile("".join(pieces.get(token, re.escape(token)) for token in tokens), re.DOTALL)
