"""Names and sizes of one environment: a YAML file (`--config`, MLOPS_CONFIG) under MLOPS_* variables. No secrets."""

import os
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

from scripts import records, yaml_files
from scripts.errors import InvalidInput

PATH = r"^/[\w./-]*\w$"  # Azure wants a letter or a digit in it


class Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Compute(Part):
    """The training cluster: scales to zero so that an idle day costs nothing."""

    name: str
    size: str
    # low_priority: cheaper nodes that Azure may take away; a job goes on from its checkpoints (scripts/resubmit.py).
    tier: Literal["dedicated", "low_priority"] = "dedicated"
    max_instances: int = Field(1, ge=1)
    idle_seconds: int = Field(120, ge=60)


class Routes(Part):
    """Where a container of our own answers: Azure asks its health there and sends it requests."""

    port: int = Field(ge=1, le=65_535)
    liveness: str = Field(pattern=PATH)
    readiness: str = Field(pattern=PATH)
    scoring: str = Field(pattern=PATH)


class Image(Part):
    """An Azure ML environment: a base image plus the conda file in the folder whose code runs in it.

    Or a container of our own: the folder that has its Dockerfile, and its routes.
    """

    name: str
    image: str | None = None
    conda_file: Path | None = None
    build: Path | None = None
    routes: Routes | None = None

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        given = {name for name in ("image", "conda_file", "build", "routes") if getattr(self, name) is not None}
        if given not in ({"image", "conda_file"}, {"build", "routes"}):
            raise PydanticCustomError(
                "kind", "an environment has image and conda_file, or build and routes, and nothing of the other kind"
            )
        return self

    @property
    def files(self) -> list[Path]:
        """What the environment is made of, beside its base image."""
        return [file for file in (self.conda_file, self.build / "Dockerfile" if self.build else None) if file]


class Collect(Part):
    """What each deployment keeps about requests, in the workspace's storage (docs/operations.md).

    `statistics` are numbers without a word of any request; `content` are prompts and answers, masked; `feedback` is
    thumbs up or down. `sampling`: the share of requests.
    """

    statistics: bool = True
    content: bool = False
    feedback: bool = True
    sampling: float = Field(default=1.0, gt=0, le=1)

    @property
    def collections(self) -> dict[str, bool]:
        return {"statistics": self.statistics, "content": self.content, "feedback": self.feedback}


class Probe(Part):
    """How often Azure asks whether a container lives, or is ready, and how many answers it takes to believe it."""

    period_seconds: int = Field(ge=1)
    timeout_seconds: int = Field(ge=1)
    failure_threshold: int = Field(ge=1)
    success_threshold: int = Field(1, ge=1)


class ScaleRule(Part):
    """`threshold` percent of the metric over `minutes` changes the count by `instances`; then comes a rest."""

    threshold: float = Field(gt=0, le=100)
    minutes: int = Field(ge=5, le=720)
    instances: int = Field(1, ge=1)
    cooldown_minutes: int = Field(ge=1, le=10_080)


class Scale(Part):
    """How many instances the live deployment may have; between equal numbers nothing scales (docs/tiers.md)."""

    min_instances: int = Field(ge=1)
    max_instances: int = Field(ge=1)
    metric: Literal["CpuUtilizationPercentage", "GpuUtilizationPercentage"] = "CpuUtilizationPercentage"
    out: ScaleRule | None = None
    back: ScaleRule | None = None

    @property
    def on(self) -> bool:
        return self.max_instances > self.min_instances

    @model_validator(mode="after")
    def _sensible(self) -> Self:
        if self.max_instances < self.min_instances:
            raise PydanticCustomError("scale", "max_instances is below min_instances")
        if self.on and not (self.out and self.back):
            raise PydanticCustomError("scale", "more max_instances than min_instances need the rules `out` and `back`")
        if self.out and self.back and self.back.threshold >= self.out.threshold / 2:
            # With one instance more, the load of each may fall by half: it would be taken back at once.
            raise PydanticCustomError("scale", "back.threshold must be below half of out.threshold, or it swings")
        return self


class Serving(Part):
    """Shape of every deployment. Milliseconds and seconds as Azure has them; at most 180 s for a request.

    What an environment does not say comes from its tier (serving/tiers.yaml, docs/tiers.md). `arguments` are for the
    server of a container; `artifact` is the kind of model that it takes.
    """

    tier: Literal["python", "cpu", "gpu", "mlflow"] = "python"
    artifact: records.Artifact = "merged"
    instance_type: str
    instance_count: int = Field(1, ge=1)
    max_concurrent_requests: int = Field(ge=1)
    request_timeout_ms: int = Field(ge=1_000, le=180_000)
    probe_initial_delay_seconds: int = Field(ge=1)
    liveness: Probe
    readiness: Probe
    scale: Scale
    egress: Literal["enabled", "disabled"] = "enabled"
    environment_variables: dict[str, str] = {}
    model_mount_path: str | None = Field(None, pattern=PATH)
    arguments: dict[str, Any] = {}
    collect: Collect = Collect()
    # Who looks at prompts and answers (docs/content-filter.md); `azure` needs the address of a Content Safety resource.
    # With the resource's ARM id, `provision` lets the endpoint ask it.
    content_filter: Literal["local", "azure", "off"] = "local"
    content_safety_endpoint: str = Field("", pattern=r"^(https://[^\s/]+/?)?$")
    content_safety_id: str = Field(
        "",
        pattern=r"(?i)^(/subscriptions/[^/\s]+/resourceGroups/[^/\s]+/providers/"
        r"Microsoft\.CognitiveServices/accounts/[^/\s]+)?$",
    )

    @property
    def filter_variables(self) -> dict[str, str]:
        """What tells a server (serving/screen.py) which filter to use."""
        there = {"CONTENT_SAFETY_ENDPOINT": self.content_safety_endpoint} if self.content_filter == "azure" else {}
        return {"CONTENT_FILTER": self.content_filter, **there}

    @model_validator(mode="after")
    def _filtered_where_it_can_be(self) -> Self:
        if self.tier in ("gpu", "mlflow") and self.content_filter != "off":
            raise PydanticCustomError(
                "filter",
                'content_filter: only our own server has one: say "off" for tier {tier}, or take another tier',
                {"tier": self.tier},
            )
        return self

    @model_validator(mode="after")
    def _azures_server_is_told_little(self) -> Self:
        if self.tier != "mlflow":
            return self
        said = {
            "egress": self.egress == "disabled",  # it installs the model's own packages when it starts
            "model_mount_path": self.model_mount_path is not None,
            "arguments": bool(self.arguments),
        }
        if wrong := [name for name, is_said in said.items() if is_said]:
            sentence = "{name}: Azure's own server, which tier mlflow starts, cannot do that: leave it out"
            raise PydanticCustomError("no-code", sentence, {"name": wrong[0]})
        return self

    @model_validator(mode="after")
    def _count_within_scale(self) -> Self:
        if self.scale.on and not self.scale.min_instances <= self.instance_count <= self.scale.max_instances:
            raise PydanticCustomError("scale", "instance_count is not between scale.min_instances and max_instances")
        return self


class Settings(BaseSettings):
    """Everything a command needs to know of its environment.

    The subscription comes from AZURE_SUBSCRIPTION_ID, as the sign-in step of a workflow sets it.
    """

    model_config = SettingsConfigDict(
        env_prefix="MLOPS_",
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
        populate_by_name=True,
        validate_default=True,
    )

    subscription_id: str = Field(validation_alias="AZURE_SUBSCRIPTION_ID")
    resource_group: str
    location: str
    workspace: str
    endpoint: str
    endpoint_identity: str
    training_identity: str = "id-training"  # the cluster runs its jobs as this
    experiment: str
    dataset: str
    model: str
    compute: Compute
    training_environment: Image
    serving_environment: Image | None  # None: the tier's server is Azure's own, and so is what it runs in
    serving: Serving
    # The most that one training job may cost, in the currency of scripts/cost/prices.yaml; null: no cap.
    max_training_cost: float | None = Field(None, gt=0)
    # Who is told by e-mail of alerts (scripts/provision/alerts.yaml); MLOPS_ALERT_EMAILS has commas between them.
    alert_emails: Annotated[tuple[Annotated[str, Field(pattern=r"^[^@\s]+@[^@\s]+\.[^@\s]+$")], ...], NoDecode] = ()
    # Who counts the requests of a rollout, and how late: minutes younger than the delay are not asked for yet.
    monitor: Literal["metrics", "request-log"] = "metrics"
    rollout_policy: Path = Path("scripts/rollout/policy.yaml")  # steps and limits; see there
    monitor_delay_minutes: int = Field(3, ge=0, le=60)
    log_analytics_workspace_id: str = Field("", pattern=r"^([0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12})?$")

    @model_validator(mode="before")
    @classmethod
    def _from_the_tier(cls, values: Any) -> Any:
        from scripts import tiers  # which needs the parts above

        return tiers.filled(values)

    @model_validator(mode="after")
    def _a_container_collects_nothing(self) -> Self:
        if not self.our_server and any(self.serving.collect.collections.values()):
            raise PydanticCustomError(
                "collect", "serving.collect: only our own server collects, so on this tier every collection must be off"
            )
        return self

    @model_validator(mode="after")
    def _its_server_reads_what_it_is_given(self) -> Self:
        from scripts import tiers

        if unread := tiers.unread(self.serving.tier, self.serving.environment_variables):
            sentence = "serving.environment_variables: only our own server reads {name}: leave it out for tier {tier}"
            raise PydanticCustomError("unread", sentence, {"name": unread[0], "tier": self.serving.tier})
        return self

    @property
    def our_server(self) -> bool:
        """Whether the code in `serving/` answers."""
        return self.serving_environment is not None and self.serving_environment.build is None

    @property
    def scoring_path(self) -> str:
        """Where requests go, below the endpoint's host name."""
        routes = self.serving_environment.routes if self.serving_environment else None
        return routes.scoring if routes else "/score"

    @property
    def request_shape(self) -> str:
        """How requests look that go there: a name in scripts/shapes.py."""
        from scripts import tiers

        return tiers.of(self).shape

    @field_validator("alert_emails", mode="before")
    @classmethod
    def _commas_between_addresses(cls, value: Any) -> Any:
        return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value

    @field_validator("alert_emails")
    @classmethod
    def _each_address_once(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(dict.fromkeys(value))

    @field_validator("log_analytics_workspace_id")
    @classmethod
    def _log_has_a_workspace(cls, value: str, info: ValidationInfo) -> str:
        if not value and info.data.get("monitor") == "request-log":
            raise PydanticCustomError(
                "missing", "monitor: request-log needs the id (a GUID) of the Log Analytics workspace"
            )
        return value

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment wins over the file: a workflow can override one value without a second file."""
        return env_settings, init_settings


def load(path: Path | None) -> Settings:
    """Read the settings of one environment. Raises InvalidInput naming the file and the key that is wrong."""
    if path is None:
        raise InvalidInput(
            "No environment was chosen: pass --config FILE or set MLOPS_CONFIG, "
            "for example MLOPS_CONFIG=scripts/environments/demo.yaml."
        )
    return _validated(path, _values(path))


def rollout_policy(path: Path | None) -> Path:
    """The rollout policy of an environment, for who needs nothing else of it. Raises InvalidInput."""
    default: Path = Settings.model_fields["rollout_policy"].default
    return Path(_values(path).get("rollout_policy") or default) if path else default


def _values(path: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidInput(f"{path}: the settings cannot be read ({error.strerror}).") from None
    except yaml.YAMLError as error:
        raise InvalidInput(f"{path}: not YAML: {' '.join(str(error).split())}.") from None
    if not isinstance(values, dict):
        raise InvalidInput(f"{path}: the settings must be a mapping of names to values.")
    return values


def _validated(path: Path, values: dict[str, Any]) -> Settings:
    try:
        return Settings(**values)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        if where == "AZURE_SUBSCRIPTION_ID" and "AZURE_SUBSCRIPTION_ID" not in os.environ:
            raise InvalidInput(
                "AZURE_SUBSCRIPTION_ID is not set: sign in to Azure first, or set the repository variable."
            ) from None
        raise InvalidInput(f"{path}: {yaml_files.sentence(Settings, error)}.") from None
