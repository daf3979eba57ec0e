"""`rollout start`, `tick` and `run`: put the parts together and say what came of it."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from scripts import autoscale, records, sample_requests
from scripts.endpoint import Endpoint, Requests
from scripts.rollout.approval import Approval
from scripts.rollout.begin import Wanted, begin, carry_on
from scripts.rollout.executor import Executor, Tools
from scripts.rollout.look import Eyes
from scripts.rollout.monitor import mirrored, monitor_of
from scripts.rollout.policy import Policy
from scripts.rollout.preflight import by_azure
from scripts.rollout.probes import Prober
from scripts.rollout.safety import Grader, grader_of
from scripts.rollout.state import Phase, RolloutState
from scripts.rollout.store import BlobStore, Tenure
from scripts.settings import Settings

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Sources:
    """What is asked of the colours: `sample` for evidence where there are no users, `held_out` (of the file `prompts`)
    for smoke tests and probes."""

    sample: Sequence[dict[str, Any]]
    held_out: Sequence[dict[str, Any]]
    prompts: Path


def sources_of(traffic: Path, prompts: Path) -> Sources:
    """Raises InvalidInput naming the file."""
    return Sources(sample_requests.bodies(traffic), sample_requests.bodies(prompts), prompts)


def run(settings: Settings, wanted: Wanted, sources: Sources, tell: Tell) -> records.Rollout:
    """Move traffic to the candidate step by step, or go on where another process stopped.

    Ends when the rollout has, or when a person must do something first. Raises Refused before anything moves when a
    rule says no.
    """
    endpoint, grader = Endpoint(settings), grader_of(wanted.policy)
    mine, found = begin(endpoint, BlobStore(settings), wanted, by_azure(settings, wanted.policy))
    if isinstance(mine, RolloutState):
        return record_of(mine).model_copy(update={"reason": f"nothing to do, {found}"})
    tell(f"{mine.state.candidate}: {found}")
    autoscale.settle(settings, rolling_out=True)
    with _executor(settings, endpoint, mine, wanted.policy, sources, tell, grader) as executor:
        return _ended(settings, executor.run(), tell)


def start(settings: Settings, wanted: Wanted) -> records.Rollout:
    """Write the state of a new rollout and touch nothing else: `tick` goes on with it. Raises Refused."""
    grader_of(wanted.policy)  # raises for a tick that could not grade
    mine, found = begin(Endpoint(settings), BlobStore(settings), wanted, by_azure(settings, wanted.policy))
    if isinstance(mine, RolloutState):
        return record_of(mine).model_copy(update={"reason": f"nothing to do, {found}"})
    return record_of(mine.state)


def tick(
    settings: Settings, policy: Policy, approval: Approval | None, sources: Sources, tell: Tell
) -> records.Rollout:
    """Do what can be done now for the rollout that is under way. Raises Refused when there is none."""
    endpoint, grader = Endpoint(settings), grader_of(policy)
    mine = carry_on(endpoint.name, BlobStore(settings), policy, approval)
    autoscale.settle(settings, rolling_out=True)
    with _executor(settings, endpoint, mine, policy, sources, tell, grader) as executor:
        return _ended(settings, executor.tick_or_aside(), tell)


def _ended(settings: Settings, at: RolloutState, tell: Tell) -> records.Rollout:
    """The record; of a rollout that has ended the instance counts are the live colour's own affair again."""
    if not at.under_way:
        autoscale.settle_or_tell(settings, tell)
    return record_of(at)


@contextmanager
def _executor(
    settings: Settings,
    endpoint: Endpoint,
    mine: Tenure,
    policy: Policy,
    sources: Sources,
    tell: Tell,
    grader: Grader | None,
) -> Iterator[Executor]:
    """The executor with everything that it asks and looks at."""
    users = policy.evidence == "users"
    copies = partial(mirrored, settings, endpoint.name)
    eyes = Eyes(endpoint, monitor_of(settings, endpoint.name), copies) if users else Eyes(endpoint, None)
    with Requests(endpoint.scoring_uri(), shape=endpoint.shape) as requests:
        prober = Prober(requests, sources.prompts, policy.probes.metric) if users or grader else None
        if grader and grader.caveat:
            tell(f"  {grader.caveat}")
        tools = Tools(endpoint, requests, sources.sample, sources.held_out, eyes, prober, grader)
        yield Executor(tools, policy, mine, tell)


def record_of(at: RolloutState) -> records.Rollout:
    """`rollout.json` of a state."""
    kept = ("endpoint", "stable", "candidate", "reason", "verdict_digest", "approved_by", "epoch", "runner")
    stuck = at.phase is Phase.ROLLING_BACK
    return records.Rollout(
        **{name: getattr(at, name) for name in kept},
        state=Phase.ROLLBACK_STUCK.value if stuck else at.phase.value,
        started_at=at.started_at,
        ended_at=at.updated_at,
        steps=at.steps,
        writes=at.writes,
    )
