"""What only models that Microsoft serves have: `serverless base|delete`. Their release has everybody's commands."""

from pathlib import Path
from typing import Annotated

import typer

from scripts import records, settings
from scripts.commands.options import Config, Out
from scripts.errors import InvalidInput
from scripts.outputs import finish

app = typer.Typer()
serverless = typer.Typer(no_args_is_help=True, help="Models that Microsoft serves: the baseline, and how one ends.")
app.add_typer(serverless, name="serverless")


@serverless.command()
def base(
    recipe: Annotated[str, typer.Option(help="A recipe of route serverless.")],
    out: Out = Path("out/model-baseline.json"),
) -> None:
    """Name the catalogue model that a recipe starts from: the baseline of a first release.

    Example: `python -m scripts serverless base --recipe serverless_phi4_mini`
    """
    from scripts.serverless import endpoints

    model = endpoints.base_model(recipe)
    finish(
        model,
        out,
        said=f"Baseline {model.name}:{model.version}",
        then=f"python -m scripts deploy --first --model {out}",
    )


@serverless.command()
def delete(
    model: Annotated[Path, typer.Option("--model", help="The model.json of `register`.")],
    name: Annotated[str, typer.Option("--name", help="The model's name, typed out.")],
    config: Config = None,
    out: Out = Path("out/deleted.json"),
) -> None:
    """Delete a model's endpoint and then the model, in the order that the service wants. Live and way back stay.

    Example: `python -m scripts serverless delete --model out/model.json --name train-serverless-phi4-mini-0123456789ab`
    """
    from scripts.serverless import endpoints, protected

    values, doomed = settings.load(config), records.read(records.Model, model)
    if name != doomed.name:
        raise InvalidInput(f"--name {name[:80]!r} is not the model's name {doomed.name}: type it out to delete it.")
    gone = endpoints.delete(values, doomed, protected=protected.names(values))
    said = f"Deleted {', '.join(gone) or 'nothing: it is gone'}"
    finish(doomed, out, said=said, then="nothing")
