"""Nobody deletes an endpoint that users are led to, or may have to be led to again."""

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, cast

import pytest

from scripts import records
from scripts.rollout.state import Phase, RolloutState
from scripts.serverless import protected
from scripts.settings import Settings
from tests.scripts.rollout.states import rollout_state

NOW = datetime(2026, 11, 21, 6, 0, tzinfo=UTC)


def state(phase: Phase, hours: float = 0) -> RolloutState:
    return rollout_state(phase, NOW, retain_until=NOW + timedelta(hours=hours) if hours else None)


@pytest.mark.parametrize(
    ("live", "rollout", "kept"),
    [
        ("", None, set()),
        ("old", None, {"old"}),
        ("old", state(Phase.BAKE), {"old", "new"}),
        ("new", state(Phase.POST_BAKE), {"old", "new"}),
        ("old", state(Phase.ROLLED_BACK), {"old"}),
        ("new", state(Phase.PROMOTED, hours=1), {"old", "new"}),
        ("new", state(Phase.PROMOTED, hours=-1), {"new"}),
        ("new", state(Phase.PROMOTED), {"new"}),
        ("", state(Phase.ROLLING_BACK), {"old", "new"}),
    ],
)
def test_live_both_sides_of_a_rollout_and_the_way_back(
    live: str, rollout: RolloutState | None, kept: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = SimpleNamespace(live=SimpleNamespace(endpoint=live) if live else None)
    held = SimpleNamespace(state=rollout) if rollout else None
    monkeypatch.setattr(protected, "place", lambda _: None)
    monkeypatch.setattr(protected, "read", lambda _: (found, "1"))
    monkeypatch.setattr(protected, "BlobStore", lambda _: SimpleNamespace(read=lambda: held))
    monkeypatch.setattr(records, "now", lambda: NOW)
    assert protected.names(cast(Settings, cast(Any, None))) == kept
