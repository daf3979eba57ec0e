"""Day 0: create what is missing."""

from pathlib import Path
from typing import Annotated

import typer

from scripts import settings
from scripts.commands.options import Config, Out
from scripts.outputs import console, finish

app = typer.Typer()


@app.command()
def provision(
    config: Config = None,
    out: Out = Path("out/provision.json"),
    plan: Annotated[bool, typer.Option("--plan", help="Only say what is missing; create nothing.")] = False,
) -> None:
    """Create what is missing: group, identity, workspace, cluster, environments, endpoint.

    Example: `python -m scripts provision --plan`
    """
    from scripts import provision as step

    def tell(kind: str, name: str, state: str) -> None:
        console.print(f"  {state:8} {kind} [bold]{name}[/bold]", highlight=False)

    done = step.provision(settings.load(config), plan_only=plan, tell=tell)
    made = sum(resource.state != "exists" for resource in done.resources)
    did, state = ("Planned", "missing") if plan else ("Provisioned", "created")
    said = f"{did} {done.workspace}: {made} of {len(done.resources)} resources {state}"
    finish(done, out, said=said, then="python -m scripts data")
