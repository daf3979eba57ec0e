"""An application that is led to serverless endpoints, with the face of an endpoint that has weights.

Nothing stands between users and these endpoints that could share traffic out. So the weights are all or nothing, and
they are the record: whoever has 100 % is where it leads. Everything else of a rollout (who may move it, when it goes
back, what the watchdog does) is the rollout's own. What users cannot be asked is asked with conversations of ours, each
put to both endpoints: at "0 %" before the switch, at 100 % after it.
"""

import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any

from scripts import azure_ml, records
from scripts.endpoint import Answer, Requests
from scripts.errors import AzureFailed, InvalidInput
from scripts.rollout.observation import STANDS
from scripts.rollout.policy import Policy
from scripts.rollout.words import runner
from scripts.serverless import endpoints
from scripts.serverless.record import Record, Side, place, read, write
from scripts.settings import Settings

FORBIDDEN = 403
STEPS = [0, 100]  # both are asked before the switch and after it


@dataclass(frozen=True)
class Serving:
    """A serverless endpoint as a rollout looks at it."""

    provisioning_state: str
    model: str
    instance_count: int = 1


class Led:
    """The one application of an environment. Raises AzureFailed as Azure does."""

    weighs = False

    def __init__(self, settings: Settings) -> None:
        self.name, self._settings = settings.endpoint, settings
        self._ml, self._blob = azure_ml.client(settings), place(settings)

    def record(self) -> Record | None:
        """What says where users are led, or None where nothing does.

        Who may not read it is told by Azure whether there is anything to lead to: without an endpoint of ours there
        is not. Raises AzureFailed when there is one.
        """
        try:
            return read(self._blob)[0]
        except AzureFailed as error:
            if getattr(error.__cause__, "status_code", None) != FORBIDDEN or endpoints.ours(self._settings, self._ml):
                raise
            return None

    def known(self) -> bool:
        return self.record() is not None

    def live(self) -> Side | None:
        found, _ = read(self._blob)
        return found.live if found else None

    def traffic(self) -> dict[str, int]:
        side = self.live()
        return {side.endpoint: 100} if side else {}

    def both(self) -> tuple[dict[str, int], dict[str, int]]:
        return self.traffic(), {}

    def tags(self) -> dict[str, str]:
        found, _ = read(self._blob)
        return found.tags if found else {}

    def deployments(self) -> dict[str, Serving]:
        """The endpoints of this application's models."""
        return {name: serving(each) for name, each in endpoints.ours(self._settings, self._ml).items()}

    def deployment_digest(self, name: str) -> str:
        """Asked of the endpoint and of its model, not of our own records."""
        return endpoints.model_of(self._ml, endpoints.need(self._ml, name)).digest

    def exists(self, name: str) -> bool:
        return endpoints.find(self._ml, name) is not None

    def scale(self, name: str, instances: int) -> None:
        raise AzureFailed(f"Endpoint {name} has no instances to scale to {instances}: it is the service's.")

    def set_traffic(
        self,
        weights: Mapping[str, int],
        tags: Mapping[str, str] | None = None,
        mirror: Mapping[str, int] | None = None,
    ) -> dict[str, int]:
        """Lead users to the one with 100 ({} is nowhere) if they are not led there, and read that back.

        Raises ValueError for weights that share out, AzureFailed when somebody else moved them meanwhile.
        """
        given = {name: weight for name, weight in weights.items() if weight}
        if mirror or list(given.values()) not in ([], [100]):
            raise ValueError(f"an application is led to one endpoint or to none, not {dict(weights)} {mirror or ''}")
        to = next(iter(given), None)
        before, etag = read(self._blob)
        side = self._side(to) if to else None
        told = tags or {}
        moved = before is None or before.live != side
        now = Record(
            application=self.name,
            live=side,
            tags={**(before.tags if before else {}), **told},
            reason=told.get("rollback") or told.get("rollout-reason", ""),
            moved_at=records.now() if before is None or moved else before.moved_at,
            moved_by=runner() if before is None or moved else before.moved_by,
            moves=(before.moves if before else 0) + moved,
        )
        write(self._blob, now, etag)
        if (seen := read(self._blob)[0]) != now:
            leads = seen.live.endpoint if seen and seen.live else "nobody"
            raise AzureFailed(f"{self.name} was led to {to or 'nobody'}, and its record says {leads}.")
        return self.traffic()

    def _side(self, name: str) -> Side:
        """What the record says of an endpoint; read afresh, for the address is what users will ask."""
        try:
            found = endpoints.need(self._ml, name)
            return Side(endpoint=name, uri=endpoints.uri(found), model=endpoints.model_of(self._ml, found))
        except InvalidInput as error:
            raise AzureFailed(f"Nobody can be led to {name}: {error}") from error

    def serving(self, digest: str) -> str:
        return endpoints.name_of(self._settings, digest)

    def rules(self, policy: Policy) -> Policy:
        """Two steps, conversations of ours as evidence, no waiting where no user is, and no mirror."""
        changes = {
            "steps": STEPS,
            "evidence": "sample",
            "bake": policy.bake.model_copy(update={"minutes": 0}),
            "shadow": policy.shadow.model_copy(update={"percent": 0}),
        }
        return policy.model_copy(update=changes)

    @contextmanager
    def requests(self, stable: str, candidate: str) -> Iterator["SideBySide"]:
        with ExitStack() as stack:
            yield SideBySide(
                {
                    name: stack.enter_context(endpoints.requests(self._settings, name))
                    for name in (stable, candidate)
                    if name
                }
            )

    def evidence(self, sample: Sequence[dict[str, Any]]) -> Sequence[dict[str, Any]]:
        """Each conversation twice, for either side once."""
        return [body for body in sample for _ in range(2)]


class SideBySide:
    """Asks an endpoint by name. Without a name each conversation goes to the next side in turn."""

    def __init__(self, sides: Mapping[str, Requests]) -> None:
        self._sides, self._lock = dict(sides), threading.Lock()
        self._turns: Counter[int] = Counter()  # by conversation: threads that overtake each other change nothing

    def ask(self, body: Mapping[str, Any], deployment: str | None = None) -> tuple[Answer, str]:
        name = deployment or self._next(body)
        if name not in self._sides:
            raise InvalidInput(f"{name[:80]!r} is neither side of this rollout ({', '.join(self._sides)}).")
        answer, text = self._sides[name].ask(body)
        return replace(answer, deployment=name), text

    def _next(self, body: Mapping[str, Any]) -> str:
        with self._lock:
            turn = self._turns[id(body)]
            self._turns[id(body)] += 1
        return list(self._sides)[turn % len(self._sides)]


def serving(found: Any) -> Serving:
    state = str(found.provisioning_state)
    told = STANDS if state.lower() == STANDS.lower() else state.capitalize()
    return Serving(told, f"{found.model_id} {(found.tags or {}).get(endpoints.MODEL, '')}")
