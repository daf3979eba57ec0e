"""Nothing here waits for Azure."""

import pytest

from scripts.rollout import back


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(back, "RETRY_SECONDS", 0.0)
