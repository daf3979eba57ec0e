"""`python -m emulator`: a local Azure ML to run a command against, or to keep up for a shell."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from emulator.errors import EmulatorError
from emulator.home import configured_home

EXAMPLES = """examples:
  python -m emulator run -- python -m scripts doctor     start, run the command against it, stop; its exit code
  python -m emulator up                                  keep one running ...
  eval "$(python -m emulator env)"                       ... and lead this shell to it
State is kept in $EMULATOR_HOME (default .emulator); two with different homes run side by side.
Exit codes: the command's own for `run`; 0 done, 1 not running (status), 3 invalid input, 4 a part of it failed."""
PARTS = ("azurite", "server", "proxy", "mlflow")


def seconds(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 600:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 600 seconds")
    return value


def port(text: str) -> int:
    value = int(text)
    if not 0 < value < 65536:
        raise argparse.ArgumentTypeError(f"{text} is not a port (1 to 65535)")
    return value


class Parser(argparse.ArgumentParser):
    def error(self, message: str) -> None:  # type: ignore[override]
        """A wrong option is invalid input: exit code 3, as everywhere in this repository."""
        self.print_usage(sys.stderr)
        self.exit(3, f"{self.prog}: {message}\n")


def parser() -> argparse.ArgumentParser:
    top = Parser(
        "python -m emulator", description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawTextHelpFormatter
    )
    commands = top.add_subparsers(dest="command", required=True, metavar="run|up|down|status|env|clean")
    starting = Parser(add_help=False)
    starting.add_argument(
        "--operation-seconds",
        type=seconds,
        default=os.environ.get("EMULATOR_OPERATION_SECONDS", "0.1"),
        help="how long each long-running operation takes at least (default 0.1; env EMULATOR_OPERATION_SECONDS)",
    )
    for part in PARTS:
        starting.add_argument(
            f"--{part}-port", type=port, default=0, help=f"fixed port of {part} (default: a free one)"
        )
    starting.add_argument(
        "--faults",
        type=Path,
        metavar="PLAN.yaml",
        help="misbehave as this plan says (default: none; env EMULATOR_FAULTS); emulator/faults.example.yaml shows all",
    )
    run = commands.add_parser("run", parents=[starting], help="start, run a command against it, stop")
    run.add_argument("argv", nargs=argparse.REMAINDER, metavar="-- COMMAND", help="the command and its arguments")
    commands.add_parser("up", parents=[starting], help="start and keep running")
    for name, text in (
        ("down", "stop; the state is kept"),
        ("status", "what runs, and on which ports"),
        ("env", "shell lines that lead this shell to it"),
        ("clean", "delete the state"),
    ):
        commands.add_parser(name, help=text)
    serve = commands.add_parser("serve", parents=[starting], help=argparse.SUPPRESS)
    serve.add_argument("--home", type=Path, required=True)
    serve.add_argument("--follow-stdin", action="store_true")
    return top


def fault_plan(given: Path | None) -> Path | None:
    """The plan to start with, of which a mistake is told before anything of the last run is deleted."""
    path = given or Path(os.environ.get("EMULATOR_FAULTS") or "")
    if path == Path():
        return None
    from emulator.fault_plan import load

    load(path)
    return path


def main(argv: list[str] | None = None) -> int:
    args = parser().parse_args(argv)
    home = configured_home()
    ports = {f"{part}_port": value for part in PARTS if (value := getattr(args, f"{part}_port", 0))}
    try:
        if args.command == "serve":
            from emulator.serve import serve

            plan = str(args.faults or "")
            return serve(args.home.absolute(), ports, args.operation_seconds, plan, args.follow_stdin)
        from emulator import launcher

        if args.command in ("run", "up"):
            where = home / "run" if args.command == "run" else home
            options = launcher.Options(where, ports, args.operation_seconds, fault_plan(args.faults))
            if args.command == "up":
                return launcher.up(options)
            return launcher.run(options, args.argv[1:] if args.argv[:1] == ["--"] else args.argv)
        return {"down": launcher.down, "status": launcher.status, "env": launcher.env, "clean": launcher.clean}[
            args.command
        ](home)
    except EmulatorError as error:
        print(error, file=sys.stderr)
        return 3
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
