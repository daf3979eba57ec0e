"""`quantise`: a registered model becomes one for the CPU tier."""

from pathlib import Path
from typing import Annotated

import typer

from scripts import records, settings
from scripts.commands.options import Config, Out
from scripts.outputs import finish, told

app = typer.Typer()


@app.command()
def quantise(
    recipe: Annotated[str, typer.Option(help="A file name in convert/recipes, without .yaml.")],
    model: Annotated[Path, typer.Option(help="The model.json of `register`.")] = Path("out/model.json"),
    prompts: Annotated[Path, typer.Option(help="Chats whose tokens are compared with the source's.")] = Path(
        "data/heldout.jsonl"
    ),
    config: Config = None,
    out: Out = Path("out/model-cpu.json"),
) -> None:
    """Make a registered model smaller for a CPU, and register it as a version of its own, for the gate to judge.

    Example: `python -m scripts quantise --recipe int8 --model out/model.json --out out/model-cpu.json`
    """
    from scripts import quantise as step

    source = records.read(records.Model, model)
    done, found = step.quantise(settings.load(config), source, recipe, prompts)
    told(
        f"{found['source_megabytes']:.0f} MB became {found['megabytes']:.0f} MB in {found['seconds']:.0f} s; tokens "
        f"equal for {found['prompts']} prompts; the source's choice at {found['same_choices']} of {found['choices']} "
        "places of its answers"
    )
    said = f"Registered {done.name}:{done.version} (digest {done.digest[:12]}), {source.version} by recipe {recipe}"
    then = f"python -m scripts deploy --model {out}: no verdict on {source.version} counts for it"
    finish(done, out, said=said, then=then, outputs={"model_id": done.id})
