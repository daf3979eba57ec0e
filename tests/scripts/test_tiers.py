"""serving/tiers.yaml is the one place that says how a tier is served, and an environment overrides single values."""

import datetime as dt
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from scripts import autoscale, deploy, records, register, retired, settings, tiers
from scripts.doctor import quota
from scripts.errors import InvalidInput, Refused
from scripts.github import environments
from scripts.provision import environment_version, roles
from scripts.provision.place import Place

DEMO, PRODUCTION = Path("scripts/environments/demo.yaml"), Path("scripts/environments/production.yaml")
NAMES = ("python", "cpu", "gpu", "mlflow")
MODEL = records.Model(name="m", version="1", id="/m", digest="d" * 64, path="p", lineage=records.Lineage())


@pytest.fixture(autouse=True)
def subscription(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_SUBSCRIPTION_ID", "33333333-3333-3333-3333-333333333333")


def of(tmp_path: Path, tier: str, **serving: Any) -> settings.Settings:
    """Production's names with nothing said of the server but this; no filter where there must be none."""
    serving = {"content_filter": "off", **serving} if tier == "mlflow" else serving
    values = yaml.safe_load(PRODUCTION.read_text())
    values |= {"serving": {"tier": tier, **serving}, "serving_environment": {"name": "phi-serving"}}
    path = tmp_path / "environment.yaml"
    path.write_text(yaml.safe_dump(values))
    return settings.load(path)


@pytest.mark.parametrize("name", NAMES)
def test_a_tier_alone_is_a_whole_shape(tmp_path: Path, name: str) -> None:
    made, tier = of(tmp_path, name), tiers.named(name)
    said = {"tier", "content_filter"} if name == "mlflow" else {"tier"}
    assert made.serving.model_dump(exclude=said) == tier.serving.model_dump(exclude=said)
    there = made.serving_environment
    assert (there.name if there else None) == (None if name == "mlflow" else "phi-serving")
    assert made.serving.artifact in tier.artifacts
    tiers.check_size(made)


def test_the_docs_show_what_the_file_says() -> None:
    rows = [line.strip("| \n").split(" | ") for line in Path("docs/tiers.md").read_text().splitlines()]
    found = {row[0].strip("`"): row[1:] for row in rows if len(row) == 5 and row[0].startswith("`")}
    shown = {key: told for key, told in found.items() if key.partition(".")[0] in settings.Serving.model_fields}
    assert len(shown) > 12
    for key, told in shown.items():
        for name, value in zip(NAMES, told, strict=True):
            there: Any = tiers.named(name).serving
            for part in key.split("."):
                there = getattr(there, part)
            assert str(there) == value, f"{key} of {name}"


def test_single_values_are_overridden_and_the_rest_stays(tmp_path: Path) -> None:
    usual = tiers.named("gpu").serving
    over = {"arguments": {"max-num-seqs": 8}, "scale": {"max_instances": 5}, "environment_variables": {"A": "b"}}
    made = of(tmp_path, "gpu", **over).serving
    assert made.arguments == {**usual.arguments, "max-num-seqs": 8}
    assert made.scale == usual.scale.model_copy(update={"max_instances": 5})
    assert made.environment_variables == {**usual.environment_variables, "A": "b"}
    assert (made.instance_type, made.liveness) == (usual.instance_type, usual.liveness)


def test_the_process_environment_chooses_a_tier_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLOPS_SERVING__TIER", "gpu")
    monkeypatch.setenv("MLOPS_SERVING__INSTANCE_COUNT", "2")
    made = of(tmp_path, "python")
    assert (made.serving.tier, made.serving.instance_count, made.scoring_path) == ("gpu", 2, "/v1/chat/completions")


def test_no_size_of_a_tier_is_retired_or_about_to_be() -> None:
    known, soon = retired.load(), dt.datetime.now(dt.UTC).date() + dt.timedelta(days=90)
    for name in NAMES:
        tier = tiers.named(name)
        for size in {*tier.sizes, tier.serving.instance_type}:
            gone = retired.retirement(size, known)
            assert gone is None or gone.date > soon, f"{name}: {size} goes on {gone.date if gone else ''}"
    assert retired.retirement("Standard_NC6s_v3", known) is not None


@pytest.mark.parametrize(
    ("tier", "serving", "words"),
    [
        ("gpuu", {}, "did you mean gpu"),
        ("python", {"max_concurent_requests": 1}, "did you mean max_concurrent_requests"),
        ("gpu", {"scale": {"max_instance": 1}}, r"serving\.scale\.max_instance.*did you mean max_instances"),
        ("gpu", {"collect": {"statistics": True}}, "every collection must be off"),
        ("mlflow", {"collect": {"statistics": True}}, "every collection must be off"),
        ("mlflow", {"content_filter": "local"}, 'only our own server has one: say "off" for tier mlflow'),
        ("mlflow", {"egress": "disabled"}, "egress: Azure's own server.*cannot do that"),
        ("mlflow", {"model_mount_path": "/m"}, "model_mount_path: Azure's own server"),
        ("mlflow", {"arguments": {"a": 1}}, "arguments: Azure's own server"),
        ("mlflow", {"environment_variables": {"ANSWER_SCHEMA": "{}"}}, "only our own server reads ANSWER_SCHEMA"),
        ("gpu", {"instance_count": 3}, "instance_count is not between"),
        ("python", {"scale": {"max_instances": 2}}, "need the rules"),
        ("gpu", {"scale": {"back": {"threshold": 60}}}, "swings"),
        ("python", {"scale": {"min_instances": 2}}, "max_instances is below"),
        ("python", {"liveness": {"period_seconds": 0}}, r"serving\.liveness\.period_seconds"),
        ("python", {"egress": "off"}, r"serving\.egress"),
    ],
)
def test_a_slip_is_one_sentence(tmp_path: Path, tier: str, serving: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        of(tmp_path, tier, **serving)


@pytest.mark.parametrize(
    "change", [{"image": "a"}, {"build": "serving/container"}, {"routes": {"port": 1}}, {"image": None}]
)
def test_an_environment_is_of_one_kind(tmp_path: Path, change: dict[str, Any]) -> None:
    values = yaml.safe_load(DEMO.read_text())
    values["serving"]["tier"] = "gpu" if change.get("image") else "python"
    values["serving_environment"] |= change
    (tmp_path / "e.yaml").write_text(yaml.safe_dump(values))
    with pytest.raises(InvalidInput, match="serving_environment"):
        settings.load(tmp_path / "e.yaml")


def test_nobody_but_the_environment_says_that_no_filter_is_well(tmp_path: Path) -> None:
    assert "content_filter" not in tiers.named("mlflow").serving.model_fields_set
    values = yaml.safe_load(PRODUCTION.read_text()) | {"serving": {"tier": "mlflow"}, "serving_environment": {}}
    (tmp_path / "e.yaml").write_text(yaml.safe_dump(values))
    with pytest.raises(InvalidInput, match='say "off" for tier mlflow'):
        settings.load(tmp_path / "e.yaml")


def test_an_environment_for_a_tier_that_has_none_is_refused(tmp_path: Path) -> None:
    values = yaml.safe_load(DEMO.read_text())
    values["serving"] = {"tier": "mlflow", "content_filter": "off"}
    (tmp_path / "e.yaml").write_text(yaml.safe_dump(values))
    with pytest.raises(InvalidInput, match="serving_environment"):
        settings.load(tmp_path / "e.yaml")


def test_the_variables_of_our_own_server_are_those_that_its_page_has() -> None:
    page = Path("docs/serving.md").read_text().partition("## Settings")[2].partition("## Stopping")[0]
    first = [line.split("|")[1] for line in page.splitlines() if line.startswith("| `")]
    assert set(re.findall(r"`([A-Z_]+)`", " ".join(first))) - {"GUNICORN_CMD_ARGS"} == tiers.OURS


def test_a_model_without_code_is_deployed_with_nothing_of_ours(tmp_path: Path) -> None:
    made = of(tmp_path, "mlflow")
    none = deploy._deployment(made, MODEL, "green", {"WORKER_COUNT": "2"})
    assert (none.code_configuration, none.environment, none.data_collector) == (None, None, None)
    assert none.environment_variables == {"WORKER_COUNT": "2"}
    assert (none.tags["route"], none.tags["shape"], made.our_server) == ("/score", "foundry", False)
    code = deploy._deployment(settings.load(DEMO), MODEL, "green", {})
    assert code.tags["shape"] == "openai"
    assert deploy.release_digest(made, MODEL, {}) != deploy.release_digest(settings.load(DEMO), MODEL, {})
    tiers.check_artifact(made, MODEL.model_copy(update={"artifact": "mlflow"}))
    with pytest.raises(Refused, match="takes one in MLflow's form: train by a recipe of route registry"):
        tiers.check_artifact(made, MODEL)


def test_a_tier_of_another_address_or_shape_stands_beside_nothing(tmp_path: Path) -> None:
    none, plain = of(tmp_path, "mlflow"), settings.load(DEMO)
    code, own = (SimpleNamespace(tags=deploy._deployment(each, MODEL, "a", {}).tags) for each in (plain, none))
    assert not deploy.other_address(none, {"blue": own})
    assert not deploy.other_address(plain, {"blue": code, "green": SimpleNamespace(tags=None)})
    assert "requests of shape openai and the tier mlflow of shape foundry" in deploy.other_address(none, {"blue": code})
    assert "requests of shape foundry and the tier python of shape openai" in deploy.other_address(plain, {"blue": own})
    assert "answers at /score and the tier gpu at /v1" in deploy.other_address(of(tmp_path, "gpu"), {"blue": own})


def test_a_size_or_a_model_that_the_tier_does_not_take(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="does not run on Standard_E4s_v3; choose one of Standard_NC24ads_A100_v4"):
        tiers.check_size(of(tmp_path, "gpu", instance_type="Standard_E4s_v3"))
    tiers.check_size(of(tmp_path, "python", instance_type="Standard_E4s_v3"))
    tiers.check_artifact(of(tmp_path, "gpu"), MODEL)
    with pytest.raises(Refused, match="register a folder with `base` and `adapter`"):
        tiers.check_artifact(of(tmp_path, "gpu", artifact="lora"), MODEL)
    tiers.check_artifact(of(tmp_path, "gpu", artifact="lora"), MODEL.model_copy(update={"artifact": "lora"}))
    with pytest.raises(Refused, match="quantise it first"):
        tiers.check_artifact(of(tmp_path, "cpu"), MODEL)
    with pytest.raises(InvalidInput, match="takes merged, not onnx"):
        tiers.check_artifact(of(tmp_path, "python", artifact="onnx"), MODEL)


def test_a_code_tier_and_a_container_are_deployed_as_they_are(tmp_path: Path) -> None:
    plain, own = (deploy._deployment(made, MODEL, "green", {}) for made in (settings.load(DEMO), of(tmp_path, "gpu")))
    assert (plain.code_configuration.scoring_script, plain.model_mount_path) == ("score.py", None)
    assert (own.code_configuration, own.model_mount_path) == (None, "/models")
    assert own.data_collector is None
    assert own.request_settings.request_timeout_ms == 180_000
    assert (own.readiness_probe.failure_threshold, own.readiness_probe.timeout) == (60, 5)
    assert own.tags["tier"], own.tags["route"] == ("gpu", "/v1/chat/completions")
    assert plain.tags["route"] == "/score"
    sent = own._to_rest_object(location="x").as_dict()["properties"]
    assert "codeConfiguration" not in sent
    assert sent["egressPublicNetworkAccess"] == "Enabled"
    variables = own.environment_variables
    assert {"SERVED_MODEL_NAME", "SERVER_PORT", "SERVER_ARGUMENTS", "MODEL_ROOT"} <= set(variables)
    assert variables["VLLM_NO_USAGE_STATS"] == variables["DO_NOT_TRACK"] == variables["HF_HUB_OFFLINE"] == "1"
    assert not any(name in plain.environment_variables for name in ("SERVED_MODEL_NAME", "SERVER_PORT"))


def test_what_is_served_says_what_must_be_served_anew(tmp_path: Path) -> None:
    made = of(tmp_path, "gpu")
    usual = deploy.release_digest(made, MODEL, {})
    longer = of(tmp_path, "gpu", arguments={"max-model-len": 2048})
    wider = of(tmp_path, "gpu", scale={"max_instances": 4})
    assert deploy.release_digest(longer, MODEL, {}) != usual
    assert deploy.release_digest(wider, MODEL, {}) == usual, "more instances answer nothing differently"
    assert environment_version(made.serving_environment) != environment_version(
        of(tmp_path, "python").serving_environment
    )


def test_two_addresses_do_not_share_an_endpoint(tmp_path: Path) -> None:
    made = of(tmp_path, "gpu")
    assert not deploy.other_address(made, {})
    assert not deploy.other_address(made, {"blue": SimpleNamespace(tags={"route": "/v1/chat/completions"})})
    for tags in (None, {}, {"route": "/score"}):
        assert "blue answers at /score" in deploy.other_address(made, {"blue": SimpleNamespace(tags=tags)})
        assert not deploy.other_address(settings.load(DEMO), {"blue": SimpleNamespace(tags=tags)})


@given(st.dictionaries(st.sampled_from(["blue", "green", "red"]), st.integers(0, 100)), st.booleans())
def test_one_owner_of_the_instance_count(weights: dict[str, int], rolling_out: bool) -> None:
    mine = autoscale.owner(weights, rolling_out=rolling_out)
    assert not (rolling_out and mine)
    assert not mine or weights[mine] == 100
    assert bool(mine) == (not rolling_out and 100 in weights.values())


def test_the_autoscale_setting_is_the_tiers(tmp_path: Path) -> None:
    made = of(tmp_path, "gpu")
    sent = autoscale.setting(made, "/d", made.serving.scale)["properties"]
    (profile,) = sent["profiles"]
    assert profile["capacity"] == {"minimum": "1", "maximum": "2", "default": "1"}
    out, back = profile["rules"]
    assert (out["metricTrigger"]["operator"], out["scaleAction"]["direction"]) == ("GreaterThan", "Increase")
    assert (back["metricTrigger"]["operator"], back["scaleAction"]["direction"]) == ("LessThan", "Decrease")
    assert {rule["metricTrigger"]["metricResourceUri"] for rule in profile["rules"]} == {
        "/d",
        sent["targetResourceUri"],
    }
    assert back["metricTrigger"]["timeWindow"] == "PT15M"


def test_who_scales_has_the_role_for_it_and_nobody_else(tmp_path: Path) -> None:
    side = environments.load()
    for made, scales in ((of(tmp_path, "gpu"), True), (settings.load(DEMO), False)):
        given = {each.who for each in roles.github_grants(Place(made), side) if "autoscale" in each.wanted.name}
        assert given == ({"id-github-production"} if scales else set())


def test_the_quota_holds_both_colours_scaled_out(tmp_path: Path) -> None:
    size = SimpleNamespace(name="Standard_NC24ads_A100_v4", family="A100", v_cp_us=24)
    train, serve = quota.needs_of(of(tmp_path, "gpu"), [size])
    assert (train.vcpus, serve.vcpus) == (24, 2 * 2 * 24)
    assert quota.needs_of(of(tmp_path, "gpu", scale={"max_instances": 1}), [size])[1].vcpus == 2 * 24


def test_a_base_with_an_adapter_is_registered_as_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    monkeypatch.setattr(register, "register", lambda *given: seen.append(given[-1]))
    for name, files in {"l": ("base/config.json", "adapter/adapter_config.json"), "m": ("config.json",)}.items():
        for file in files:
            (tmp_path / name / file).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name / file).write_text("{}")
        register.register_folder(settings.load(DEMO), tmp_path / name, name)
    assert seen == ["lora", "merged"]
    (tmp_path / "l/base/config.json").unlink()
    with pytest.raises(InvalidInput, match="not a model folder"):
        register.register_folder(settings.load(DEMO), tmp_path / "l", "l")
