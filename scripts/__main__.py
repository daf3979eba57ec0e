"""`python -m scripts COMMAND`: every step of the release train. The commands are in scripts/commands."""

import os
import sys

import typer

from eval.promptflow_home import discard
from eval.startup import let_imports_be
from scripts.commands import (
    github,
    judge,
    model,
    money,
    operate,
    pull_request,
    quantise,
    serverless,
    set_up,
    take_back,
    tell,
    traffic,
)
from scripts.errors import ScriptError
from scripts.outputs import one_line, publish

app = typer.Typer(
    no_args_is_help=True, add_completion=False, rich_markup_mode="markdown", pretty_exceptions_enable=False
)
for part in (
    set_up, model, quantise, money, judge, traffic, take_back, serverless, tell, operate, github, pull_request,
):  # fmt: skip
    app.add_typer(part.app)


def main() -> int:
    """Run a command; turn what went wrong into one sentence and the exit code that says who has to act."""
    let_imports_be()
    command = typer.main.get_command(app)
    try:
        return int(command(standalone_mode=False) or 0)
    except KeyboardInterrupt:
        _say("Interrupted.", 130)
        sys.stderr.flush()
        discard()
        # promptflow's threads wait minutes for answers under way, and Python would wait for them.
        os._exit(130)
    except ScriptError as error:
        return _say(str(error), error.exit_code)
    except Exception as error:
        return _foreseen(error)


def _foreseen(error: Exception) -> int:
    """Errors of the packages below and of the command line; anything else is a bug and keeps its traceback."""
    from data.errors import DataError
    from eval.errors import EvalError

    if isinstance(error, DataError | EvalError):
        return _say(str(error), getattr(error, "exit_code", 3))
    if hasattr(error, "exit_code") and hasattr(error, "format_message"):  # a usage error of the command line
        return _say(f"{error.format_message()} (see --help)", 3)
    if type(error).__name__ in ("Abort", "Exit"):
        return int(getattr(error, "exit_code", 1))
    raise error


def _say(sentence: str, code: int) -> int:
    publish(f"✗ {one_line(sentence)}")
    # On one line, or a word of a user's could begin a line and be read as a command to the runner.
    said = f"::error::{one_line(sentence)}" if os.environ.get("GITHUB_ACTIONS") == "true" else f"✗ {sentence}"
    print(said, file=sys.stderr)
    return code


if __name__ == "__main__":
    # Reading a workspace, the SDK would import all of MLflow (0.6 s) to write an address that no command looks at.
    sys.modules["azureml.mlflow"] = None  # type: ignore[assignment]
    sys.exit(main())
