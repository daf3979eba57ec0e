"""The process that is the emulator: starts the children, answers under Azure's host names, takes everything down.

It talks to the launcher through two pipes: stdout carries one JSON line ({"ready": …} or {"error": …}); end-of-file on
stdin means that the launcher is gone, for whatever reason, and that it is time to stop.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import gc
import json
import logging
import os
import secrets
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from emulator.context import Settings, new_storage_key
from emulator.errors import EmulatorError
from emulator.home import claim, lock, recover, saved_settings
from emulator.supervisor import Supervisor

PORTS = ("azurite_port", "server_port", "proxy_port", "mlflow_port")
log = logging.getLogger(__name__)


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def choose_ports(wanted: dict[str, int], before: Settings | None) -> dict[str, int]:
    """A port for each part: the one asked for (EmulatorError if taken), last time's if free, else any free one."""
    chosen: dict[str, int] = {}
    with contextlib.ExitStack() as held:  # all at once, or the same free port could be offered twice
        for name in PORTS:
            port, last = wanted.get(name, 0), getattr(before, name, 0)
            if port and not is_free(port):
                part = name.removesuffix("_port")
                raise EmulatorError(
                    f"Port {port} for {part} is already in use; choose another or leave --{part}-port away."
                )
            probe = held.enter_context(socket.socket())
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port or (last if last and is_free(last) else 0)))
            chosen[name] = probe.getsockname()[1]
    return chosen


def prepare(home: Path, wanted: dict[str, int], operation_seconds: float, faults: str) -> Settings:
    """Settings of this session, saved: keys stay from one `up` to the next, the session's mark is new."""
    before = saved_settings(home)
    settings = Settings(
        home=home,
        operation_seconds=operation_seconds,
        faults=faults,
        session=secrets.token_hex(12),
        storage_key=before.storage_key if before else new_storage_key(),
        identity_secret=before.identity_secret if before else secrets.token_urlsafe(24),
        **choose_ports(wanted, before),  # type: ignore[arg-type]
    )
    for folder in ("azurite", "mlflow", "logs", "promptflow", "azure"):
        (home / folder).mkdir(exist_ok=True)
    (home / "refused.jsonl").touch()
    settings.save()
    return settings


def say(message: dict[str, Any]) -> None:
    with contextlib.suppress(OSError, ValueError):
        print(json.dumps(message), flush=True)


def tell_launcher_and_let_go(settings: Settings) -> None:
    """Report ready, then point stdout at the log: the launcher of `up` is about to leave."""
    ports = {name: getattr(settings, name) for name in PORTS}
    say({"ready": {"home": str(settings.home), "pid": os.getpid(), **ports}})
    sys.stdout.flush()
    os.dup2(2, 1)


async def session(settings: Settings, follow_stdin: bool) -> None:
    """Run until told to stop. EmulatorError when a part does not come up or dies."""
    gc.disable()  # until everything is imported: nothing of it is rubbish
    import uvicorn

    supervisor, loop = Supervisor(settings), asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        loop.add_signal_handler(number, supervisor.stopping.set)
    if follow_stdin:
        loop.add_reader(0, lambda: supervisor.stopping.set() if not os.read(0, 4096) else None)

    class Server(uvicorn.Server):
        @contextlib.contextmanager
        def capture_signals(self) -> Iterator[None]:
            yield  # signals are ours: they stop the children too

    server, serving = None, None
    try:
        supervisor.start_children()
        emulator = await asyncio.to_thread(supervisor.build)
        from emulator.app import make_app

        gc.freeze()
        gc.enable()

        config = uvicorn.Config(
            make_app(emulator),
            ssl_certfile=settings.home / "server.pem",
            ssl_keyfile=str(settings.home / "server.key"),
            lifespan="off",
            log_level="warning",
            access_log=False,
            timeout_graceful_shutdown=2,
            timeout_keep_alive=75,  # longer than clients keep theirs: nobody's request meets a closing connection
        )
        # The protocol is named because asyncio sets TCP_NODELAY only on sockets that say they are TCP.
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", settings.server_port))
        server = Server(config)
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        ready = asyncio.create_task(supervisor.until_healthy())
        stop = asyncio.create_task(supervisor.stopping.wait())
        await asyncio.wait({ready, stop}, return_when=asyncio.FIRST_COMPLETED)
        if not supervisor.stopping.is_set():
            ready.result()
            tell_launcher_and_let_go(settings)
            # The first request for a SAS would wait for this import.
            warm = asyncio.create_task(asyncio.to_thread(emulator.storage.service))
            if sentence := await supervisor.watch():
                raise EmulatorError(sentence)
            await warm
    finally:
        if supervisor.emulator:
            supervisor.emulator.operations.stop()
        if server and serving:
            server.should_exit = True
        await asyncio.to_thread(supervisor.processes.stop_all)
        if serving:
            await serving


def serve(home: Path, wanted: dict[str, int], operation_seconds: float, faults: str, follow_stdin: bool) -> int:
    """Run the emulator in `home`; returns the exit code (0 stopped when told, 3 a user's mistake, 4 a part failed)."""
    for name in ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY"):  # an outer emulator's proxy is not ours
        os.environ.pop(name, None)
        os.environ.pop(name.lower(), None)
    settings: Settings | None = None
    try:
        claim(home)
        with lock(home):
            recover(home)
            (home / "pid").write_text(str(os.getpid()))
            settings = prepare(home, wanted, operation_seconds, faults)
            logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(name)s %(message)s", stream=sys.stderr)
            asyncio.run(session(dataclasses.replace(settings), follow_stdin))
    except EmulatorError as error:
        say({"error": str(error)})
        print(error, file=sys.stderr, flush=True)
        return 4 if settings else 3
    return 0
