"""What a pull request needs: `changes`."""

from pathlib import Path
from typing import Annotated

import typer

from scripts.commands.options import Out
from scripts.outputs import finish, table

app = typer.Typer()


@app.command()
def changes(
    base: Annotated[str, typer.Option(help="The commit to compare with; anything else counts as unknown.")] = "",
    parts: Annotated[Path, typer.Option(help="Patterns of paths by part.")] = Path(".github/changes.yaml"),
    out: Out = Path("out/changes.json"),
) -> None:
    """Say which slow checks the changed paths call for; all of them when it is not known what changed.

    Example: `python -m scripts changes --base "$(git rev-parse origin/main)"`
    """
    from scripts import changes as step

    paths = step.changed_paths(base)
    decided = step.decide(step.load(parts), paths)
    on = [name for name, part in decided.items() if part.run]
    known = "Unknown paths" if paths is None else f"{len(paths)} path{'s' * (len(paths) != 1)}"
    finish(
        step.Changes(base=base, paths=paths, parts=dict(decided)),
        out,
        said=f"{known} changed: " + (f"{' and '.join(on)} must run" if on else "no slow check is needed"),
        then="the checks themselves",
        outputs={name: str(part.run).lower() for name, part in decided.items()},
    )
    table(("check", "runs", "why"), [(name, "yes" if part.run else "no", part.why) for name, part in decided.items()])
