"""Runs one workflow with act, in host mode and offline, and says what it came to."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from emulator.processes import MARK, sweep
from tests.workflows.isolation import Isolation
from tests.workflows.log import Entry, Names, Result, note, parsed, step_of
from tests.workflows.repository import ROOT, Repository

HERE = Path(__file__).parent
STUBS = HERE / "actions"
USES = re.compile(r"uses:\s*([\w.-]+/[\w.-]+)(/[\w./-]+)?@(\w+)")
TOKEN = "token-for-tests-0123456789"  # long: act masks every occurrence of a secret's value in the log
Event = Mapping[str, Any]


@dataclass(frozen=True)
class Act:
    """A repository, and a folder where artifacts and the like are kept between runs."""

    repository: Repository
    state: Path
    isolation: Isolation
    environment: Mapping[str, str] = field(default_factory=dict)  # for every step of every run
    variables: Mapping[str, str] = field(default_factory=dict)  # the repository's

    def run(
        self,
        event: str,
        workflow: str,
        *,
        payload: Event | None = None,
        inputs: Mapping[str, Any] | None = None,
        vars: Mapping[str, str] | None = None,
        env: Mapping[str, str] | None = None,
        secrets: Mapping[str, str] | None = None,
        job: str | None = None,
        kill: str | Callable[[Entry], bool] | None = None,
        kill_when: Callable[[], bool] | None = None,
        run_id: int | None = None,
        attempt: int = 1,
        gh: Mapping[str, str] | None = None,
        tools: Path | None = None,
        actor: str = "someone",
        seconds: float = 300,
    ) -> Result:
        """Run `workflow` (a file name) for `event`.

        `kill`: "job/step" kills the whole run, as a dying runner would, when that step starts; "after:job/step" when it
        has ended; or a function of a line of act's log. `kill_when` is asked all the time, and kills at the first True.
        `run_id` of an earlier result makes this a re-run, which sees its artifacts. `gh`: what `gh` prints, by the
        beginning of its arguments ("issue list"); "@FILE" waits for that file. `tools`: a folder that comes first on
        PATH, for a `gh` with more to it. `vars` and `env` are laid over those of this object.
        """
        self.state.mkdir(parents=True, exist_ok=True)
        number = run_id or self._next_id()
        artifacts = self.state / "artifacts" / str(number)
        result = Result(code=-1, killed=False, run_id=number, artifacts=artifacts)
        calls = self.state / f"gh-{uuid.uuid4().hex}.jsonl"
        mark = f"act-{uuid.uuid4().hex}"
        command = self._command(event, workflow, payload, inputs, actor, job)
        given = {**self.isolation.environment, **self.environment, **(env or {})}
        given |= {"GITHUB_RUN_ID": str(number), "GITHUB_RUN_ATTEMPT": str(attempt), "GITHUB_RUN_NUMBER": "1"}
        for name, value in given.items():
            command += ["--env", f"{name}={value}"]
        for name, value in {**self.variables, **(vars or {})}.items():
            command += ["--var", f"{name}={value}"]
        for name, value in {"GITHUB_TOKEN": TOKEN, **(secrets or {})}.items():
            command += ["--secret", f"{name}={value}"]
        clean = self._process_environment(calls, gh or {}) | {MARK: mark}
        clean["PATH"] = f"{tools}:{clean['PATH']}" if tools else clean["PATH"]
        process = subprocess.Popen(
            self.isolation.argv(command),
            env=clean,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        fatal = _killer(kill)
        overdue = threading.Event()
        late = threading.Timer(seconds, lambda: (overdue.set(), sweep(mark)))
        late.start()
        threading.Thread(target=_watch, args=(process, kill_when, result, mark), daemon=True).start()
        names = Names(self.repository.path, workflow)
        try:
            for line in _lines(process):
                entry = parsed(line)
                if entry is None:
                    result.log.append(line)
                    continue
                entry["name"] = names.job(entry)
                note(result, entry)
                if not result.killed and fatal(entry):
                    result.killed = True
                    process.kill()
                    sweep(mark)
            result.code = process.wait()
        finally:
            late.cancel()
            process.kill()
            sweep(mark)  # what a step left running in the background ends with its runner
        if overdue.is_set():
            raise TimeoutError(f"{workflow} took longer than {seconds} s\n{result}")
        if calls.exists():
            result.gh = [json.loads(line) for line in calls.read_text().splitlines()]
        return result

    def _command(
        self,
        event: str,
        workflow: str,
        payload: Event | None,
        inputs: Mapping[str, Any] | None,
        actor: str,
        job: str | None,
    ) -> list[str]:
        path = self.state / f"event-{uuid.uuid4().hex}.json"
        full = {"repository": {"default_branch": "main", "full_name": "acme/phi-release-train", "fork": False}}
        path.write_text(json.dumps({**full, **({"inputs": _texts(inputs)} if inputs else {}), **(payload or {})}))
        command = [str(Path(sys.executable).parent / "act"), event, "--json"]
        command += ["--directory", str(self.repository.translated), "--eventpath", str(path), "--actor", actor]
        command += ["--workflows", str(self.repository.translated / ".github/workflows" / workflow)]
        command += ["--platform", "ubuntu-24.04=-self-hosted", "--no-cache-server", "--no-skip-checkout"]
        command += ["--defaultbranch", "main", "--action-cache-path", str(self.state / "act")]
        for name, sha in sorted(pins(self.repository.path)):
            command.append(f"--local-repository={name}@{sha}={STUBS / name}")
        return command + (["--job", job] if job else [])

    def _process_environment(self, calls: Path, answers: Mapping[str, str]) -> dict[str, str]:
        """act's own environment, which in host mode every step sees: nothing of the developer's."""
        home, tools = self.state / "home", self.state / "bin"
        home.mkdir(exist_ok=True)
        tools.mkdir(exist_ok=True)
        python = Path(sys.base_prefix) / "bin" / "python3"
        gh = tools / "gh"
        gh.write_text(f"#!{python}\n{(HERE / 'gh.py').read_text()}")
        gh.chmod(0o755)
        found = (shutil.which(tool) for tool in ("bash", "git", "make", "jq", "node", "npm", "env"))
        path = [str(tools), *dict.fromkeys(str(Path(each).parent) for each in found if each), "/usr/sbin", "/sbin"]
        return {
            "PATH": ":".join(path),
            "HOME": str(home),
            "LANG": "C.UTF-8",
            "ACT_DISABLE_VERSION_CHECK": "1",
            "STUB_PYTHON": str(python),
            "STUB_ROOT": str(ROOT),
            "STUB_REPOSITORY": str(self.repository.path),
            "STUB_ARTIFACTS": str(self.state / "artifacts"),
            "STUB_GH_LOG": str(calls),
            "STUB_GH_ANSWERS": json.dumps(dict(answers)),
        }

    def _next_id(self) -> int:
        """A number that no run of this folder has had."""
        counter = self.state / "last-run-id"
        number = int(counter.read_text()) + 1 if counter.exists() else 1001
        counter.write_text(str(number))
        return number


def pins(repository: Path) -> set[tuple[str, str]]:
    """(OWNER/NAME, SHA) of every action that is not of this repository."""
    files = [*(repository / ".github").rglob("*.yml")]
    return {(m[1], m[3]) for file in files for m in USES.finditer(file.read_text(encoding="utf-8"))}


def _texts(inputs: Mapping[str, Any]) -> dict[str, str]:
    """As the form of a dispatch sends them: text only."""
    return {name: str(value).lower() if isinstance(value, bool) else str(value) for name, value in inputs.items()}


def _watch(process: subprocess.Popen[str], when: Callable[[], bool] | None, result: Result, mark: str) -> None:
    while when and process.poll() is None:
        if when():
            result.killed = True
            process.kill()
            sweep(mark)
            return
        time.sleep(0.02)


def _killer(kill: str | Callable[[Entry], bool] | None) -> Callable[[Entry], bool]:
    if kill is None:
        return lambda _: False
    if callable(kill):
        return kill
    where = kill.removeprefix("after:")
    ended = where != kill

    def fatal(entry: Entry) -> bool:
        step = step_of(entry)
        if where not in (f"{entry['name']}/{step}", f"{entry['name']}/{entry.get('step')}"):
            return False
        return "stepResult" in entry if ended else entry.get("msg", "").lstrip().startswith("⭐ Run Main")

    return fatal


def _lines(process: subprocess.Popen[str]) -> Iterator[str]:
    assert process.stdout
    for line in process.stdout:
        yield line.rstrip("\n")
