"""One thing that must exist: how to look for it, how to make it, how to take it away again."""

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Literal

from azure.core.exceptions import HttpResponseError, ResourceNotFoundError
from pydantic import Field

from scripts import records
from scripts.cost.standing import Month
from scripts.provision.place import LEARNING, NotSeen

# `hidden`: this identity may not look, which is no evidence that it is there.
State = Literal["exists", "missing", "differs", "hidden"]
INSIGHTS = "Microsoft.Insights"
# Whose things the kinds are.
NEEDS = {
    "managed identity": ("Microsoft.ManagedIdentity",),
    "federated credential": ("Microsoft.ManagedIdentity",),
    "container registry": ("Microsoft.ContainerRegistry",),
    **dict.fromkeys(("workspace", "compute cluster", "environment", "endpoint"), (LEARNING,)),
    **dict.fromkeys(("diagnostic setting", "action group", "metric alert", "autoscale setting"), (LEARNING, INSIGHTS)),
    "role assignment": ("Microsoft.ManagedIdentity", LEARNING),
}


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

    @property
    def needs(self) -> frozenset[str]:
        """The providers without which it cannot be there."""
        return frozenset(NEEDS.get(self.kind, ()))

    def found(self) -> object | None:
        try:
            return self.look()
        except ResourceNotFoundError:
            return None

    def state(self, unregistered: Collection[str] = ()) -> State:
        """Raises what Azure raises, but for what is not there or not ours to see.

        Nothing of an `unregistered` provider can be there, and asking would make the SDK register it by itself.
        """
        if not self.needs.isdisjoint(unregistered):
            return "missing"
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
    month: Month | None = None  # what it costs for being there
