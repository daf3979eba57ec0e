"""A recipe of route serverless, and the dated table of what the service takes: regions, retirements, prices."""

import datetime as dt
import difflib
import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from scripts import yaml_files
from scripts.errors import InvalidInput, Refused
from scripts.training_job import CODE

TABLE = Path(__file__).with_name("serverless.yaml")
CATALOGUE = re.compile(r"azureml://registries/(?P<registry>[^/]+)/models/(?P<name>[^/]+)")
Factor = Annotated[float, Field(gt=0, le=32, allow_inf_nan=False)]
# The service's names on the wire. The first two are those of Microsoft's SDK samples; the multipliers are what the
# portal calls them, and nobody here has seen the service take them (docs/route-serverless.md).
WIRE = {
    "epochs": "num_train_epochs",
    "learning_rate": "learning_rate",
    "learning_rate_multiplier": "learning_rate_multiplier",
    "batch_size_multiplier": "batch_size_multiplier",
}


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Base(_Part):
    """`revision`: a version of the catalogue, or `latest`."""

    source: str = Field(pattern=f"^{CATALOGUE.pattern}$")
    revision: str = Field(pattern=r"^[A-Za-z0-9._-]{1,40}$")


class HyperParameters(_Part):
    epochs: int = Field(ge=1, le=50)
    batch_size_multiplier: Factor
    learning_rate_multiplier: Factor | None
    learning_rate: Annotated[float, Field(gt=0, lt=1, allow_inf_nan=False)] | None

    @model_validator(mode="after")
    def _one_rate(self) -> Self:
        if (self.learning_rate is None) == (self.learning_rate_multiplier is None):
            raise ValueError("set exactly one of learning_rate and learning_rate_multiplier, the other to null")
        return self

    def wire(self) -> dict[str, str]:
        """As the job carries them: strings, and no more than are set."""
        values = {name: getattr(self, name) for name in WIRE}
        return {WIRE[name]: f"{value:g}" for name, value in values.items() if value is not None}


class Recipe(_Part):
    name: str
    route: Literal["serverless"]
    base_model: Base
    hyperparameters: HyperParameters
    content_filter: bool


class Price(_Part):
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


class Offer(_Part):
    name: str
    registry: str
    fine_tune: list[str]
    deploy: list[str]
    retired: dt.date | None
    instead: str | None
    price: Price


class Table(_Part):
    provider: str
    currency: str
    models: list[Offer]


def table(path: Path = TABLE) -> Table:
    """Raises InvalidInput naming the file and the key."""
    return yaml_files.read(Table, path, "the table of fine-tuning as a service")


def load(path: Path) -> Recipe:
    """The recipe. Raises InvalidInput naming the key that is wrong; a misspelt one with the nearest known."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InvalidInput(f"Recipe {path} cannot be read ({' '.join(str(error).split())[:200]}).") from None
    try:
        return Recipe.model_validate(content)
    except ValidationError as error:
        raise InvalidInput(_sentence(path, error)) from None


def of_name(recipe: str) -> Recipe:
    return load(CODE / "recipes" / f"{recipe}.yaml")


def _sentence(path: Path, error: ValidationError) -> str:
    first = min(error.errors(), key=lambda each: each["type"] != "extra_forbidden")
    key = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        near = difflib.get_close_matches(str(first["loc"][-1]), _known(first["loc"][:-1]), n=1, cutoff=0)
        return f"Recipe {path} has the unknown key '{key}'; the nearest known key is '{near[0]}'."
    if first["type"] == "missing":
        return f"Recipe {path} lacks the key '{key}'; every parameter has to be written down."
    said = first["msg"].removeprefix("Value error, ")
    return f"Recipe {path} has a wrong value at '{key or 'the recipe'}': {said}."


def _known(location: tuple[Any, ...]) -> list[str]:
    part: Any = Recipe
    for name in location:
        part = part.model_fields[str(name)].annotation
    return list(part.model_fields)


def offer(source: str, region: str, what: Literal["fine_tune", "deploy"], today: dt.date) -> Offer:
    """The row of a catalogue model. Raises Refused for one that is unknown, retired, or not to be had in the region."""
    named = CATALOGUE.match(source)
    rows = table().models
    found = next(
        (each for each in rows if named and (each.registry, each.name) == (named["registry"], named["name"])), None
    )
    verb = {"fine_tune": "fine-tuned", "deploy": "deployed"}[what]
    if found is None:
        raise Refused(
            f"{source} is not known to be fine-tuned as a service; known are {', '.join(each.name for each in rows)} "
            f"({TABLE.name} says where that was looked up)."
        )
    if found.retired and found.retired <= today:
        use = f", use {found.instead}" if found.instead else ""
        raise Refused(f"{found.name} was retired on {found.retired}{use}.")
    regions = getattr(found, what)
    if region.lower().replace(" ", "") not in regions:
        raise Refused(f"{found.name} is not {verb} as a service in {region}, only in {', '.join(regions)}.")
    return found
