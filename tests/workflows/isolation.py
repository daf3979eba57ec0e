"""A network of its own for workflow tests: loopback and nothing else, shared by the local Azure ML and every act run.

One process holds the namespaces open; others join it (`Isolation.argv`). Where the kernel does not allow that (a Mac, a
locked container) commands run as they are, behind a proxy variable that leads nowhere.
"""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from functools import cache

from emulator.processes import dies_with_parent

# /dev/ptmx: with a pseudo-terminal act loses the last lines of a step that fails.
ENTERED = "ip link set lo up && mount --bind /dev/null /dev/ptmx && echo entered && exec sleep infinity"
NEW = ["unshare", "--net", "--mount", "--map-root-user", "--kill-child", "sh", "-c", ENTERED]
NOWHERE = "http://127.0.0.1:9"  # the discard port: nothing listens there


@dataclass(frozen=True)
class Isolation:
    """`holder` is None where namespaces are not allowed."""

    holder: subprocess.Popen[str] | None

    def argv(self, command: list[str]) -> list[str]:
        """`command` as it is started inside."""
        if self.holder is None:
            return command
        join = ["nsenter", "--target", str(self.holder.pid), "--user", "--net", "--mount", "--preserve-credentials"]
        join.append("--wd=.")  # entering a mount namespace forgets the folder
        return [*join, "--", *command]

    @property
    def environment(self) -> dict[str, str]:
        """What steps get when nobody gives them a proxy of their own."""
        if self.holder:
            return {}
        return dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"), NOWHERE)

    def close(self) -> None:
        if self.holder:
            self.holder.kill()
            self.holder.wait()


def start() -> Isolation:
    if not (shutil.which("unshare") and shutil.which("nsenter")):
        return Isolation(None)
    holder = subprocess.Popen(
        NEW,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        preexec_fn=dies_with_parent(),  # noqa: PLW1509 (it only calls prctl)
    )
    assert holder.stdout
    if holder.stdout.readline().strip() != "entered":
        holder.kill()
        holder.wait()
        return Isolation(None)
    return Isolation(holder)


@cache
def possible() -> bool:
    """Whether this machine allows it; for pytest's header."""
    made = start()
    made.close()
    return made.holder is not None
