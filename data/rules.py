"""What rows are held against: a severity for every check and the limits, from YAML with no key optional.

`checks.yaml` is for this repository's task, `checks-chats.yaml` for anyone's chats.
"""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from data.errors import DataError

HERE = Path(__file__).resolve().parent
TASK, CHATS = HERE / "checks.yaml", HERE / "checks-chats.yaml"
Severity = Literal["error", "warning", "off"]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]

# Every check there is, in the order of the report: its code and what a row at fault does.
CODES: dict[str, str] = {
    "json": "is not a JSON object",
    "utf8": "is not UTF-8, or has half a character pair",
    "schema": "needs messages of role and content, and id, cluster_id and slices of text where they are given",
    "roles": "has a role other than system (first only), user and assistant",
    "alternation": "does not alternate user and assistant, user first",
    "last_turn": "does not end with the assistant's answer",
    "blank": "has a message without text",
    "unicode": "has characters that are not in normal form (NFC), replaced or invisible",
    "control_tokens": "has a control token of a chat template in its text",
    "over_length": "is longer than the limit of tokens",
    "no_loss": "has no token to learn from",
    "duplicate_id": "has the id of an earlier row",
    "duplicate": "has the same messages as an earlier row",
    "near_duplicate": "says nearly what an earlier row of another cluster says",
    "across_splits": "says (nearly) what a row of another split says",
    "leakage": "asks (nearly) what a held-out prompt asks",
    "shared_cluster": "belongs to the cluster of a held-out prompt",
    "secrets": "holds what looks like a secret",
    "personal_data": "holds what looks like personal data",
    "language": "is in another language than most rows",
    "balance": "is a value of `slices` that few rows have",
    "answer_json": "has an answer that is not a JSON object",
    "answer_keys": "has an answer whose keys or their order differ from the task's",
}


class Rules(BaseModel):
    """`answer_keys: null` means that answers are free text."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
    severities: dict[str, Severity]
    max_tokens: Annotated[int, Field(gt=0)]  # of a whole chat, template included
    near_duplicate: Share  # from this share of common text on, two rows are near duplicates
    rare_share: Share  # a value that fewer rows have is rare
    answer_keys: list[str] | None

    @field_validator("severities", mode="before")
    @classmethod
    def _off_is_a_word(cls, value: Any) -> Any:
        """YAML reads an unquoted off as false."""
        return {k: "off" if v is False else v for k, v in value.items()} if isinstance(value, dict) else value

    @model_validator(mode="after")
    def _every_check_has_a_severity(self) -> Rules:
        if unknown := sorted(self.severities.keys() - CODES.keys()):
            near = difflib.get_close_matches(unknown[0], CODES, n=1, cutoff=0)[0]
            raise ValueError(f"there is no check '{unknown[0]}'; the nearest is '{near}'")
        if missing := [code for code in CODES if code not in self.severities]:
            raise ValueError(f"severities lacks the check '{missing[0]}'; write error, warning or off")
        return self

    def on(self, code: str) -> bool:
        return self.severities[code] != "off"


Model = TypeVar("Model", bound=BaseModel)
TAGGED: dict[
    Any, type[BaseModel]
] = {}  # parts that are told apart by a key, by its name; filled where they are defined


def load_rules(path: Path = TASK) -> Rules:
    """Raises DataError with one sentence for anything that is wrong with the file."""
    return parse_yaml(path, Rules)


def parse_yaml(path: Path, kind: type[Model]) -> Model:
    """A YAML file as `kind`. Raises DataError for no file, no YAML, and the first wrong key, with the nearest known."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read ({getattr(error, 'strerror', None) or 'not UTF-8'}).") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        raise DataError(f"{path}{f' line {mark.line + 1}' if mark else ''} is not valid YAML; mend it.") from None
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        raise DataError(f"{path}: {_sentence(kind, error)}.") from None


def _sentence(kind: type[BaseModel], error: ValidationError) -> str:
    first: Any = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        near = difflib.get_close_matches(str(first["loc"][-1]), _keys(kind, first["loc"][:-1]), n=1, cutoff=0)
        return f"unknown key '{key}'" + (f"; the nearest known key is '{near[0]}'" if near else "; remove it")
    if first["type"] == "missing":
        return f"the key '{key}' is missing; it has to be written down"
    said = str(first["msg"]).removeprefix("Value error, ")
    return f"wrong value at '{key}': {said}" if key else said


def _keys(kind: type[BaseModel], location: tuple[Any, ...]) -> list[str]:
    """The keys that the part at `location` may have; of a union, the part that the location names."""
    part: Any = kind
    for name in location:
        field = getattr(part, "model_fields", {}).get(str(name))
        options = list(_options(field.annotation)) if field else [TAGGED[name]] if name in TAGGED else []
        part = options[0] if options else part
    return list(part.model_fields)


def _options(annotation: Any) -> list[type[BaseModel]]:
    inner = [annotation, *get_args(annotation), *(deep for one in get_args(annotation) for deep in get_args(one))]
    return [one for one in inner if isinstance(one, type) and issubclass(one, BaseModel)]
