"""Talk to one online endpoint: its weights over ARM, its requests over HTTPS."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, Self
from urllib.parse import urljoin

import httpx
from azure.core.exceptions import ResourceNotFoundError

from scripts import azure_ml, records
from scripts.errors import AzureFailed, InvalidInput
from scripts.settings import Settings
from scripts.shapes import SHAPES, Shape

if TYPE_CHECKING:
    from scripts.rollout.policy import Policy

DEPLOYMENT_HEADER = "azureml-model-deployment"
OURS = "release-train"  # the `user` of requests to one colour: no customer's, so serving/ keeps nothing about them
READ_BACK_SECONDS = 120.0  # weights read back may be stale for a while


@dataclass(frozen=True)
class Answer:
    """What one request came to. `deployment` is who answered, "" when nobody did; status 0 is no HTTP answer at all."""

    deployment: str
    status: int
    latency_ms: float

    @property
    def ok(self) -> bool:
        return self.status == 200


class Asks(Protocol):
    """Whatever can be asked: one deployment when it is named, else where users are led."""

    def ask(self, body: Mapping[str, Any], deployment: str | None = None) -> tuple[Answer, str]:
        """What one request came to, and what was said. Raises nothing for an HTTP error."""


class Endpoint:
    """The one endpoint of an environment. Raises AzureFailed as Azure does."""

    weighs = True  # see front.py

    def __init__(self, settings: Settings) -> None:
        self.name, self._path, self.shape = settings.endpoint, settings.scoring_path, settings.request_shape
        self._ml = azure_ml.client(settings)

    def traffic(self) -> dict[str, int]:
        """The weights now, without zeros."""
        with azure_ml.explained(f"Reading endpoint {self.name}"):
            return _nonzero(self._ml.online_endpoints.get(self.name).traffic)

    def tags(self) -> dict[str, str]:
        with azure_ml.explained(f"Reading endpoint {self.name}"):
            return dict(self._ml.online_endpoints.get(self.name).tags or {})

    def all_names(self) -> list[str]:
        """The endpoints of the workspace."""
        with azure_ml.explained("Listing the endpoints"):
            return sorted(str(each.name) for each in self._ml.online_endpoints.list())

    def scoring_uri(self) -> str:
        """Where its tier answers. Azure names the path of one deployment, and has none to name before the first."""
        with azure_ml.explained(f"Reading endpoint {self.name}"):
            return urljoin(str(self._ml.online_endpoints.get(self.name).scoring_uri), self._path)

    def deployments(self) -> dict[str, Any]:
        """Deployments by name, as the SDK's entities."""
        with azure_ml.explained(f"Listing the deployments of {self.name}"):
            return {str(each.name): each for each in self._ml.online_deployments.list(self.name)}

    def deployed_model(self, name: str) -> records.Model:
        """The model that a deployment runs, asked of Azure and not of our own records; its digest may be ""."""
        deployment = self.deployments().get(name)
        if deployment is None:
            raise InvalidInput(f"Endpoint {self.name} has no deployment {name}: deploy it first.")
        with azure_ml.explained(f"Reading the model of {name}"):
            # The ARM id of a model ends in …/models/NAME/versions/VERSION.
            model, _, version = str(deployment.model).rsplit("/", 3)[1:]
            return model_of(self._ml.models.get(model, version))

    def deployment_digest(self, name: str) -> str:
        """The digest tag of the model that a deployment runs."""
        return self.deployed_model(name).digest

    def both(self) -> tuple[dict[str, int], dict[str, int]]:
        """The weights and the mirror now, without zeros, as one reading."""
        with azure_ml.explained(f"Reading endpoint {self.name}"):
            found = self._ml.online_endpoints.get(self.name)
            return _nonzero(found.traffic), _nonzero(found.mirror_traffic)

    def scale(self, name: str, instances: int) -> None:
        """Give a deployment so many instances. Raises AzureFailed."""
        with azure_ml.explained(f"Scaling deployment {name} to {instances}"), azure_ml.waiting(f"Scaling {name}"):
            deployment = self._ml.online_deployments.get(name, self.name)
            deployment.instance_count = instances
            for collection in deployment.data_collector.collections.values() if deployment.data_collector else ():
                collection.data = None  # read back it is an id, which the SDK then takes for an object and fails
            self._ml.online_deployments.begin_create_or_update(deployment).result()

    def set_traffic(
        self,
        weights: Mapping[str, int],
        tags: Mapping[str, str] | None = None,
        mirror: Mapping[str, int] | None = None,
    ) -> dict[str, int]:
        """Write all weights at once, then read until Azure says the same. Returns what was read back.

        What is not in `mirror` is mirrored no more.

        {} takes the traffic from everybody: the way back of a first release. Raises ValueError for other weights that
        do not add up to 100, AzureFailed when they never read back as written.
        """
        if weights and (sum(weights.values()) != 100 or min(weights.values()) < 0):
            raise ValueError(f"traffic weights must be whole percents that add up to 100, not {dict(weights)}")
        with azure_ml.explained(f"Setting the traffic of {self.name} to {dict(weights)}"):
            endpoint = self._ml.online_endpoints.get(self.name)
            before = _nonzero(endpoint.traffic)
            endpoint.traffic = dict(weights)
            endpoint.mirror_traffic = dict(mirror or {})
            endpoint.tags = {**(endpoint.tags or {}), **(tags or {})}
            self._ml.online_endpoints.begin_create_or_update(endpoint).result()
        deadline = time.monotonic() + READ_BACK_SECONDS
        while (seen := self.traffic()) != _nonzero(weights):
            # Old weights may still be read for a while; others are somebody else's, and waiting mends nothing.
            if time.monotonic() > deadline or seen != before:
                raise AzureFailed(f"Endpoint {self.name} was told {dict(weights)} but still says {seen}.")
            time.sleep(2)
        return seen

    def logs(self, deployment: str, lines: int = 30) -> str:
        """The last lines a deployment wrote; empty when Azure has none yet."""
        try:
            return str(self._ml.online_deployments.get_logs(deployment, self.name, lines=lines))
        except Exception:  # the log is a help while explaining another failure; it must not become the failure
            return ""

    def delete_deployment(self, name: str) -> None:
        with azure_ml.explained(f"Deleting deployment {name}"):
            self._ml.online_deployments.begin_delete(name=name, endpoint_name=self.name).result()

    def create_deployment(self, deployment: Any) -> None:
        what = f"deployment {deployment.name}"
        with azure_ml.explained(f"Creating {what}"), azure_ml.waiting(f"Creating {what}"):
            self._ml.online_deployments.begin_create_or_update(deployment).result()

    def exists(self, name: str) -> bool:
        try:
            self._ml.online_deployments.get(name, self.name)
        except ResourceNotFoundError:
            return False
        return True

    def serving(self, _digest: str) -> str:
        return ""

    def rules(self, policy: "Policy") -> "Policy":
        return policy

    def requests(self, _stable: str, _candidate: str) -> "Requests":
        return Requests(self.scoring_uri(), shape=self.shape)

    def evidence(self, sample: Sequence[dict[str, Any]]) -> Sequence[dict[str, Any]]:
        return sample


class Requests:
    """HTTPS requests to the scoring URI with an Entra token, or with the `key` of an endpoint that takes no other.

    Not the SDK's `invoke`: that leaks a deployment header into every later call and makes three requests of one.
    """

    def __init__(
        self, scoring_uri: str, *, timeout_seconds: float = 180.0, key: str = "", shape: str = "openai"
    ) -> None:
        """`shape`: what becomes of the bodies, which are given in OpenAI's style (shapes.py)."""
        self._uri, self._key, self._shape = scoring_uri, key, SHAPES[shape]
        self._credential = azure_ml.credential()
        self._http = httpx.Client(timeout=timeout_seconds, limits=httpx.Limits(max_connections=64))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def post(self, body: Mapping[str, Any], deployment: str | None = None) -> Answer:
        """Send one body, to one deployment when named, else where the weights lead. Never raises for an HTTP error."""
        return self.ask(body, deployment)[0]

    def ask(self, body: Mapping[str, Any], deployment: str | None = None) -> tuple[Answer, str]:
        """The same, with what was said; "" when that cannot be read."""
        token = self._key or self._credential.get_token(azure_ml.SCORING_SCOPE).token
        headers = {"Authorization": f"Bearer {token}"}
        if deployment:
            headers[DEPLOYMENT_HEADER] = deployment
            if "messages" in body:
                body = {"user": OURS, **body}
        started = time.monotonic()
        try:
            answer = self._http.post(self._uri, json=self._shape.request(body), headers=headers)
        except httpx.HTTPError:
            return Answer(deployment or "", 0, (time.monotonic() - started) * 1000), ""
        took = (time.monotonic() - started) * 1000
        by = answer.headers.get(DEPLOYMENT_HEADER, deployment or "")
        return Answer(by, answer.status_code, took), _said(answer, self._shape)


def model_of(registered: Any) -> records.Model:
    """A model version of the workspace as `register` recorded it: digest and lineage are its tags."""
    tags = registered.tags or {}
    return records.Model(
        name=str(registered.name),
        version=str(registered.version),
        id=str(registered.id),
        digest=str(tags.get("digest", "")),
        path=str(registered.path),
        lineage=records.Lineage(**{key: tags[key] for key in records.Lineage.model_fields if key in tags}),
        artifact=tags.get("artifact", "merged"),
    )


def _said(answer: httpx.Response, shape: Shape) -> str:
    try:
        return str(shape.text(answer.json()))
    except (ValueError, KeyError, IndexError, TypeError, StopIteration):
        return ""


def _nonzero(weights: Mapping[str, int] | None) -> dict[str, int]:
    return {name: int(weight) for name, weight in (weights or {}).items() if weight}
