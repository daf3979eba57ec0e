"""Settings of one environment: YAML, overlaid by the process environment."""

from pathlib import Path

import pytest
import yaml

from scripts import settings
from scripts.errors import InvalidInput

DEMO = Path(__file__).parents[2] / "scripts" / "environments" / "demo.yaml"


@pytest.fixture(autouse=True)
def subscription(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_SUBSCRIPTION_ID", "33333333-3333-3333-3333-333333333333")


def write(tmp_path: Path, **change: object) -> Path:
    path = tmp_path / "environment.yaml"
    path.write_text(yaml.safe_dump({**yaml.safe_load(DEMO.read_text()), **change}))
    return path


def test_the_demo_environment_is_valid() -> None:
    assert settings.load(DEMO).compute.size == "Standard_NC24ads_A100_v4"


def test_the_process_environment_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLOPS_ENDPOINT", "another")
    monkeypatch.setenv("MLOPS_COMPUTE__MAX_INSTANCES", "3")
    loaded = settings.load(DEMO)
    assert (loaded.endpoint, loaded.compute.max_instances, loaded.compute.name) == ("another", 3, "gpu-nc24ads-a100")


def test_unknown_and_wrong_keys_are_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="endpont"):
        settings.load(write(tmp_path, endpont="x"))
    with pytest.raises(InvalidInput, match=r"serving\.request_timeout_ms"):
        settings.load(write(tmp_path, serving={"instance_type": "x", "request_timeout_ms": 200_000}))


def test_the_filter_of_a_server_is_what_the_settings_say(tmp_path: Path) -> None:
    size: dict[str, object] = {"instance_type": "Standard_E4s_v3"}
    there = "https://safe.cognitiveservices.azure.com"
    for given, wanted in (
        ({}, {"CONTENT_FILTER": "local"}),
        ({"content_filter": "off"}, {"CONTENT_FILTER": "off"}),
        ({"content_safety_endpoint": there}, {"CONTENT_FILTER": "local"}),
        (
            {"content_filter": "azure", "content_safety_endpoint": there},
            {"CONTENT_FILTER": "azure", "CONTENT_SAFETY_ENDPOINT": there},
        ),
    ):
        assert settings.load(write(tmp_path, serving={**size, **given})).serving.filter_variables == wanted
    for wrong in (
        {"content_filter": False},  # what YAML makes of a bare `off`
        {"content_safety_endpoint": "http://safe.cognitiveservices.azure.com"},
        {"content_safety_id": "safe"},
    ):
        with pytest.raises(InvalidInput, match=f"serving.{next(iter(wrong))}"):
            settings.load(write(tmp_path, serving={**size, **wrong}))


def test_the_servers_own_variables_do_not_switch_the_filter_off(tmp_path: Path) -> None:
    from scripts import deploy, records

    variables = {"CONTENT_FILTER": "off", "MAX_BATCH_SIZE": "2"}
    loaded = settings.load(
        write(tmp_path, serving={"instance_type": "Standard_E4s_v3", "environment_variables": variables})
    )
    model = records.Model(name="m", version="1", id="x", digest="d", path="p", lineage=records.Lineage())
    made = deploy._deployment(loaded, model, "blue", {})
    assert made.environment_variables["CONTENT_FILTER"] == "local"
    assert made.environment_variables["MAX_BATCH_SIZE"] == "2"


def test_no_subscription_says_to_sign_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AZURE_SUBSCRIPTION_ID")
    with pytest.raises(InvalidInput, match="AZURE_SUBSCRIPTION_ID is not set"):
        settings.load(DEMO)


@pytest.mark.parametrize("text", ["", "- a", "a: ["])
def test_what_is_not_settings_is_one_sentence(tmp_path: Path, text: str) -> None:
    path = tmp_path / "environment.yaml"
    path.write_text(text)
    with pytest.raises(InvalidInput, match=r"environment\.yaml"):
        settings.load(path)
    with pytest.raises(InvalidInput, match="MLOPS_CONFIG"):
        settings.load(None)
