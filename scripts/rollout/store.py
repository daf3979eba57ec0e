"""Where the state is kept, and how a process holds on to it.

Every write names the version it replaces (If-Match), so of two processes only one goes on: the other learns at its next
write, or at the next look it takes before raising a weight, that it was fenced off.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from pydantic import ValidationError

from scripts import azure_ml, storage
from scripts.errors import AzureFailed, Refused
from scripts.front import front_of
from scripts.rollout import rebuild
from scripts.rollout.state import RolloutState
from scripts.settings import Settings

CLAIM_TRIES = 20


class Fenced(Refused):
    """Somebody else has taken the rollout over."""


class Unreadable(AzureFailed):
    """There is something in the state's place that is not a state."""


@dataclass(frozen=True)
class Held:
    """A state and the version (ETag) it was read or written as; None: it was rebuilt and is not kept anywhere yet."""

    state: RolloutState
    etag: str | None


class Store(Protocol):
    def read(self) -> Held | None:
        """The newest state. Raises AzureFailed."""

    def write(self, state: RolloutState, over: str | None) -> str:
        """Replace exactly version `over` (None: there is none yet); the new ETag. Raises Fenced, AzureFailed."""


class BlobStore:
    """One JSON blob in the workspace's own storage, signed in as ourselves: no account key is asked for.

    Where the blob is gone, the front's tags tell what they can (rebuild.py).
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        box = storage.container(settings)
        self.account = box.account_name
        self.name = f"rollouts/{settings.endpoint}.json"
        self._blob = box.get_blob_client(self.name)

    def read(self) -> Held | None:
        from azure.core.exceptions import ResourceNotFoundError

        with azure_ml.explained(self._doing("Reading")):
            try:
                found = self._blob.download_blob()
            except ResourceNotFoundError:
                return self._rebuilt()
            body = found.readall()
        try:
            return Held(RolloutState.model_validate_json(body), str(found.properties.etag))
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])) or "the document"
            raise Unreadable(
                f"{self.name} on storage account {self.account} is not a rollout's state ({where}: {first['msg']}): "
                "use the version of these scripts that wrote it, or delete it once traffic is where it should be."
            ) from None

    def write(self, state: RolloutState, over: str | None) -> str:
        from azure.core import MatchConditions
        from azure.core.exceptions import ResourceExistsError, ResourceModifiedError

        body = state.model_dump_json(indent=2).encode()
        with azure_ml.explained(self._doing("Writing")):
            try:
                if over is None:  # sends If-None-Match: *
                    return str(self._blob.upload_blob(body, overwrite=False)["etag"])
                condition = MatchConditions.IfNotModified
                return str(self._blob.upload_blob(body, overwrite=True, etag=over, match_condition=condition)["etag"])
            except (ResourceExistsError, ResourceModifiedError):
                raise Fenced(f"The state of {state.endpoint}'s rollout was changed by somebody else.") from None

    def _rebuilt(self) -> Held | None:
        front = front_of(self._settings)
        told = rebuild.from_tags(front.name, front.tags(), front.traffic())
        return Held(told, None) if told else None

    def _doing(self, verb: str) -> str:
        return f"{verb} {self.name} on storage account {self.account}"


class Tenure:
    """This process's hold on the state: each write proves that nobody has taken over since the last."""

    def __init__(self, store: Store, state: RolloutState, over: Held | None) -> None:
        """Take the state: the first write. Raises Fenced when somebody was quicker."""
        self._store = store
        self._etag = over.etag if over else None
        self._attempted = self.state = state
        self._write(state)

    def put(self, **changes: object) -> None:
        """Write the state with these changes and a fresh heartbeat. Raises Fenced, AzureFailed."""
        self._write(self.state.changed(**changes))

    def replace(self, state: RolloutState) -> None:
        """Write this state of ours instead, with a fresh heartbeat. Raises Fenced, AzureFailed."""
        self._write(state.changed())

    def check(self) -> None:
        """Read the state afresh. Raises Fenced unless it is as we wrote it last."""
        fresh = self.newest()
        if fresh is None or fresh.epoch != self.state.epoch or fresh.runner != self.state.runner:
            raise self._fenced(fresh)

    def newest(self) -> RolloutState | None:
        held = self._store.read()
        return held.state if held else None

    def _write(self, state: RolloutState) -> None:
        before, self._attempted = self._attempted, state
        try:
            self._etag = self._store.write(state, self._etag)
        except Fenced:
            # A write whose answer was lost and that was sent again fails on its own success.
            held = self._store.read()
            if held is None or held.state not in (before, state):
                raise self._fenced(held.state if held else None) from None
            self._etag = held.etag if held.state == state else self._store.write(state, held.etag)
        self.state = state

    def _fenced(self, fresh: RolloutState | None) -> Fenced:
        who = (
            f"{fresh.runner} has taken it over ({fresh.phase.value}: {fresh.reason})" if fresh else "its state is gone"
        )
        return Fenced(f"This process no longer runs the rollout of {self.state.endpoint}: {who}.")


def claim(store: Store, choose: Callable[[RolloutState | None], RolloutState | None]) -> Tenure | None:
    """Write what `choose` makes of the newest state (None: nothing); asked again whenever somebody was quicker."""
    for _ in range(CLAIM_TRIES):
        held = store.read()
        wanted = choose(held.state if held else None)
        if wanted is None:
            return None
        try:
            return Tenure(store, wanted, held)
        except Fenced:
            continue
    raise AzureFailed(
        f"The state of the rollout was changed {CLAIM_TRIES} times while it was to be taken over: try again."
    )
