"""`doctor`: each thing that can be wrong is named, with the setting to mend; against a real local Azure ML."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.command import command_env
from emulator.context import Settings as AzureSettings
from emulator.identity import Tokens
from emulator.launcher import Options, start_serve, stop_serve
from emulator.processes import MARK
from scripts import quota, retired, sign_in_errors
from scripts.doctor.context import Context
from scripts.doctor.quota import Need, shortages
from scripts.doctor.run import CHECKS, Finding, chosen, examine
from scripts.errors import InvalidInput
from scripts.provision import provision
from scripts.quota import key
from scripts.room import usages_of
from scripts.settings import load
from tests.scripts.github import gh

ROOT = Path(__file__).parents[2]
DEMO = Path("scripts/environments/demo.yaml")
STRANGER = "99999999-9999-9999-9999-999999999999"
IDS = dict.fromkeys(("AZURE_TENANT_ID", "AZURE_CLIENT_ID", "AZURE_SUBSCRIPTION_ID"), STRANGER)


def finding(name: str, context: Context) -> Finding:
    """What a check found, with what it needs run before it."""
    return next(each for each in examine(context, [name]).findings if each.check == name)


# Without Azure.


class TestVariables:
    def look(self, variables: Mapping[str, str], environment: str = "") -> Finding:
        return finding("variables", Context(None, environment, variables=variables))

    def test_a_desk_needs_the_subscription_and_a_job_needs_all_three(self) -> None:
        assert self.look({"AZURE_SUBSCRIPTION_ID": STRANGER}).outcome == "ok"
        assert self.look({"AZURE_SUBSCRIPTION_ID": STRANGER, "GITHUB_ACTIONS": "true"}).outcome == "failed"
        assert self.look({**IDS, "GITHUB_ACTIONS": "true"}).outcome == "ok"
        assert self.look({"AZURE_SUBSCRIPTION_ID": STRANGER, "AZURE_FEDERATED_TOKEN_FILE": "x"}).outcome == "failed"

    @pytest.mark.parametrize(
        ("name", "place"),
        [
            ("AZURE_CLIENT_ID", "Settings → Environments → staging → Environment variables"),
            ("AZURE_TENANT_ID", "Settings → Secrets and variables → Actions → Variables"),
            ("AZURE_SUBSCRIPTION_ID", "Settings → Secrets and variables → Actions → Variables"),
        ],
    )
    @pytest.mark.parametrize("value", ["", None])
    def test_a_missing_one_says_where_github_keeps_it(self, name: str, place: str, value: str | None) -> None:
        variables = {key: given for key, given in {**IDS, name: value}.items() if given is not None}
        found = self.look({**variables, "GITHUB_ACTIONS": "true"}, "staging")
        assert found.outcome == "failed"
        assert found.said == f"{name} is not set: add it in GitHub under {place}."

    @given(st.text().filter(lambda text: len(text.strip()) < 32))
    def test_what_is_no_id_is_not_taken_for_one(self, value: str) -> None:
        found = self.look({**IDS, "AZURE_TENANT_ID": value, "GITHUB_ACTIONS": "true"})
        assert found.outcome == "failed"
        assert "AZURE_TENANT_ID" in found.said


class TestNames:
    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("MLOPS_ENDPOINT", "-triage"),
            ("MLOPS_ENDPOINT", "tr"),
            ("MLOPS_WORKSPACE", "w" * 34),
            ("MLOPS_RESOURCE_GROUP", "group."),
            ("MLOPS_LOCATION", "East US 2"),
            ("MLOPS_COMPUTE__NAME", "gpu-1"),
            ("MLOPS_COMPUTE__SIZE", "NC24ads_A100_v4"),
        ],
    )
    def test_a_name_that_azure_would_refuse_is_named(
        self, monkeypatch: pytest.MonkeyPatch, name: str, value: str
    ) -> None:
        monkeypatch.setenv("AZURE_SUBSCRIPTION_ID", STRANGER)
        assert finding("names", Context(DEMO)).outcome == "ok"
        monkeypatch.setenv(name, value)
        found = finding("names", Context(DEMO))
        assert found.outcome == "failed"
        assert value in found.said
        assert name.removeprefix("MLOPS_").replace("__", ".").lower() in found.said

    @pytest.mark.parametrize(
        ("size", "outcome", "part"),
        [
            ("Standard_NC24ads_A100_v4", "ok", "no retirement is announced of"),
            ("Standard_NC6s_v3", "failed", "compute.size Standard_NC6s_v3 is retired in Azure since 2025-09-30"),
            ("Standard_ND6s", "failed", "since 2023-09-06"),
            ("Standard_NV12s_v3", "failed", "since 2026-09-30"),
            ("Standard_NC40ads_H100_v5", "ok", "no retirement is announced of"),
        ],
    )
    def test_a_size_that_azure_took_away_is_named_with_the_day(
        self, monkeypatch: pytest.MonkeyPatch, size: str, outcome: str, part: str
    ) -> None:
        monkeypatch.setenv("AZURE_SUBSCRIPTION_ID", STRANGER)
        monkeypatch.setenv("MLOPS_COMPUTE__SIZE", size)
        found = finding("sizes", Context(DEMO))
        assert found.outcome == outcome
        assert part in found.said

    def test_a_size_that_will_go_is_told_and_is_no_failure(self) -> None:
        known = retired.load()
        assert retired.retirement("Standard_DS3_v2", known) is not None
        assert retired.retirement("standard_ds3_V2", known) is not None
        assert retired.retirement("Standard_DS3_v3", known) is None
        assert retired.retirement("Standard_E4s_v3", known) is None

    @pytest.mark.parametrize(
        ("mode", "address", "outcome", "part"),
        [
            ("local", "", "ok", "phrases alone"),
            ("off", "", "ok", "nothing is looked at"),
            ("azure", "", "failed", "serving.content_safety_endpoint is empty"),
            ("azure", "https://safe.cognitiveservices.azure.com", "ok", "give the endpoint its role yourself"),
        ],
    )
    def test_azures_content_filter_needs_an_address(
        self, monkeypatch: pytest.MonkeyPatch, mode: str, address: str, outcome: str, part: str
    ) -> None:
        monkeypatch.setenv("AZURE_SUBSCRIPTION_ID", STRANGER)
        monkeypatch.setenv("MLOPS_SERVING__CONTENT_FILTER", mode)
        monkeypatch.setenv("MLOPS_SERVING__CONTENT_SAFETY_ENDPOINT", address)
        found = finding("content-filter", Context(DEMO))
        assert found.outcome == outcome
        assert part in found.said

    def test_every_file_that_cannot_be_read_is_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(ROOT)
        monkeypatch.setenv("AZURE_SUBSCRIPTION_ID", STRANGER)
        assert finding("files", Context(DEMO)).outcome == "ok"
        monkeypatch.setenv("MLOPS_ROLLOUT_POLICY", "scripts/environments/demo.yaml")
        monkeypatch.setenv("RECIPE", "nobodys")
        found = finding("files", Context(DEMO))
        assert found.outcome == "failed"
        assert "scripts/environments/demo.yaml: " in found.said
        assert "training/recipes/nobodys.yaml: there is no such file" in found.said

    def test_settings_that_do_not_load_stop_what_needs_them(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AZURE_SUBSCRIPTION_ID", STRANGER)
        done = examine(Context(Path("none.yaml")), ["names"])
        assert [(each.check, each.outcome) for each in done.findings] == [
            ("variables", "ok"),
            ("settings", "failed"),
            ("names", "skipped"),
        ]
        assert not done.healthy


class TestChoosing:
    def test_every_check_comes_after_what_it_needs(self) -> None:
        seen: set[str] = set()
        for check in CHECKS:
            assert set(check.needs) <= seen
            seen.add(check.name)

    @given(st.lists(st.sampled_from([check.name for check in CHECKS]), min_size=1))
    def test_a_chosen_check_brings_what_it_needs(self, only: list[str]) -> None:
        names = [check.name for check in chosen(only)]
        assert set(only) <= set(names)
        assert all(set(check.needs) <= set(names) for check in chosen(only))

    def test_an_unknown_check_is_named(self) -> None:
        with pytest.raises(InvalidInput, match="signin"):
            chosen(["signin"])


class TestSignInErrors:
    @pytest.mark.parametrize("code", sign_in_errors.ERRORS)
    @pytest.mark.parametrize("environment", [{}, {**IDS, "GITHUB_REPOSITORY": "acme/phi"}])
    def test_every_code_is_a_sentence(self, code: str, environment: dict[str, str]) -> None:
        said = sign_in_errors.explain(f"AADSTS{code}: words\nTrace ID: x", environment)
        assert said
        assert said.startswith(f"AADSTS{code}: ")
        assert "{" not in said
        assert "\n" not in said

    @given(st.text())
    def test_no_message_breaks_the_sentence(self, message: str) -> None:
        for text in (message, f"AADSTS700213 assertion subject '{message}'"):
            assert "\n" not in (sign_in_errors.explain(text, {}) or "")
            assert "\n" not in (quota.explain(text) or "")

    def test_a_subject_of_another_environment_says_which_was_expected(self) -> None:
        text = "AADSTS700213: … assertion subject 'repo:acme/phi:environment:staging'. …"
        said = sign_in_errors.explain(text, IDS, "repo:acme/phi:environment:production")
        assert said
        assert "repo:acme/phi:environment:staging" in said
        assert "expected here: repo:acme/phi:environment:production" in said


class TestQuota:
    @given(st.dictionaries(st.sampled_from(["a", "b"]), st.integers(0, 50)), st.integers(1, 50), st.integers(1, 50))
    def test_short_is_what_is_above_the_limit_and_a_missing_limit_is_none(
        self, limits: dict[str, int], train: int, serve: int
    ) -> None:
        needs = [Need("compute.size", "A", "a", train), Need("serving.instance_type", "B", "b", serve)]
        short = shortages(needs, limits, "eastus2")
        assert len(short) == (limits.get("a", 0) < train) + (limits.get("b", 0) < serve)
        together = [Need("compute.size", "A", "a", train), Need("serving.instance_type", "B", "a", serve)]
        assert bool(shortages(together, limits, "eastus2")) == (limits.get("a", 0) < train + serve)

    def test_a_family_is_found_under_each_of_its_names(self) -> None:
        assert key("standardESv3Family") == key("Standard_ESv3_Family_Cluster_Dedicated_vCPUs")
        assert key("standardESv3Family") == key("Standard ESv3 Family Cluster Dedicated vCPUs")
        assert key("standardESv3Family") != key("standardEv3Family")
        named = SimpleNamespace(name={"value": "standardESv3Family"}, limit=4, current_value=3)
        usages = [named, SimpleNamespace(name=None, limit=9)]
        assert usages_of(usages) == {key("standardESv3Family"): (3, 4)}

    @pytest.mark.parametrize(
        ("text", "parts"),
        [
            (
                'Message: error detail: {"errors":{"VmSize":["Not enough quota available for Standard_F4s_v2 in '
                'SubscriptionId a-b. Current usage/limit: 0/6. Additional needed: 8 Please see"]}}',
                ("Standard_F4s_v2 needs 8 more vCPUs in eastus2", "0 of 6", "serving.instance_type"),
            ),
            (
                "JobNodeCountExceedsCoreQuota, The specified subscription has a Standard DSv2 family vCPU quota of 2 "
                "and is less than the requested job node count of 2 which maps to 4 vCPUs. Talk to your Admin",
                ("needs 4 vCPUs of the Standard DSv2 family in eastus2", "limit is 2", "compute.size"),
            ),
            (
                "The specified subscription has a total vCPU quota of 0 and cannot accomodate for at least 1 requested "
                "managed compute node which maps to 2 vCPUs.",
                ("needs 2 vCPUs of the total", "limit is 0"),
            ),
        ],
    )
    def test_what_azure_says_is_told_as_a_sentence(self, text: str, parts: tuple[str, ...]) -> None:
        said = quota.explain(text, "eastus2") or ""
        assert all(part in said for part in (*parts, "Quotas"))
        assert quota.explain("Not enough memory") is None


# Against the local Azure ML.


@pytest.fixture(scope="module")
def azure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AzureSettings]:
    home = tmp_path_factory.mktemp("doctor") / "home"
    serve = start_serve(Options(home, {}, operation_seconds=0.0), detached=False)
    try:
        yield AzureSettings.load(home)
    finally:
        stop_serve(serve, home)


@pytest.fixture
def signed_in(azure: AzureSettings, monkeypatch: pytest.MonkeyPatch) -> AzureSettings:
    for name, value in command_env(azure).items():
        if name != MARK:
            monkeypatch.setenv(name, value)
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)
    return azure


@pytest.fixture
def issuer(azure: AzureSettings) -> Tokens:
    return Tokens(azure.home, azure.tenant_id)


def present(assertion: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "assertion").write_text(assertion)
    monkeypatch.setenv("AZURE_FEDERATED_TOKEN_FILE", str(tmp_path / "assertion"))


@pytest.mark.slow
@pytest.mark.usefixtures("signed_in")
class TestAzure:
    def test_nothing_is_there_and_then_all_is_and_then_the_endpoint_is_gone(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(ROOT)
        lacking = finding("resources", Context(DEMO))
        assert lacking.outcome == "failed"
        assert "run `python -m scripts provision`" in lacking.said
        provision(load(DEMO))
        healthy = examine(Context(DEMO, github=False))
        assert healthy.healthy
        assert {each.check: each.outcome for each in healthy.findings} == {
            **{check.name: "ok" for check in CHECKS},
            "credentials": "skipped",
            "github": "skipped",
        }
        self.delete_endpoint()
        gone = finding("resources", Context(DEMO))
        lacks = "endpoint ticket-triage, diagnostic setting requests"  # which goes with the endpoint
        assert gone.said == f"Azure lacks {lacks}: run `python -m scripts provision`."

    def delete_endpoint(self) -> None:
        from scripts import azure_ml

        azure_ml.client(load(DEMO)).online_endpoints.begin_delete("ticket-triage").result()

    @pytest.mark.parametrize(
        ("name", "code"), [("AZURE_TENANT_ID", "AADSTS90002"), ("AZURE_CLIENT_ID", "AADSTS700016")]
    )
    def test_an_id_of_somebody_else(self, monkeypatch: pytest.MonkeyPatch, name: str, code: str) -> None:
        assert finding("sign-in", Context(None)).outcome == "ok"
        monkeypatch.setenv(name, STRANGER)
        found = finding("sign-in", Context(None))
        assert found.outcome == "failed"
        assert found.said.startswith(f"{code}: ")
        assert STRANGER in found.said
        assert f"set the variable {name}" in found.said

    @pytest.mark.parametrize(
        ("change", "parts"),
        [
            ({"seconds": -60}, ("AADSTS700024", "expired")),
            ({"audience": "https://github.com/acme"}, ("AADSTS700212", "api://AzureADTokenExchange")),
            ({"issuer": "https://example.com"}, ("AADSTS700211", "https://token.actions.githubusercontent.com")),
            (
                {"subject": "repo:acme/phi:ref:refs/heads/main"},
                ("AADSTS700213", "repo:acme/phi:ref:", "`environment:`"),
            ),
            (
                {"subject": "repo:acme/phi:environment:production"},
                ("AADSTS700213", "repo:acme/phi:environment:production", "repo:acme@9/phi@7:environment:staging"),
            ),
        ],
    )
    def test_a_wrong_assertion_says_what_to_mend(
        self,
        signed_in: AzureSettings,
        issuer: Tokens,
        monkeypatch: pytest.MonkeyPatch,
        tmp_path: Path,
        change: dict[str, Any],
        parts: tuple[str, ...],
    ) -> None:
        job = {"GITHUB_REPOSITORY": "acme/phi", "GITHUB_REPOSITORY_ID": "7", "GITHUB_REPOSITORY_OWNER_ID": "9"}
        for name, value in job.items():
            monkeypatch.setenv(name, value)
        right = {"subject": signed_in.federated_subject}
        present(issuer.assertion(**right), tmp_path, monkeypatch)
        assert finding("sign-in", Context(None, "staging")).outcome == "ok"
        present(issuer.assertion(**{**right, **change}), tmp_path, monkeypatch)
        found = finding("sign-in", Context(None, "staging"))
        assert found.outcome == "failed"
        assert "\n" not in found.said
        assert all(part in found.said for part in parts), found.said

    def test_a_failed_sign_in_is_told_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AZURE_CLIENT_ID", STRANGER)
        outcomes = {each.check: each.outcome for each in examine(Context(DEMO, github=False)).findings}
        assert outcomes["sign-in"] == "failed"
        assert outcomes["resources"] == outcomes["quota"] == "skipped"


# With too little quota, through the commands.

SCRIPT = """
set -eu
mkdir $OUT/model; echo '{"model_type": "no_such_model"}' >$OUT/model/config.json
run="$PYTHON -m scripts"
$run provision --out $OUT/provision.json
$run data --source data/tickets.jsonl --held-out data/heldout.jsonl --folder $OUT/data --out $OUT/dataset.json
$run register --folder $OUT/model --name small --out $OUT/model.json
failing() { # failing NAME COMMAND…: keep what it printed and its code
  local name=$1 code=0; shift
  GITHUB_OUTPUT=$OUT/$name.output GITHUB_STEP_SUMMARY=$OUT/$name.summary \\
    $run "$@" --out $OUT/$name.json >$OUT/$name.log 2>&1 || code=$?
  echo $code >$OUT/$name.code
}
failing doctor doctor --only quota
failing train train --recipe cpu_demo --dataset $OUT/dataset.json --base-model $OUT/model.json
failing deploy deploy --first --deployment blue --model $OUT/model.json
"""


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("short")
    env = {
        **os.environ,
        "OUT": str(out),
        "PYTHON": sys.executable,
        "EMULATOR_HOME": str(out / "azure"),
        "EMULATOR_QUOTA": "standardESv3Family=4,standardNCADSA100v4Family=0",
        "MLOPS_CONFIG": str(DEMO),
    }
    command = [sys.executable, "-m", "emulator", "run", "--", "bash", "-c", SCRIPT]
    subprocess.run(command, cwd=ROOT, env=env, check=True, stdin=subprocess.DEVNULL)
    return out


def last_line(out: Path, name: str) -> str:
    return (out / f"{name}.log").read_text().strip().splitlines()[-1]


@pytest.mark.slow
class TestTooLittleQuota:
    def test_doctor_says_which_family_where_and_how_much(self, short: Path) -> None:
        assert (short / "doctor.code").read_text().strip() == "1"
        assert (short / "doctor.output").read_text() == "healthy=false\n"
        record = json.loads((short / "doctor.json").read_text())
        said = next(each["said"] for each in record["findings"] if each["check"] == "quota")
        for part in (
            "standardNCADSA100v4Family in eastus2",
            "a limit of 0",
            "need 24",
            "standardESv3Family",
            "need 16",
        ):
            assert part in said
        assert said in (short / "doctor.summary").read_text()

    @pytest.mark.parametrize(
        ("name", "code", "parts"),
        [
            ("train", "4", ("24 vCPUs of the Standard NCADSA100v4 Family in eastus2", "limit is 0", "`compute.size`")),
            ("deploy", "1", ("Standard_E4s_v3 needs 8 more vCPUs in eastus2", "0 of 4", "`serving.instance_type`")),
        ],
    )
    def test_a_job_and_a_deployment_fail_with_the_setting_to_mend(
        self, short: Path, name: str, code: str, parts: tuple[str, ...]
    ) -> None:
        """A job's quota is Azure's to refuse; a deployment is refused before anything is made."""
        assert (short / f"{name}.code").read_text().strip() == code
        assert all(part in last_line(short, name) for part in (*parts, "Quotas")), last_line(short, name)
        assert not (short / f"{name}.json").exists()
        assert "Traceback" not in (short / f"{name}.log").read_text()


class TestGitHub:
    @pytest.fixture
    def state(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        monkeypatch.setenv("PATH", f"{gh.install(tmp_path / 'bin')}{os.pathsep}{os.environ['PATH']}")
        monkeypatch.setenv("GH_STATE", str(gh.new_state(tmp_path / "github.json")))
        monkeypatch.setenv("GITHUB_REPOSITORY", gh.REPOSITORY)
        return tmp_path / "github.json"

    def test_what_differs_is_named_and_nothing_is_changed(self, state: Path) -> None:
        found = finding("github", Context(None))
        assert found.outcome == "failed"
        assert "environment production-approval: missing" in found.said
        assert "provision github --apply" in found.said
        assert all(method == "GET" for method, _ in json.loads(state.read_text())["calls"])

    @pytest.mark.parametrize(("asked", "outcome"), [(None, "skipped"), (True, "failed"), (False, "skipped")])
    def test_without_a_sign_in_it_is_skipped_unless_asked_for(
        self, state: Path, asked: bool | None, outcome: str
    ) -> None:
        state.write_text(json.dumps({**json.loads(state.read_text()), "signed_in": False}))
        assert finding("github", Context(None, github=asked)).outcome == outcome
