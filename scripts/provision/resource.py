"""One thing that must exist: how to look for it, how to make it, how to take it away again."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from azure.core.exceptions import HttpResponseError, ResourceNotFoundError
from pydantic import Field

from scripts import records
from scripts.provision.place import NotSeen

# `hidden`: this identity may not look, which is no evidence that it is there.
State = Literal["exists", "missing", "differs", "hidden"]


@dataclass(frozen=True)
class Resource:
    """`look` returns what is there (None or ResourceNotFoundError: nothing), `create` waits until it is as it should.

    `where` and `why` are for the plan. `differs` says of what is there whether it has to be made anew. `remove` deletes
    it unless `stays` has a reason against it; None: it goes with what it is in, or stays.
    """

    kind: str
    name: str
    look: Callable[[], object]
    create: Callable[[], object]
    where: str = ""
    why: str = ""
    differs: Callable[[object], bool] = field(default=lambda _: False)
    stays: Callable[[object], str] = field(default=lambda _: "not made by provision")
    remove: Callable[[], object] | None = None

    def found(self) -> object | None:
        try:
            return self.look()
        except ResourceNotFoundError:
            return None

    def state(self) -> State:
        """Raises what Azure raises, but for what is not there or not ours to see."""
        try:
            found = self.found()
            if found is None:
                return "missing"
            return "differs" if self.differs(found) else "exists"
        except NotSeen:
            return "hidden"
        except HttpResponseError as error:
            if error.status_code == 403:
                return "hidden"
            raise


class Provisioned(records.Part):
    kind: str
    name: str
    state: str
    where: str = ""
    why: str = ""


class Role(records.Part):
    """Who may do what where, for the plan's second table. `replaces`: the wider role it spares."""

    who: str
    role: str
    scope: str
    why: str
    replaces: str
    state: str


class Provision(records.Record):
    """`provision.json`: what was there and what was made."""

    workspace: str
    resources: list[Provisioned]
    roles: list[Role] = Field(default_factory=list)
    clients: dict[str, str] = Field(default_factory=dict)  # client id by GitHub environment
