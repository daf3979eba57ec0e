"""Options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

Config = Annotated[Path | None, typer.Option("--config", envvar="MLOPS_CONFIG", help="Settings of the environment.")]
Out = Annotated[Path, typer.Option("--out", help="Where the record of this step is written.")]
MaxCost = Annotated[
    float | None,
    typer.Option("--max-cost", min=0.01, help="Refuse a job that may cost more, or whose cost is unknown."),
]
