"""The user's command: its environment, the signals that reach us while it runs, its exit code."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading

from emulator.child_env import command_environment
from emulator.context import Settings
from emulator.errors import EmulatorError
from emulator.processes import MARK, dies_with_parent

INTERRUPT_SECONDS = 10.0
# Of the user's environment the command must not see these: each would lead the SDK elsewhere or log it in otherwise.
UNSET = (
    *(
        "AZURE_CLIENT_SECRET",
        "AZURE_CLIENT_CERTIFICATE_PATH",
        "AZURE_USERNAME",
        "AZURE_PASSWORD",
        "AZURE_AUTHORITY_HOST",
    ),
    *("AZURE_TOKEN_CREDENTIALS", "ARM_CLOUD_METADATA_URL", "IDENTITY_ENDPOINT", "IDENTITY_HEADER", "IMDS_ENDPOINT"),
    *("MSI_ENDPOINT", "MSI_SECRET", "MLFLOW_TRACKING_URI", "MLFLOW_TRACKING_TOKEN", "MLFLOW_RUN_ID", "AZUREML_RUN_ID"),
    *("ACTIONS_ID_TOKEN_REQUEST_URL", "ACTIONS_ID_TOKEN_REQUEST_TOKEN"),
    *("ALL_PROXY", "all_proxy", "SSL_CERT_DIR"),
)


def ends(process: subprocess.Popen[bytes], seconds: float) -> bool:
    """Whether the process ends by itself within `seconds`."""
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        return False
    return True


def exit_code(returncode: int) -> int:
    """As a shell reports it: 128 + N for a command that signal N ended."""
    return 128 - returncode if returncode < 0 else returncode


def command_env(settings: Settings) -> dict[str, str]:
    """The user's environment, led to the emulator: what would lead it elsewhere is gone."""
    kept = {name: value for name, value in os.environ.items() if name not in UNSET}
    return {**kept, **command_environment(settings), "EMULATOR_HOME": str(settings.home), MARK: settings.session}


class Command:
    """The user's command and the signals that reach us while it runs."""

    def __init__(self, argv: list[str], settings: Settings) -> None:
        try:
            self.process = subprocess.Popen(argv, env=command_env(settings), preexec_fn=dies_with_parent())  # noqa: PLW1509
        except OSError as error:
            raise EmulatorError(f"The command '{argv[0]}' cannot be started: {error.strerror}.") from error
        self.interrupted = 0

    def on_signal(self, number: int, _frame: object) -> None:
        """Pass the signal on, unless the terminal has sent it to the command already; ask, then insist."""
        self.interrupted += 1
        from_terminal = number == signal.SIGINT and sys.stdin.isatty() and os.tcgetpgrp(0) == os.getpgrp()
        if self.interrupted > 1:
            self.process.kill()
        elif not from_terminal:
            self.process.send_signal(number)
        if self.interrupted == 1:
            timer = threading.Timer(INTERRUPT_SECONDS, self.process.kill)
            timer.daemon = True
            timer.start()

    def wait(self, serve: subprocess.Popen[bytes]) -> int:
        """Exit code of the command; when the emulator ends before it, the command is ended too (4)."""
        told = "The local Azure ML stopped while the command ran; see its logs."
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self.on_signal)
        while True:
            try:
                code = self.process.wait(0.2)
            except subprocess.TimeoutExpired:
                pass
            else:
                if code == -signal.SIGKILL and not self.interrupted and ends(serve, 3):  # swept away by it
                    print(told, file=sys.stderr)
                    return 4
                return exit_code(code)
            if serve.poll() is not None:
                print(told, file=sys.stderr)
                self.process.terminate()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self.process.wait(5)
                self.process.kill()
                return 4
