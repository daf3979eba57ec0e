"""The parts of one session: started together, watched while they run."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import time
from pathlib import Path

from emulator import children
from emulator.certificates import ensure_certificates
from emulator.context import Emulator, Settings
from emulator.errors import EmulatorError
from emulator.processes import Processes

START_SECONDS = 60.0
RENEW_SECONDS = 6 * 3600


class Supervisor:
    """Everything of one session, from the first child to the last."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.processes = Processes(settings.session)
        self.children: list[tuple[children.Child, subprocess.Popen[bytes]]] = []
        self.stopping = asyncio.Event()
        self.emulator: Emulator | None = None

    def start_children(self) -> None:
        chain, key = ensure_certificates(self.settings)
        self.start_child(children.azurite(self.settings, chain, key))  # the slowest first
        self.start_child(children.proxy(self.settings))

    def start_child(self, part: children.Child) -> subprocess.Popen[bytes]:
        """Start a part; from then on its end is the session's end."""
        home = self.settings.home
        process = self.processes.start(part.name, part.argv, env=part.env, cwd=home, log=home / f"logs/{part.name}.log")
        self.children.append((part, process))
        return process

    def build(self) -> Emulator:
        """Import and assemble the server's parts; done while the children start."""
        from emulator.child_env import PF_CONFIG
        from emulator.identity import Tokens
        from emulator.operations import Operations
        from emulator.storage import Storage
        from emulator.store import Store
        from emulator.tracking_server import TrackingServer

        settings = self.settings
        (settings.home / "promptflow" / "pf.yaml").write_text(PF_CONFIG)
        store, faults = Store(settings.home / "state.db"), None
        if settings.faults:
            from emulator.fault_plan import Faults

            faults = Faults(Path(settings.faults), settings.home)
        self.emulator = Emulator(
            settings=settings,
            store=store,
            storage=Storage(settings),
            operations=Operations(store, settings.region, settings.operation_seconds),
            processes=self.processes,
            tokens=Tokens(settings.home, settings.tenant_id),
            tracking=TrackingServer(settings, self.start_child),
            faults=faults,
        )
        self.renew_login()
        return self.emulator

    def renew_login(self) -> None:
        """Write the OIDC token that a workflow would get; good for a day."""
        assert self.emulator is not None  # noqa: S101 (called after build)
        path = self.settings.home / "github-oidc.jwt"
        beside = path.with_suffix(".new")
        beside.touch(mode=0o600)
        beside.write_text(self.emulator.tokens.assertion(self.settings.federated_subject))
        beside.replace(path)

    def dead_child(self) -> str | None:
        """A sentence about a part that has ended by itself, with the last line it said."""
        for child, process in self.children:
            code = process.poll()
            if code is not None:
                path = self.settings.home / "logs" / f"{child.name}.log"
                lines = path.read_text(errors="replace").strip().splitlines()
                last = f": {lines[-1][:300]}" if lines else ""
                return f"{child.name} ended by itself with exit code {code}{last} (log: {path})."
        return None

    async def until_healthy(self) -> None:
        """Return when every child answers. EmulatorError when one ends or START_SECONDS pass."""
        waiting, deadline = [child for child, _ in self.children], time.monotonic() + START_SECONDS
        while waiting:
            if sentence := self.dead_child():
                raise EmulatorError(sentence)
            if time.monotonic() > deadline:
                names = ", ".join(child.name for child in waiting)
                raise EmulatorError(
                    f"{names} did not answer within {START_SECONDS:.0f} s; see {self.settings.home}/logs."
                )
            checks = (asyncio.to_thread(children.healthy, child, self.settings.ca) for child in waiting)
            answers = await asyncio.gather(*checks)
            waiting = [child for child, good in zip(waiting, answers, strict=True) if not good]
            if waiting:
                await asyncio.sleep(0.05)

    async def watch(self) -> str | None:
        """Wait for the end of the session; a sentence when it came because a part died."""
        renewed = time.monotonic()
        while not self.stopping.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.stopping.wait(), 0.5)
            if not self.stopping.is_set() and (sentence := self.dead_child()):
                return sentence
            if time.monotonic() - renewed > RENEW_SECONDS:
                self.renew_login()
                renewed = time.monotonic()
        return None
