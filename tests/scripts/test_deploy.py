"""What a deployment tells its server (which model it must be, when nobody waits any more), and what we tell of it."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from scripts import records
from scripts.deploy import _deployment, last_words
from scripts.errors import AzureFailed
from scripts.settings import load

ROOT = Path(__file__).parents[2]


def model(digest: str) -> records.Model:
    return records.Model(name="m", version="1", id="/m/1", digest=digest, path="p", lineage=records.Lineage())


@pytest.mark.parametrize("environment", ["demo", "production"])
def test_the_server_is_told_the_digest_of_the_model_and_the_gateways_time_limit(
    environment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AZURE_SUBSCRIPTION_ID", "00000000-0000-0000-0000-000000000000")
    settings = load(ROOT / f"scripts/environments/{environment}.yaml")
    told = _deployment(settings, model("d" * 64), "green", {}).environment_variables
    assert told["MODEL_DIGEST"] == "d" * 64
    assert told["SCORING_TIMEOUT_MS"] == str(settings.serving.request_timeout_ms)
    words = told["GUNICORN_CMD_ARGS"].split()
    numbers = dict(zip(words[::2], map(int, words[1::2]), strict=True))
    waiting = int(told.get("MAX_QUEUED_REQUESTS", 16))
    assert numbers["--threads"] > int(told["MAX_BATCH_SIZE"]) + waiting, "probes would wait behind answers"
    assert numbers["--graceful-timeout"] * 1000 > settings.serving.request_timeout_ms, "a stop would lose requests"


def test_a_model_without_a_digest_is_not_held_against_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_SUBSCRIPTION_ID", "00000000-0000-0000-0000-000000000000")
    settings = load(ROOT / "scripts/environments/demo.yaml")
    assert "MODEL_DIGEST" not in _deployment(settings, model(""), "green", {}).environment_variables


class Refusal(Exception):
    def __init__(self, status: int | None) -> None:
        self.status_code = status


@pytest.mark.parametrize(("status", "said"), [(None, True), (200, True), (400, False), (409, False)])
def test_the_log_of_what_stood_there_before_is_not_quoted(status: int | None, said: bool) -> None:
    error = AzureFailed("Creating deployment green failed.")
    error.__cause__ = Refusal(status)
    endpoint = cast(Any, SimpleNamespace(logs=lambda *_, **__: "ValueError: no such file"))
    assert last_words(endpoint, "green", error) == (" Its log says: ValueError: no such file" if said else "")
