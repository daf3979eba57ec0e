"""What GitHub is told: `provision github`, `report-failure`, `notes`."""

from pathlib import Path
from typing import Annotated

import typer

from scripts.commands.options import Out
from scripts.outputs import console, finish, publish

app = typer.Typer()
Repository = Annotated[
    str | None, typer.Option("--repository", help="OWNER/NAME; GITHUB_REPOSITORY where it is left out.")
]


def set_up_github(
    apply: Annotated[bool, typer.Option("--apply", help="Do it, with gh; without, only say what differs.")] = False,
    repository: Repository = None,
    client_id: Annotated[
        list[str] | None, typer.Option("--client-id", help="ENVIRONMENT=CLIENT_ID of its Azure identity; repeatable.")
    ] = None,
    clients: Annotated[
        Path | None,
        typer.Option("--clients", help="The record of `provision --repository`: it knows every client id."),
    ] = None,
    file: Annotated[Path, typer.Option("--file", help="GitHub's side as data.")] = Path(".github/environments.yaml"),
    out: Out = Path("out/github.json"),
) -> None:
    """Make environments, variables, labels and branch protection like the data; without --apply only plan.

    Example: `python -m scripts provision github --repository acme/phi-train`
    """
    from scripts.github import environments
    from scripts.github import setup as step
    from scripts.github.show import credentials, plan

    side, identity = environments.load(file), environments.this_repository(repository)

    def tell(line: str) -> None:
        console.print(f"  {line}", highlight=False, markup=False)

    ids = [*step.recorded(clients), *(client_id or [])]
    done = step.set_up(side, identity, apply=apply, client_ids=ids, tell=tell)
    for line in (*([] if apply else plan(done)), *credentials(done)):
        console.print(line, highlight=False, markup=False)
    for line in done.left:
        publish(f"⚠ {line}")
        console.print(f"⚠ {line}", highlight=False, markup=False)
    did = "done" if apply else "to do"
    said = f"GitHub's side of {done.repository}: {len(done.calls)} calls {did}, {len(done.left)} for a person"
    then = "python -m scripts doctor" if apply else "python -m scripts provision github --apply"
    outputs = {"changes": str(len(done.calls)), "left": str(len(done.left))}
    finish(done, out, said=said, then=then, outputs=outputs, good=not done.left)


@app.command("report-failure")
def report_failure(
    workflow: Annotated[str, typer.Option(help="The workflow's name.")],
    conclusion: Annotated[str, typer.Option(help="How its run ended, as GitHub says it: failure, success, …")],
    url: Annotated[str, typer.Option(help="The address of the run.")],
    branch: Annotated[str, typer.Option(help="The branch of the run.")],
    repository: Repository = None,
    out: Out = Path("out/failure.json"),
) -> None:
    """Keep one open issue for each workflow that fails, and close it when the workflow is green again.

    Example: `python -m scripts report-failure --workflow Release --conclusion failure --url "$URL" --branch main`
    """
    from scripts.github import environments
    from scripts.github import issues as step

    done = step.report(environments.this_repository(repository).name, workflow, conclusion, url, branch)
    which = f"issue #{done.issue}" if done.issue else "no issue"
    said = f"Workflow {done.workflow} ended as {step.plain(conclusion)}: {which} {done.action}"
    then = "mend the workflow; its next green run closes the issue" if done.issue else "nothing"
    outputs = {"action": done.action, "issue": str(done.issue or "")}
    finish(done, out, said=said, then=then, outputs=outputs, good=done.action in ("closed", "nothing"))


@app.command()
def notes(
    records_folder: Annotated[Path, typer.Option("--records", help="The folder with the release's records.")] = Path(
        "out"
    ),
    publish_release: Annotated[
        bool, typer.Option("--publish", help="Make a GitHub release of a promoted model, with gh.")
    ] = False,
    repository: Repository = None,
    commit: Annotated[
        str | None, typer.Option(envvar=["RELEASE_COMMIT", "GITHUB_SHA"], help="The commit that was released.")
    ] = None,
    out: Annotated[Path, typer.Option("--out", help="The notes, in Markdown.")] = Path("out/notes.md"),
) -> None:
    """Write the release notes out of the records, and with --publish make the release `model-VERSION`.

    Example: `python -m scripts notes --records out --publish`
    """
    from scripts.github import environments
    from scripts.github import notes as step

    where = environments.this_repository(repository).name if publish_release else None
    done = step.write(records_folder, out, publish=where, commit=commit)
    lacking = f", without {', '.join(done.missing)}" if done.missing else ""
    released = f"; release {done.tag} {done.published}" if done.published else ""
    outputs = {"notes": str(out), "tag": done.tag or "", "published": done.published or ""}
    finish(
        done,
        out.with_suffix(".json"),
        said=f"Release notes of {done.tag or 'an unknown model'} written to {out}{lacking}{released}",
        then="read them" if done.published else "python -m scripts notes --publish",
        outputs=outputs,
        good=not done.missing,
    )
