"""The fault plan in force: read from its file, followed when that changes, counted, and logged strike by strike.

The plan of a running emulator is changed by writing its file anew: the file is looked at before each question, and a
fault that reads as before keeps its count. Each strike is a line in HOME/faults.jsonl.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import yaml
from pydantic import ValidationError

from emulator.errors import EmulatorError
from emulator.fault_matching import Seen, Turn
from emulator.faults import Fault, Plan
from emulator.request_log import redact

if TYPE_CHECKING:
    from emulator.fault_traffic import Before

EXAMPLE = "emulator/faults.example.yaml"
PLAINLY = {
    "extra_forbidden": "no such key here",
    "missing": "it is missing",
    "model_type": "a plan is a mapping with the key faults",
    "model_attributes_type": "a fault is a mapping with a kind and a name",
    "tuple_type": "it must be a list",
    "union_tag_not_found": "it has no kind",
    "union_tag_invalid": "kind {tag} is none of {expected_tags}",
}
log = logging.getLogger(__name__)
F = TypeVar("F", bound=Fault)


def load(path: Path) -> Plan:
    """The plan in a file. EmulatorError with one sentence (file, key, how to mend) when it is none."""
    try:
        return Plan.model_validate(yaml.safe_load(path.read_text()))
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not text"
        raise EmulatorError(f"The fault plan {path} cannot be read ({why}); give --faults a YAML file.") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" in line {mark.line + 1}" if mark else ""
        raise EmulatorError(f"The fault plan {path} is not YAML{where}; {EXAMPLE} shows how it looks.") from error
    except ValidationError as error:
        raise EmulatorError(f"The fault plan {path} is wrong{_first(error)}; see {EXAMPLE}.") from error


def _first(error: ValidationError) -> str:
    """Where the first mistake is and what it is, in words."""
    found: dict[str, Any] = dict(error.errors(include_url=False)[0])
    # Within a fault pydantic names the kind as a step of its own: faults, 2, "slow", "seconds".
    parts = [part for at, part in enumerate(found["loc"]) if not (at == 2 and found["loc"][0] == "faults")]
    where = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts).lstrip(".")
    what = PLAINLY.get(found["type"], found["msg"].removeprefix("Value error, ")).format(**found.get("ctx", {}))
    return f" at {where}: {what}" if where else f": {what}"


class Faults:
    """The plan in force, how far each fault has come, and the log of strikes. EmulatorError when the plan is bad."""

    def __init__(self, path: Path, home: Path) -> None:
        self._path, self._log, self.lock = path, home / "faults.jsonl", threading.RLock()
        self.before: dict[str, Before] = {}  # stale endpoints, by ARM id
        self._turns: dict[str, Turn] = {}
        self._version = self._now_on_disk()
        self._adopt(load(path))
        self._log.touch()

    def strike(self, kind: type[F], call: Seen, means: Callable[[F], bool] = lambda _: True) -> F | None:
        """The first fault of that kind whose turn the call is; every one that means it counts it."""
        with self.lock:
            self._follow()
            now, found = time.monotonic(), None
            for turn in self._turns.values():
                fault = turn.fault
                if isinstance(fault, kind) and means(fault) and turn.comes(call, now) and found is None:
                    turn.struck += 1
                    found = fault
            if found is not None:
                self.note(found, str(call))
            return found

    def holds(self, fault: Fault) -> bool:
        """Whether the plan still says exactly this."""
        with self.lock:
            self._follow()
            turn = self._turns.get(fault.name)
            return turn is not None and turn.fault == fault

    def note(self, fault: Fault, request: str, **more: object) -> None:
        """One line for one strike."""
        self._write({"kind": getattr(fault, "kind", ""), "name": fault.name, "request": request, **more})

    def _write(self, entry: dict[str, object]) -> None:
        line = json.dumps(redact({"time": time.time(), **entry}))
        with self.lock, self._log.open("a") as file:
            file.write(line + "\n")

    def _now_on_disk(self) -> tuple[int, int, int]:
        try:
            found = self._path.stat()
        except OSError:
            return (0, 0, 0)
        return (found.st_mtime_ns, found.st_size, found.st_ino)

    def _follow(self) -> None:
        """Read the file again when it is another than before; while it is no good plan, the last good one stays."""
        version = self._now_on_disk()
        if version == self._version:
            return
        self._version = version
        try:
            self._adopt(load(self._path))
        except EmulatorError as error:
            log.warning("%s The plan before stays in force.", error)
            self._write({"kind": "plan", "error": str(error)})

    def _adopt(self, plan: Plan) -> None:
        now, before = time.monotonic(), self._turns
        self._turns = {fault.name: Turn(fault, plan.seed, now) for fault in plan.faults}
        for name, turn in before.items():
            if name in self._turns and (turn.fault, turn.seed) == (self._turns[name].fault, plan.seed):
                self._turns[name] = turn
