"""One endpoint with two real deployments: a rollout is killed, resumed, rolled back and taken back by the watchdog."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from eval.verdict import Verdict, invalid_verdict, write_verdict
from scripts import records
from scripts import settings as environments
from scripts.endpoint import Endpoint
from scripts.errors import Refused
from scripts.live import colours
from scripts.rollout import policy as policies
from scripts.rollout.state import Phase, RolloutState
from scripts.rollout.store import BlobStore
from scripts.serverless import release
from tests.emulator.test_rollout_state import ROOT, Place, Said, command

NAME = "rollout-lives"
MODELS = {"blue": "b" * 64, "green": "g" * 64}
# An answer takes 0.2 s while the file SLOW is there: time to stop a rollout.
SCORE = """
import os, time
def init():
    pass
def run(raw):
    time.sleep(0.2 if os.path.exists(os.environ["SLOW"]) else 0.01)
    return {}
"""
# More evidence than the default, for the same reason.
PATIENT = {"bake": {"min_requests": 30}, "sample": {"max_per_step": 2000}}
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def place(ml_client: Any, tmp_path_factory: pytest.TempPathFactory) -> Place:
    policy = yaml.safe_load(policies.LOCAL.read_text())
    for part, changes in PATIENT.items():
        policy[part] |= changes
    place = deployed(ml_client, tmp_path_factory.mktemp("lives"), policy)
    write_verdict(place.config.with_name("verdict.json"), passed())
    return place


@pytest.fixture
def lives(place: Place) -> Place:
    answers(place, slow=False)
    return place


def deployed(ml: Any, folder: Path, policy: dict[str, Any]) -> Place:
    """blue and green deployed, each with the model that the verdict names; blue has all the traffic."""
    from azure.ai.ml.entities import (
        CodeConfiguration,
        Environment,
        ManagedOnlineDeployment,
        ManagedOnlineEndpoint,
        Model,
        OnlineRequestSettings,
    )

    (folder / "code").mkdir()
    (folder / "code" / "score.py").write_text(SCORE)
    ml.environments.create_or_update(Environment(name="tiny", version="1", image="mcr.microsoft.com/any"))
    ml.online_endpoints.begin_create_or_update(ManagedOnlineEndpoint(name=NAME, auth_mode="aad_token")).result()
    for colour, digest in MODELS.items():
        (folder / colour).mkdir()
        (folder / colour / "model.json").write_text(colour)
        tags = {"digest": digest}
        ml.models.create_or_update(
            Model(name=f"tiny-{colour}", version="1", path=str(folder / colour), type="custom_model", tags=tags)
        )
        deployment = ManagedOnlineDeployment(
            name=colour,
            endpoint_name=NAME,
            model=f"azureml:tiny-{colour}:1",
            code_configuration=CodeConfiguration(code=str(folder / "code"), scoring_script="score.py"),
            environment="azureml:tiny:1",
            instance_type="Standard_E4s_v3",
            instance_count=1,
            environment_variables={"GUNICORN_CMD_ARGS": "--threads 12", "SLOW": str(folder / "slow")},
            request_settings=OnlineRequestSettings(request_timeout_ms=20000, max_concurrent_requests_per_instance=16),
        )
        ml.online_deployments.begin_create_or_update(deployment).result()
    values = yaml.safe_load((ROOT / "scripts/environments/demo.yaml").read_text())
    values |= {"resource_group": ml.resource_group_name, "workspace": ml.workspace_name, "endpoint": NAME}
    config = folder / "here.yaml"
    config.write_text(yaml.safe_dump(values))
    (folder / "policy.yaml").write_text(yaml.safe_dump(policy))
    place = Place(config, environments.load(config))
    Endpoint(place.settings).set_traffic({"blue": 100}, {"stable": "blue"})
    return place


def passed() -> Verdict:
    digests = dict.fromkeys(
        ("policy_digest", "prompts_digest", "candidate_scores_digest", "baseline_scores_digest"), "d" * 64
    )
    models = {"candidate_model": MODELS["green"], "baseline_model": MODELS["blue"]}
    made = invalid_verdict("better", bound=True, alpha=0.05, **models, **digests)
    return made.model_copy(update={"outcome": "pass"}).sealed()


def answers(lives: Place, *, slow: bool) -> None:
    path = lives.config.with_name("slow")
    path.touch() if slow else path.unlink(missing_ok=True)


@pytest.fixture
def roll(lives: Place, tmp_path: Path) -> Iterator[Callable[..., Said]]:
    """`rollout run`; nothing but its options is left to say."""

    def go(*options: str) -> Said:
        return command(lives, tmp_path, *arguments(lives, tmp_path), *options)

    yield go


def arguments(lives: Place, folder: Path) -> list[str]:
    files = {
        name: str(lives.config.with_name(f"{name}.{end}")) for name, end in (("verdict", "json"), ("policy", "yaml"))
    }
    named = [part for name, path in files.items() for part in (f"--{name}", path)]
    return ["rollout", "run", *named, "--traffic", str(ROOT / "data/live.jsonl"), "--out", str(folder / "rollout.json")]


def baking(lives: Place, folder: Path, *options: str) -> subprocess.Popen[str]:
    """A rollout that gathers evidence at 10% in a process of its own, and takes its time."""
    answers(lives, slow=True)
    process = subprocess.Popen(
        [sys.executable, "-m", "scripts", *arguments(lives, folder), *options],
        cwd=ROOT,
        env={**os.environ, "MLOPS_CONFIG": str(lives.config)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    store, before = BlobStore(lives.settings), state(lives)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        held = store.read()
        new = held and (before is None or held.state.epoch > before.epoch)
        if held and new and held.state.phase is Phase.BAKE and held.state.standing == {"blue": 90, "green": 10}:
            return process
        time.sleep(0.05)
    raise AssertionError(f"it never baked: {process.communicate()[0]}")


def killed(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGKILL)
    process.communicate()


def lost(lives: Place) -> None:
    BlobStore(lives.settings)._blob.delete_blob()


def state(lives: Place) -> RolloutState | None:
    held = BlobStore(lives.settings).read()
    return held.state if held else None


def traffic(lives: Place) -> dict[str, int]:
    return Endpoint(lives.settings).traffic()


def test_a_killed_rollout_is_resumed_and_promoted_and_then_left_alone(
    lives: Place, roll: Callable[..., Said], tmp_path: Path
) -> None:
    killed(baking(lives, tmp_path))
    assert traffic(lives) == {"blue": 90, "green": 10}
    said = command(lives, tmp_path, "watchdog", "--out", str(tmp_path / "watchdog.json"))
    assert said.outputs.startswith("action=none")  # it may only be slow
    answers(lives, slow=False)
    said = roll()
    assert (said.code, said.outputs.splitlines()[0]) == (0, "state=PROMOTED"), said.error
    record = json.loads((tmp_path / "rollout.json").read_text())
    assert (record["epoch"], [step["weight"] for step in record["steps"]]) == (2, [10, 50, 100])
    assert traffic(lives) == {"green": 100}
    before = state(lives)
    assert roll().code == 0
    assert state(lives) == before


def test_after_a_rollback_the_verdict_needs_again(lives: Place, roll: Callable[..., Said], tmp_path: Path) -> None:
    """Although the state was lost: the endpoint's tags say of which colours the rollout was, and of which verdict."""
    lost(lives)
    rebuilt = state(lives)
    assert rebuilt is not None
    assert (rebuilt.phase, rebuilt.stable, rebuilt.candidate) == (Phase.PROMOTED, "blue", "green")
    said = command(lives, tmp_path, "rollback", "--reason", "wrong", "--out", str(tmp_path / "back.json"))
    assert (said.code, traffic(lives)) == (0, {"blue": 100}), said.error
    said = roll()
    assert said.code == 1
    assert "--again" in said.error
    assert traffic(lives) == {"blue": 100}


def test_users_on_colours_are_not_led_to_a_serverless_endpoint(lives: Place) -> None:
    model = records.Model(name="m", version="1", id="", digest="", path="", lineage=records.Lineage(route="serverless"))
    with pytest.raises(Refused, match=r"its users are on deployments with weights \{'blue': 100\}.*environment of its"):
        release.check_kind(lives.settings, model)


def test_a_rollback_while_a_rollout_runs_stops_it(lives: Place, tmp_path: Path) -> None:
    running = baking(lives, tmp_path, "--again")
    said = command(lives, tmp_path, "rollout", "abort", "--reason", "stop", "--out", str(tmp_path / "back.json"))
    out = running.communicate(timeout=120)[0]
    assert (said.code, running.returncode) == (0, 1), f"{said.error}{out}"
    assert traffic(lives) == {"blue": 100}
    ended = state(lives)
    assert ended is not None
    assert (ended.phase, ended.reason) == (Phase.ROLLED_BACK, "stop")


def test_the_watchdog_takes_back_what_a_dead_runner_left(lives: Place, tmp_path: Path) -> None:
    killed(baking(lives, tmp_path, "--again"))
    out = str(tmp_path / "watchdog.json")
    said = command(lives, tmp_path, "watchdog", "--stale-minutes", "0", "--out", out)
    assert (said.code, said.outputs.splitlines()[0]) == (0, "action=taken-back"), said.error
    assert traffic(lives) == {"blue": 100}
    said = command(lives, tmp_path, "watchdog", "--stale-minutes", "0", "--out", out)
    assert said.outputs.startswith("action=none")


def test_a_lost_state_never_strands_traffic(lives: Place, tmp_path: Path) -> None:
    """What is under way goes back, by the watchdog (who needs not wait) and by the runner itself."""
    running = baking(lives, tmp_path, "--again")
    lost(lives)
    out = running.communicate(timeout=120)[0]
    assert (running.returncode, traffic(lives)) == (1, {"blue": 100}), out
    killed(baking(lives, tmp_path, "--again"))
    before = state(lives)
    lost(lives)
    said = command(lives, tmp_path, "watchdog", "--out", str(tmp_path / "watchdog.json"))
    assert (said.code, said.outputs.splitlines()[0]) == (0, "action=taken-back"), said.error
    assert traffic(lives) == {"blue": 100}
    after = state(lives)
    assert before is not None
    assert after is not None
    assert (after.phase, after.stable, after.verdict_digest) == (Phase.ROLLED_BACK, "blue", before.verdict_digest)
    assert after.epoch > before.epoch


def test_start_moves_nothing_and_ticks_go_on_as_far_as_they_may(lives: Place, tmp_path: Path) -> None:
    """Without an approval up to the wait for one, exit code 2; with it to the end. Any more ticks change nothing."""
    files = {name: str(lives.config.with_name(name)) for name in ("verdict.json", "careful.yaml")}
    policy = yaml.safe_load(lives.config.with_name("policy.yaml").read_text())
    policy["approval"]["required"] = True
    Path(files["careful.yaml"]).write_text(yaml.safe_dump(policy))
    out, given = str(tmp_path / "rollout.json"), str(tmp_path / "approval.json")
    rules = ["--policy", files["careful.yaml"], "--out", out]
    judged = ["--verdict", files["verdict.json"]]
    assert command(lives, tmp_path, "rollback", "--to", "blue", "--reason", "x", "--out", out).code == 0
    assert command(lives, tmp_path, "rollout", "tick", *rules).code == 1  # none is under way
    said = command(lives, tmp_path, "rollout", "start", *judged, *rules, "--again")
    assert (said.code, said.outputs.splitlines()[0]) == (0, "state=PROVISIONING"), said.error
    assert traffic(lives) == {"blue": 100}
    for _ in range(2):
        said = command(lives, tmp_path, "rollout", "tick", *rules)
        assert (said.code, said.outputs.splitlines()[0]) == (2, "state=AWAIT_APPROVAL"), said.error
        assert traffic(lives) == {"blue": 100}
    said = command(lives, tmp_path, "rollout", "status", "--out", str(tmp_path / "status.json"))
    assert json.loads((tmp_path / "status.json").read_text())["waits_for"] == "an approval"
    assert "green (candidate)" in said.out
    approve = ["rollout", "approve", *judged, "--by", "alice", "--out", given]
    assert command(lives, tmp_path, *approve).code == 0  # for the environment's policy, which this is not
    assert command(lives, tmp_path, "rollout", "tick", *rules, "--approval", given).code == 2
    assert command(lives, tmp_path, *approve, "--policy", files["careful.yaml"]).code == 0
    said = command(lives, tmp_path, "rollout", "tick", *rules, "--approval", given)
    assert (said.code, said.outputs.splitlines()[0]) == (0, "state=PROMOTED"), said.error
    assert traffic(lives) == {"green": 100}
    assert command(lives, tmp_path, "rollout", "tick", *rules).code == 1
    store = BlobStore(lives.settings)
    held = store.read()
    assert held is not None
    assert colours(lives.settings, Endpoint(lives.settings)) == ("green", "blue")
    # As if the runner had died while it watched, with everything on the candidate: whoever goes on finds both again.
    etag = store.write(held.state.changed(phase=Phase.POST_BAKE), held.etag)
    assert colours(lives.settings, Endpoint(lives.settings)) == ("blue", "green")
    store.write(held.state, etag)


def test_what_the_monitor_counted_can_be_replayed(lives: Place, tmp_path: Path) -> None:
    recorded, out = tmp_path / "ledger.jsonl", str(tmp_path / "simulated.json")
    asked = ["rollout", "ledger", "--candidate", "green", "--stable", "blue", "--hours", "1", "--out", str(recorded)]
    deadline = time.monotonic() + 90  # a minute counts when it is over
    while (said := command(lives, tmp_path, *asked)).code and time.monotonic() < deadline:
        assert "knows of no request" in said.error
        time.sleep(5)
    minutes = [json.loads(line) for line in recorded.read_text().splitlines()]
    assert sum(minute["candidate"]["requests"] for minute in minutes) > 0
    assert command(lives, tmp_path, "rollout", "simulate", "--ledger", str(recorded), "--out", out).code == 0
