"""The serving tiers: one file has every setting of each, and an environment says which one it takes."""

import difflib
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from scripts import records, yaml_files
from scripts.errors import InvalidInput, Refused
from scripts.settings import Image, Serving, Settings

FILE = Path("serving/tiers.yaml")
USUAL = "python"
_ENVIRONMENT = "serving_environment"
OVERRIDDEN = ("serving", _ENVIRONMENT)
PLACE = "name"  # of an environment in Azure: not the tier's to say
NO_CODE = "mlflow"
# Read by our own server (docs/serving.md has what they do), and by no other.
OURS = frozenset(
    {"MAX_BATCH_SIZE", "MAX_QUEUED_REQUESTS", "BATCH_WAIT_MS", "PREFIX_CACHE_TOKENS", "DEFAULT_MAX_TOKENS"}
    | {"MAX_OUTPUT_TOKENS", "MAX_INPUT_TOKENS", "SCORING_TIMEOUT_MS", "CLIENT_TIMEOUT_MS", "MODEL_DIGEST"}
    | {"CONTENT_FILTER", "CONTENT_SAFETY_ENDPOINT", "ANSWER_SCHEMA", "COLLECT_CONTENT"}
)


class Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Environment(Image):
    name: str = PLACE


class Tier(Part):
    """`serving` and `serving_environment` as an environment would say them; `sizes` [] is any.

    `shape`: of its requests. Without a `serving_environment` the server is Azure's own.
    """

    artifacts: list[records.Artifact] = Field(min_length=1)
    sizes: list[str]
    shape: Literal["openai", "foundry"] = "openai"
    serving_environment: Environment | None
    serving: Serving


class Tiers(Part):
    tiers: dict[str, Tier]


@cache
def load(path: Path = FILE) -> Tiers:
    """Raises InvalidInput naming the file and the key."""
    return yaml_files.read(Tiers, path, "the file of the serving tiers")


def named(name: str) -> Tier:
    """Raises InvalidInput for a tier that there is not, with the nearest."""
    known = load().tiers
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.3)
        hint = f"; did you mean {near[0]}" if near else ""
        raise InvalidInput(f"serving.tier: there is no tier {name!r}, only {', '.join(known)}{hint}.")
    return known[name]


def of(settings: Settings) -> Tier:
    return named(settings.serving.tier)


def filled(values: Any) -> Any:
    """Settings as they were given, with what their tier says where they say nothing."""
    if not isinstance(values, dict):
        return values
    serving = values.get("serving") or {}
    tier = named(str(serving.get("tier", USUAL)) if isinstance(serving, dict) else USUAL)
    filled = {part: _over(_said(getattr(tier, part)), values.get(part) or {}) for part in OVERRIDDEN}
    if tier.serving_environment is None and set(filled[_ENVIRONMENT]) <= {PLACE}:
        filled[_ENVIRONMENT] = None  # a name alone says where one would be made; more is said of none, and refused
    return {**values, **filled}


def _said(part: BaseModel | None) -> dict[str, Any]:
    return part.model_dump(exclude_unset=True) if part else {}


def unread(tier: str, variables: Iterable[str]) -> list[str]:
    """Which of these environment variables the tier's server would never look at, though ours does."""
    return sorted(OURS.intersection(variables)) if tier == NO_CODE else []


def _over(usual: Mapping[str, Any], given: Any) -> Any:
    """`given` over `usual`, mapping by mapping."""
    if not isinstance(given, Mapping):
        return given  # which is refused where it is validated
    both = {**usual, **given}
    return {
        key: _over(usual[key], value) if isinstance(usual.get(key), Mapping) and key in given else value
        for key, value in both.items()
    }


def check_size(settings: Settings) -> None:
    """Raises InvalidInput for a VM size that the tier does not run on."""
    serving, sizes = settings.serving, of(settings).sizes
    if sizes and serving.instance_type.lower() not in {size.lower() for size in sizes}:
        raise InvalidInput(
            f"serving.instance_type: the tier {serving.tier} does not run on {serving.instance_type}; choose one of "
            f"{', '.join(sizes)}."
        )


def check_artifact(settings: Settings, model: records.Model) -> None:
    """Raises InvalidInput for an artifact that the tier never takes, Refused for a model of another kind."""
    wanted, taken = settings.serving.artifact, of(settings).artifacts
    if wanted not in taken:
        raise InvalidInput(
            f"serving.artifact: the tier {settings.serving.tier} takes {' or '.join(taken)}, not {wanted}."
        )
    if model.artifact != wanted:
        raise Refused(f"Model {model.name}:{model.version} is {_KINDS[model.artifact]}, and {_WANTS[wanted]}.")


_KINDS = {
    "merged": "a plain model folder",
    "lora": "a base model with an adapter beside it",
    "onnx": "a graph for ONNX Runtime",
    "mlflow": "a folder in MLflow's form",
}
_WANTS = {
    "merged": "this deployment takes a plain model folder: what `train` leaves, with the adapter merged in",
    "lora": (
        "`serving.artifact: lora` needs base and adapter in one registered model, because a deployment has one: "
        "register a folder with `base` and `adapter` in it, or take `artifact: merged`"
    ),
    "onnx": "this deployment takes a quantised one: quantise it first",
    "mlflow": (
        "this deployment takes one in MLflow's form: train by a recipe of route registry, and `register` with these "
        "settings"
    ),
}
