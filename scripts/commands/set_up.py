"""Day 0 and any bad day: create what is missing (`provision`), say what is wrong (`doctor`)."""

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from scripts import settings
from scripts.commands.github import set_up_github
from scripts.commands.options import Config, Out
from scripts.errors import Refused
from scripts.outputs import console, finish, publish

app = typer.Typer()
provisioning = typer.Typer()
app.add_typer(provisioning, name="provision", invoke_without_command=True)
provisioning.command("github")(set_up_github)


@provisioning.callback()
def provision(
    context: typer.Context,
    config: Config = None,
    out: Out = Path("out/provision.json"),
    plan: Annotated[bool, typer.Option("--plan", help="Only say what is missing; create nothing.")] = False,
) -> None:
    """Create what is missing: group, identity, workspace, cluster, environments, endpoint; `github`: its other side.

    Example: `python -m scripts provision --plan`
    """
    if context.invoked_subcommand:
        return
    from scripts import provision as step

    def tell(kind: str, name: str, state: str) -> None:
        console.print(f"  {state:8} {kind} [bold]{name}[/bold]", highlight=False)

    done = step.provision(settings.load(config), plan_only=plan, tell=tell)
    made = sum(resource.state != "exists" for resource in done.resources)
    did, state = ("Planned", "missing") if plan else ("Provisioned", "created")
    said = f"{did} {done.workspace}: {made} of {len(done.resources)} resources {state}"
    finish(done, out, said=said, then="python -m scripts data")


@app.command()
def doctor(
    config: Config = None,
    only: Annotated[
        list[str] | None, typer.Option("--only", help="Run this check and what it needs; repeatable.")
    ] = None,
    environment: Annotated[
        str,
        typer.Option(
            "--environment", envvar="MLOPS_GITHUB_ENVIRONMENT", help="The GitHub environment of this job, for advice."
        ),
    ] = "",
    github: Annotated[
        bool | None, typer.Option("--github/--no-github", help="Compare GitHub; left out: where gh is signed in.")
    ] = None,
    out: Out = Path("out/doctor.json"),
) -> None:
    """Check that a release can run here: variables, settings, names, sign-in, resources, quota, GitHub.

    Example: `python -m scripts doctor --only sign-in`
    """
    from scripts.doctor import run as step
    from scripts.doctor.context import Context

    marks = {"ok": "[green]✓[/green]", "failed": "[red]✗[/red]", "skipped": "[yellow]•[/yellow]"}

    def tell(finding: step.Finding) -> None:
        console.print(f"  {marks[finding.outcome]} {finding.check}: {escape(finding.said)}", highlight=False)

    done = step.examine(Context(config, environment, github), only or [], tell)
    failed = [finding for finding in done.findings if finding.outcome == "failed"]
    for finding in failed[1:]:  # the first is this command's error
        publish(f"✗ {finding.check}: {finding.said}")
    passed = sum(finding.outcome == "ok" for finding in done.findings)
    said = f"Doctor: {passed} of {len(done.findings)} checks passed, {len(failed)} failed"
    then = "mend what is marked ✗" if failed else "python -m scripts data"
    finish(done, out, said=said, then=then, outputs={"healthy": str(done.healthy).lower()}, good=done.healthy)
    if failed:
        raise Refused(f"{failed[0].check}: {failed[0].said}")
