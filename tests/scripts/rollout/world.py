"""An endpoint and a state store in memory, where processes can be stopped, or crossed by others, at any effect.

The stand-ins keep what the real ones promise: a store write names the version it replaces, weights do not.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cache
from random import Random
from types import SimpleNamespace
from typing import Any, cast

from scripts import records
from scripts.endpoint import Answer, Endpoint, Requests
from scripts.errors import AzureFailed
from scripts.records import Rollout
from scripts.rollout import policy as policies
from scripts.rollout.back import Rollback, Wish, roll_back
from scripts.rollout.begin import Wanted, begin
from scripts.rollout.executor import Executor, Tools
from scripts.rollout.look import Eyes
from scripts.rollout.run import record_of
from scripts.rollout.state import Phase, RolloutState
from scripts.rollout.store import Fenced, Held, Store
from scripts.rollout.watch import Watch, watch

LOCAL = policies.load(policies.LOCAL)
# Two or three looks are enough for a step.
POLICY = LOCAL.model_copy(
    update={
        "bake": LOCAL.bake.model_copy(update={"min_requests": 6}),
        "bad_below": 0.4,
        "sample": LOCAL.sample.model_copy(update={"per_look": 48}),
    }
)
HELLO = [{"messages": ["hello"]}]
Hook = Callable[[], None]


class Crash(BaseException):
    """The process is gone: no handler of its own may run."""


@dataclass(frozen=True)
class Event:
    """Who did what: "read" and "write" of the state with its epoch, "put" of weights."""

    actor: str
    kind: str
    epoch: int = 0
    weights: dict[str, int] = field(default_factory=dict)


class World:
    """What all processes share."""

    def __init__(self, weights: dict[str, int] | None = None) -> None:
        self.weights = {"blue": 100} if weights is None else weights
        self.mirror: dict[str, int] = {}
        self.instances = {"blue": 1, "green": 1}
        self.health: dict[str, str] = {}
        self.slept = timedelta(0)
        self.models = {"blue": "b" * 64, "green": "g" * 64}
        self.tags: dict[str, str] = {}
        self.held: Held | None = None
        self.versions = 0
        self.events: list[Event] = []
        self.silent = False  # no request gets any answer
        self.errors = 0.0  # share of the candidate's requests that fail
        self.actors = 0

    @property
    def state(self) -> RolloutState:
        assert self.held is not None
        return self.held.state

    @property
    def written(self) -> list[dict[str, int]]:
        return [event.weights for event in self.events if event.kind == "put"]

    def now(self) -> datetime:
        """The clock of everybody, put forward by whoever sleeps."""
        return records.now() + self.slept

    def sleep(self, seconds: float) -> None:
        self.slept += timedelta(seconds=seconds)

    def actor(self, hooks: Mapping[int, Hook] | None = None) -> "Actor":
        self.actors += 1
        return Actor(self, f"actor-{self.actors}", dict(hooks or {}))


class Actor:
    """One process: its view of endpoint and store. `hooks` run at its n-th effect (counted from 0)."""

    name = "ticket-triage"

    def __init__(self, world: World, who: str, hooks: dict[int, Hook]) -> None:
        self.world, self.who, self.hooks = world, who, hooks
        self.effects = 0
        self.reached: dict[Phase, int] = {}  # the effect that first kept a state of this phase
        self.fail_puts: frozenset[int] = frozenset()
        self.puts = 0
        self.lose_answers: frozenset[int] = frozenset()
        self.store_down = False
        self.random = Random(self.world.actors)

    def tick(self) -> None:
        hook = self.hooks.pop(self.effects, None)
        self.effects += 1
        if hook:
            hook()

    # The state's store.

    def read(self) -> Held | None:
        self.tick()
        self._up()
        held = self.world.held
        self.world.events.append(Event(self.who, "read", held.state.epoch if held else 0))
        return held

    def write(self, state: RolloutState, over: str | None) -> str:
        self.tick()
        self._up()
        if (self.world.held.etag if self.world.held else None) != over:
            raise Fenced("another version")
        self.world.versions += 1
        version = self.world.versions
        kept = RolloutState.model_validate_json(state.model_dump_json())
        self.world.held = Held(kept, f"etag-{version}")
        self.world.events.append(Event(self.who, "write", state.epoch))
        self.reached.setdefault(state.phase, self.effects)
        if version in self.lose_answers:  # the transport sends it again and meets its own success
            raise Fenced("another version")
        self.tick()
        return f"etag-{version}"

    def _up(self) -> None:
        if self.store_down:
            raise AzureFailed("the storage account does not answer")

    # The endpoint.

    def traffic(self) -> dict[str, int]:
        self.tick()
        return dict(self.world.weights)

    def both(self) -> tuple[dict[str, int], dict[str, int]]:
        self.tick()
        return dict(self.world.weights), dict(self.world.mirror)

    def scale(self, name: str, instances: int) -> None:
        self.tick()
        self.world.instances[name] = instances

    def set_traffic(
        self,
        weights: Mapping[str, int],
        tags: Mapping[str, str] | None = None,
        mirror: Mapping[str, int] | None = None,
    ) -> dict[str, int]:
        self.tick()
        assert not weights or sum(weights.values()) == 100
        self.puts += 1
        self.world.events.append(Event(self.who, "put", weights=dict(weights)))
        if self.puts in self.fail_puts or any(name not in self.world.models for name in weights):
            raise AzureFailed("503")
        self.world.weights = {name: weight for name, weight in weights.items() if weight}
        self.world.mirror = dict(mirror or {})
        self.world.tags |= tags or {}
        self.tick()
        return dict(self.world.weights)

    def deployment_digest(self, name: str) -> str:
        return self.world.models[name]

    def deployments(self) -> dict[str, Any]:
        return {
            name: SimpleNamespace(
                model=model,
                provisioning_state=self.world.health.get(name, "Succeeded"),
                instance_count=self.world.instances.get(name, 1),
            )
            for name, model in self.world.models.items()
        }

    def exists(self, name: str) -> bool:
        return name in self.world.models

    def tags(self) -> dict[str, str]:
        return self.world.tags

    def serving(self, _digest: str) -> str:
        return ""

    def rules(self, policy: policies.Policy) -> policies.Policy:
        return policy

    # Requests.

    def post(self, body: Mapping[str, Any], deployment: str | None = None) -> Answer:
        assert body["messages"]
        if self.world.silent or not (self.world.weights or deployment):
            return Answer("", 0, 1.0)
        to = deployment or self.random.choices(list(self.world.weights), list(self.world.weights.values()))[0]
        failed = to == "green" and not deployment and self.random.random() < self.world.errors
        return Answer(to, 424 if failed else 200, 100.0)

    def ask(self, body: Mapping[str, Any], deployment: str | None = None) -> tuple[Answer, str]:
        return self.post(body, deployment), "hello"

    @property
    def endpoint(self) -> Endpoint:
        return cast(Endpoint, self)

    @property
    def store(self) -> Store:
        return self


class Judged:
    outcome, bound, reason, digest = "pass", True, "better", "v" * 64
    created_at = records.now().isoformat()
    candidate_model: str | None = "g" * 64
    baseline_model: str | None = "b" * 64


def judged(**changes: object) -> Any:
    return type("Changed", (Judged,), changes)()


def quiet(_: str) -> None:
    """What a command tells is not asserted on."""


def run(actor: Actor, verdict: Any = None, candidate: str | None = "green", **options: Any) -> Rollout | RolloutState:
    """`rollout run` as one process does it."""
    wanted = Wanted(verdict or judged(), POLICY, candidate, **options)
    mine, _ = begin(actor.endpoint, actor.store, wanted, lambda *_: None)
    if isinstance(mine, RolloutState):
        return mine
    world = actor.world
    tools = Tools(actor.endpoint, cast(Requests, actor), HELLO, HELLO, Eyes(actor.endpoint, None))
    return record_of(Executor(tools, POLICY, mine, quiet, sleep=world.sleep, clock=world.now).run())


@cache
def baking() -> int:
    """An effect within the first step of an undisturbed rollout: its weights are in force and kept."""
    actor = World().actor()
    run(actor)
    return actor.reached[Phase.BAKE] + 2


def rollback(actor: Actor, to: str | None = None, *, abort: bool = False) -> Rollback:
    wish = Wish("because", to, only_under_way=abort)
    return roll_back(actor.endpoint, lambda: actor.store, wish, quiet, grace_seconds=0)


def watchdog(actor: Actor, stale: timedelta = timedelta(0)) -> Watch:
    return watch(actor.endpoint, actor.store, stale, quiet, grace_seconds=0)


def crash() -> None:
    raise Crash


def raises_of(world: World) -> list[tuple[str, int]]:
    """Checks every write of weights that gave the candidate anything; returns who wrote them and for which epoch.

    Its process's last look at the state, just before, must have shown its own epoch.
    """
    found = []
    for place, event in enumerate(world.events):
        if event.kind == "put" and event.weights.get("green"):
            mine = [each for each in world.events[:place] if each.actor == event.actor and each.kind != "put"]
            own = next(each.epoch for each in reversed(mine) if each.kind == "write")
            assert (mine[-1].kind, mine[-1].epoch) == ("read", own), f"{event} after {mine[-1]}"
            found.append((event.actor, own))
    return found
