"""Day 0 and any bad day: create what is missing (`provision`), say what is wrong (`doctor`)."""

import os
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.padding import Padding
from rich.text import Text

from scripts import settings
from scripts.commands.github import set_up_github
from scripts.commands.options import Config, Out
from scripts.errors import InvalidInput, Refused
from scripts.outputs import console, finish, publish, table, told

if TYPE_CHECKING:
    from scripts.cost.standing import Month

# What is in its place; everything else is on something.
WITHIN = (
    *("provider", "resource group", "managed identity", "container registry"),
    *("workspace", "compute cluster", "environment", "endpoint", "action group"),
)
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
    repository: Annotated[
        str | None,
        typer.Option("--repository", help="OWNER/NAME: also identities, credentials and roles of its environments."),
    ] = None,
    destroy: Annotated[
        bool, typer.Option("--destroy", help="Delete what provision made; without --name only say what that is.")
    ] = False,
    name: Annotated[str, typer.Option("--name", help="With --destroy: the resource group's name, typed out.")] = "",
) -> None:
    """Create what is missing in Azure, who may do what included; `github`: the other side of it.

    Example: `python -m scripts provision --plan --repository acme/phi-train`
    """
    if context.invoked_subcommand:
        return
    values = settings.load(config)
    if destroy:
        _destroy(values, name, out)
    elif name:
        raise InvalidInput("--name goes with --destroy: leave it out, or say --destroy.")
    else:
        _provision(values, repository, plan, out)


def _provision(values: settings.Settings, repository: str | None, plan: bool, out: Path) -> None:
    """Look at everything, and unless only a `plan` was asked for make what is missing."""
    from scripts import provision as step
    from scripts.github import environments, setup

    github = None
    if repository:
        github = step.GitHub(environments.load(), setup.known(environments.this_repository(repository)))

    def tell(part: step.Provisioned) -> None:
        console.print(f"  {part.state:8} {part.kind} [bold]{escape(part.name)}[/bold]", highlight=False)
        if plan and part.where:
            _note(f"{'in' if part.kind in WITHIN else 'on'} {part.where}: {part.why}", 11)

    done = step.provision(values, github=github, plan_only=plan, tell=tell)
    if not values.alert_emails:
        told(f"Alerts: {step.NOBODY}.")
    if plan:
        things = [one for one in done.resources if one.kind != "role assignment"]  # they have a table of their own
        rows = [(f"{one.kind} {one.name}", one.where, one.why, one.state) for one in things]
        table(("what", "where", "why", ""), rows, terminal=False)
        granted = [(one.who, one.role, one.scope, one.why, one.replaces, one.state) for one in done.roles]
        table(("who", "gets the role", "on", "because it", "instead of", ""), granted, terminal=False)
        if done.month:
            _month(done.month)
    counts = Counter(resource.state for resource in done.resources)
    did, state, changed = ("Planned", "missing", "differs") if plan else ("Provisioned", "created", "changed")
    said = f"{did} {done.workspace}: {counts[state]} of {len(done.resources)} resources {state}"
    said += f", {counts[changed]} {changed}" if counts[changed] else ""
    said += f", {counts['hidden']} not ours to see (ask an Owner to run this)" if counts["hidden"] else ""
    then = f"python -m scripts provision github --apply --clients {out}" if done.clients else "python -m scripts data"
    named = f" --repository {repository}" if repository else ""
    outputs = {name: str(counts[name]) for name in ("missing", "created", "changed", "hidden")}
    if plan:
        then = f"python -m scripts provision{named}" if counts[state] or counts[changed] else "python -m scripts doctor"
    finish(done, out, said=said, then=then, outputs=outputs)


def _note(text: str, indent: int) -> None:
    """A dim remark below a line, however many lines of its own it needs."""
    console.print(Padding(Text(text, style="dim"), (0, 0, 0, indent), expand=False), soft_wrap=False)


def _month(month: "Month") -> None:
    """The plan's last lines: what it will cost for being there."""
    from scripts.cost import standing

    console.print("  What it costs a month:")
    priced = [(each.what, standing.word(each, month.currency), each.said) for each in month.parts]
    for what, amount, said in priced:
        console.print(f"  {amount:>14}  [bold]{escape(what)}[/bold]", highlight=False)
        _note(said, 18)
    table(("what costs", "a month", ""), priced, terminal=False)
    told(f"A month: {month.said}.")


def _destroy(values: settings.Settings, name: str, out: Path) -> None:
    """Say what would go; with the group's name typed out, let it go."""
    from scripts.provision import destroy as step

    def tell(part: step.Removed) -> None:
        why = f" ({escape(part.why)})" if part.why else ""
        console.print(f"  {part.state:8} {part.kind} [bold]{escape(part.name)}[/bold]{why}", highlight=False)

    done = step.destroy(values, typed=name, tell=tell)
    counts = Counter(part.state for part in done.parts)
    did = f"{counts['deleted']} deleted" if name else f"{counts['goes']} would go"
    said = f"Resource group {values.resource_group}: {did}, {counts['stays']} stay"
    then = "nothing" if name else f"python -m scripts provision --destroy --name {values.resource_group}"
    outputs = {"deleted": str(counts["deleted"]), "stays": str(counts["stays"])}
    finish(done, out, said=said, then=then, outputs=outputs)


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
    recipe: Annotated[str, typer.Option("--recipe", help="Also what this recipe's route needs of Azure.")] = "",
    out: Out = Path("out/doctor.json"),
) -> None:
    """Check that a release can run here: settings, names, sizes, sign-in, resources, roles, quota, GitHub.

    Example: `python -m scripts doctor --only sign-in`
    """
    from scripts.doctor import run as step
    from scripts.doctor.context import Context

    marks = {"ok": "[green]✓[/green]", "failed": "[red]✗[/red]", "skipped": "[yellow]•[/yellow]"}

    def tell(finding: step.Finding) -> None:
        console.print(f"  {marks[finding.outcome]} {finding.check}: {escape(finding.said)}", highlight=False)

    done = step.examine(Context(config, environment, github, recipe=recipe), only or [], tell)
    failed = [finding for finding in done.findings if finding.outcome == "failed"]
    annotated = os.environ.get("GITHUB_ACTIONS") == "true"  # all that some will read, so it is a finding's own words
    for finding in failed[int(annotated) :]:  # then the first is this command's error
        publish(f"✗ {finding.check}: {finding.said}")
    passed = sum(finding.outcome == "ok" for finding in done.findings)
    said = f"Doctor: {passed} of {len(done.findings)} checks passed, {len(failed)} failed"
    then = "mend what is marked ✗" if failed else "python -m scripts data"
    finish(done, out, said=said, then=then, outputs={"healthy": str(done.healthy).lower()}, good=done.healthy)
    if failed and annotated:
        raise Refused(f"{failed[0].check}: {failed[0].said}")
    if failed:
        raise Refused(f"{len(failed)} failed: {', '.join(each.check for each in failed)}; see above what to do.")
