"""Which serverless endpoints users are led to, or may have to be led to again: nobody deletes those."""

from scripts import records
from scripts.rollout.state import Phase
from scripts.rollout.store import BlobStore
from scripts.serverless.record import place, read
from scripts.settings import Settings


def names(settings: Settings) -> frozenset[str]:
    """The live one, both sides of a rollout under way, and the way back until its time is over. Raises AzureFailed."""
    found, held = read(place(settings))[0], BlobStore(settings).read()
    kept, state = {found.live.endpoint} if found and found.live else set(), held.state if held else None
    if state and state.under_way:
        kept |= {state.stable, state.candidate}
    if state and state.phase is Phase.PROMOTED and state.retain_until and records.now() < state.retain_until:
        kept.add(state.stable)
    return frozenset(kept - {""})
