"""A recipe of route serverless, and the dated table of what the service takes: regions and prices."""

import datetime as dt
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from scripts import retired, yaml_files
from scripts.errors import Refused
from scripts.routes import recipes
from scripts.training_job import CODE

TABLE = Path("scripts/routes/serverless.yaml")
CATALOGUE = re.compile(r"azureml://registries/(?P<registry>[^/]+)/models/(?P<name>[^/]+)")
Factor = Annotated[float, Field(gt=0, le=32)]
# The service's names on the wire. The first two are those of Microsoft's SDK samples; the multipliers are what the
# portal calls them, and nobody here has seen the service take them (docs/routes.md).
WIRE = {
    "epochs": "num_train_epochs",
    "learning_rate": "learning_rate",
    "learning_rate_multiplier": "learning_rate_multiplier",
    "batch_size_multiplier": "batch_size_multiplier",
}
VERBS = {"fine_tune": "fine-tuned", "deploy": "deployed"}


class HyperParameters(recipes.Part):
    epochs: int = Field(ge=1, le=50)
    batch_size_multiplier: Factor
    learning_rate_multiplier: Factor | None
    learning_rate: Annotated[float, Field(gt=0, lt=1)] | None

    @model_validator(mode="after")
    def _one_rate(self) -> Self:
        if (self.learning_rate is None) == (self.learning_rate_multiplier is None):
            raise ValueError("set exactly one of learning_rate and learning_rate_multiplier, the other to null")
        return self

    def wire(self) -> dict[str, str]:
        """As the job carries them: strings, and no more than are set."""
        values = {name: getattr(self, name) for name in WIRE}
        return {WIRE[name]: f"{value:g}" for name, value in values.items() if value is not None}


class Recipe(recipes.Part):
    name: str
    route: Literal["serverless"]
    registry: str
    base_model: recipes.BaseModelPart
    hyperparameters: HyperParameters

    @property
    def model(self) -> str:
        """The model's id in the catalogue."""
        base = self.base_model
        return f"azureml://registries/{self.registry}/models/{base.source}/versions/{base.revision}"


class Price(recipes.Part):
    """For a million tokens of all epochs, and for each hour that an endpoint of a custom model stands."""

    per_million_training_tokens: Annotated[float, Field(gt=0)] | None
    hosting_per_hour: Annotated[float, Field(gt=0)] | None
    looked_up: dt.date | None
    source: str | None

    @model_validator(mode="after")
    def _says_whence(self) -> Self:
        if (self.per_million_training_tokens or self.hosting_per_hour) and not (self.looked_up and self.source):
            raise ValueError("a known price needs looked_up and source")
        return self


class Offer(recipes.Part):
    name: str
    registry: str
    fine_tune: list[str]
    deploy: list[str]
    price: Price


class Table(recipes.Part):
    provider: str
    currency: str
    models: list[Offer]


def table(path: Path = TABLE) -> Table:
    """Raises InvalidInput naming the file and the key."""
    return yaml_files.read(Table, path, "the table of fine-tuning as a service")


def load(path: Path, changes: Sequence[str] = ()) -> Recipe:
    """The recipe. Raises InvalidInput for what is wrong in it, Refused for a model that is retired."""
    found = recipes.load(Recipe, path, changes)
    retired.check_model(found.base_model.source)
    return found


def of_name(recipe: str) -> Recipe:
    return load(CODE / "recipes" / f"{recipe}.yaml")


def offer(model: str, region: str, what: Literal["fine_tune", "deploy"]) -> Offer:
    """The row of a model, by its id. Raises Refused for one that is unknown or not to be had in the region."""
    named, rows = CATALOGUE.match(model), table().models
    asked = (named["registry"], named["name"]) if named else ("", model)
    found = next((each for each in rows if (each.registry, each.name) == asked), None)
    if found is None:
        known = ", ".join(each.name for each in rows)
        raise Refused(
            f"{asked[1]} is not known to be fine-tuned as a service; known are {known} "
            f"({TABLE.name} says where that was looked up)."
        )
    regions = {"fine_tune": found.fine_tune, "deploy": found.deploy}[what]
    if region.lower().replace(" ", "") not in regions:
        raise Refused(f"{found.name} is not {VERBS[what]} as a service in {region}, only in {', '.join(regions)}.")
    return found
