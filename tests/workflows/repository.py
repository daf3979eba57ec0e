"""A copy of the working tree, as a git repository that act can run: uncommitted files too, big things left out."""

from __future__ import annotations

import fnmatch
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
ORIGIN = "https://github.com/acme/phi-release-train.git"
# Every job copies the repository, and no workflow needs these.
LEFT_OUT = ("tests/*", "docs/images/*")
# What GitHub knows and act does not.
REWRITES = (
    (re.compile(r"uses: \$/"), "uses: ./"),
    (re.compile(r"(?m)^ +queue: max( *#.*)?\n"), ""),
    (re.compile(r"(?m)^ +deployment: (true|false)( *#.*)?\n"), ""),
)
# On GitHub a job of an environment has that environment's variables, and an identity token that names it. act gets both
# by the environment's name (`Azure.of_environments`).
JOB = re.compile(r"(?ms)^  [\w-]+:\n.*?(?=^  [\w-]+:\n|\Z)")
OF_ENVIRONMENT = re.compile(r"(?m)^    environment: ([\w-]+)\n")
TOKENS_FROM = "ACTIONS_ID_TOKEN_REQUEST_URL"


@dataclass(frozen=True)
class Repository:
    path: Path

    def begin(self) -> None:
        self.git("init", "--quiet", "--initial-branch", "main")
        self.git("remote", "add", "origin", ORIGIN)
        self.git("config", "uploadpack.allowAnySHA1InWant", "true")  # as on GitHub: a checkout asks for a commit
        self.git("config", "pack.window", "0")  # more than a hundred checkouts: half of their time went into packing
        self.git("config", "core.compression", "0")

    def write(self, files: Mapping[str, str | None]) -> None:
        """Create or replace files; None removes one."""
        for name, text in files.items():
            path = self.path / name
            if text is None:
                path.unlink(missing_ok=True)
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")

    def read(self, name: str) -> str:
        return (self.path / name).read_text(encoding="utf-8")

    def commit(self, files: Mapping[str, str | None] | None = None) -> str:
        """Write `files` and commit everything; the new commit's SHA."""
        self.write(files or {})
        self.git("add", "--all", "--force")
        who = ("-c", "user.name=Test", "-c", "user.email=test@example.invalid")
        self.git(*who, "commit", "--quiet", "--allow-empty", "--message", "change")
        self._translate()
        return self.git("rev-parse", "HEAD")

    @property
    def translated(self) -> Path:
        """The workflows as act can read them, over the same commits; a checkout gets the files as they are."""
        return self.path.with_name(f"{self.path.name}-for-act")

    def _translate(self) -> None:
        shutil.rmtree(self.translated, ignore_errors=True)
        shutil.copytree(self.path / ".github", self.translated / ".github")
        shutil.copytree(self.path / ".git", self.translated / ".git")  # act follows no link to one
        for path in (self.translated / ".github").rglob("*.yml"):
            text = path.read_text(encoding="utf-8")
            for pattern, replacement in REWRITES:
                text = pattern.sub(replacement, text)
            path.write_text(JOB.sub(lambda job: _as_its_environment(job[0]), text), encoding="utf-8")

    def git(self, *arguments: str) -> str:
        done = subprocess.run(["git", *arguments], cwd=self.path, check=True, capture_output=True, text=True)
        return done.stdout.strip()


def copy(target: Path, files: Mapping[str, str | None] | None = None, keep: Sequence[str] = ()) -> Repository:
    """Copy the working tree to `target` and commit it. `keep`: patterns of what comes along in spite of LEFT_OUT."""
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    for name in subprocess.check_output(listed, cwd=ROOT, text=True).split("\0"):
        wanted = not _matches(name, LEFT_OUT) or _matches(name, keep)
        if name and wanted and (ROOT / name).is_file():  # a file may be deleted and not yet committed
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)
    repository = Repository(target)
    repository.begin()
    repository.commit(files)
    return repository


def variable(name: str, environment: str) -> str:
    """What act calls a variable of one environment."""
    return f"{name}_{environment.upper().replace('-', '_')}"


def _as_its_environment(job: str) -> str:
    found = OF_ENVIRONMENT.search(job)
    if not found:
        return job
    client, url = (variable(name, found[1]) for name in ("AZURE_CLIENT_ID", TOKENS_FROM))
    job = job.replace("${{ vars.AZURE_CLIENT_ID }}", f"${{{{ vars.{client} || vars.AZURE_CLIENT_ID }}}}")
    token = f"    env:\n      {TOKENS_FROM}: ${{{{ vars.{url} }}}}\n"
    return job.replace(found[0], found[0] + token, 1)


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch.fnmatch(name, pattern) for pattern in patterns)
