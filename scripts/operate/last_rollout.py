"""The one place where day 2 looks at the state of a rollout (scripts/rollout/state.py)."""

from scripts.operate.reap_things import Rollout
from scripts.rollout.state import Phase
from scripts.rollout.store import BlobStore
from scripts.settings import Settings


def read(settings: Settings) -> Rollout | None:
    """None before the first rollout. Raises AzureFailed for a state that cannot be read: unknown is not idle."""
    held = BlobStore(settings).read()
    if held is None:
        return None
    state = held.state
    # Nothing beats for a rollout that has ended, so its last heartbeat is its end.
    ended = None if state.under_way else state.updated_at
    promoted = state.phase is Phase.PROMOTED
    return Rollout(
        state=state.phase.value,
        under_way=state.under_way,
        ended_at=ended,
        way_back=state.stable if promoted else "",
        retain_until=state.retain_until if promoted else None,
        models=frozenset(filter(None, (state.stable_model, state.candidate_model))),
    )
