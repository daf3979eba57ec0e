"""A rollout's state when its blob is lost: what the endpoint's tags and weights still tell, enough for the way back.

The evidence is gone with the blob, and without evidence nothing goes forward: a rollout that was under way is one that
goes back.
"""

from collections.abc import Mapping
from datetime import timedelta

from pydantic import ValidationError

from scripts import records
from scripts.errors import AzureFailed
from scripts.rollout.state import Phase, RolloutState, Weights, all_to, nonzero

EPOCHS = 1000  # the blob's epoch may have risen since the tags were written; every rebuilt one is above it
SILENT = timedelta(days=1)  # nobody runs it: every watchdog may take it
LOST = "its state was lost and rebuilt from the endpoint's tags"


def from_tags(endpoint: str, tags: Mapping[str, str], traffic: Weights) -> RolloutState | None:
    """None when the tags tell of no rollout. Raises AzureFailed for tags that somebody has edited beyond sense.

    All the traffic on one of the two colours: the rollout has ended there. Else it is going back.
    """
    if "rollout-epoch" not in tags:
        return None
    live, stable, candidate = nonzero(traffic), tags.get("rollout-stable", ""), tags.get("rollout-candidate", "")
    ended = {Phase.PROMOTED: {candidate: 100}, Phase.ROLLED_BACK: all_to(stable)}
    phase = next((phase for phase, weights in ended.items() if live == weights), Phase.ROLLING_BACK)
    now = records.now()
    try:
        return RolloutState(
            endpoint=endpoint,
            stable=stable,
            candidate=candidate,
            stable_model=tags.get("rollout-stable-model", ""),
            candidate_model=tags.get("rollout-candidate-model", ""),
            verdict_digest=tags.get("rollout-verdict", ""),
            epoch=int(tags["rollout-epoch"]) + EPOCHS,
            runner="nobody",
            phase=phase,
            since=now,
            standing=live,
            reason=f"{LOST} ({tags.get('rollout', 'no phase')}: {tags.get('rollout-reason', 'no reason')})",
            started_at=now - SILENT,
            updated_at=now - SILENT,
        )
    except (ValueError, ValidationError):
        raise AzureFailed(
            f"The rollout's state of {endpoint} is lost and its tags make no sense: see what is live, then name the "
            "colour with `python -m scripts rollback --to COLOUR`."
        ) from None
