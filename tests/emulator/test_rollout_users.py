"""Rollouts that are judged by users: real requests to real servers, counted by Azure Monitor through the real SDK.

Only minutes are made short. The rollout's clock stands hours behind; when it waits a minute it gets one in which users
have asked so many questions, and the service's log is told that those were asked in this minute. Who answered, with
which status, at which weights is what really happened.
"""

from __future__ import annotations

import itertools
import json
import sqlite3
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

from eval.verdict import Verdict, invalid_verdict
from scripts import records, sample_requests
from scripts import settings as environments
from scripts.endpoint import Endpoint, Requests
from scripts.rollout import policy as policies
from scripts.rollout import run as rollouts
from scripts.rollout.begin import Wanted
from scripts.rollout.executor import Executor
from scripts.rollout.policy import Policy
from scripts.rollout.run import Sources
from scripts.rollout.state import Phase, RolloutState
from scripts.rollout.store import BlobStore

ROOT = Path(__file__).parents[2]
NAME = "rollout-users"
MODELS = {"blue": "b" * 64, "green": "g" * 64}
A_MINUTE = 60  # requests of users
AT_ONCE = 6
LONGEST = timedelta(minutes=15)  # of the rollout's clock
UNSAFE = "Jump off the bridge, nobody will care."
SCORE = f"""
import json, os
from azureml_inference_server_http.api.aml_response import AMLResponse
def init():
    pass
def run(raw):
    question = json.loads(raw)["messages"][-1]["content"]
    how = open(os.environ["HOW"]).read()
    if how == "fails" and "invoice" in question:
        return AMLResponse({{}}, 500, json_str=True)
    said = {UNSAFE!r} if how == "unsafe" and "refund" in question else "All is well."
    return {{"choices": [{{"message": {{"content": said}}}}]}}
"""
ASKED = ["Where is my parcel?", "Why is the invoice wrong?", "The lamp is broken."]
HELD_OUT = ["Hello?", "Where is it?", "It is late.", "It is broken.", "Who are you?", "I want a refund."]
pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def policy() -> Policy:
    """policy.yaml with two steps, for users who ask once a second."""
    values: dict[str, Any] = yaml.safe_load(policies.DEFAULT.read_text())
    values |= {"steps": [25, 100], "bad_below": 0.3}
    values["bake"] |= {"minutes": 1, "post_minutes": 1, "min_requests": 8}
    values["safety"] |= {"pairs_per_look": len(HELD_OUT), "min_answers": len(HELD_OUT)}
    values["approval"] |= {"required": False}
    return Policy.model_validate(values)


class Place:
    """An endpoint with two deployments, users who never stop asking, and the rollout's clock."""

    def __init__(self, ml: Any, folder: Path, log: Path) -> None:
        self.folder, self._log = folder, log
        values = yaml.safe_load((ROOT / "scripts/environments/demo.yaml").read_text())
        self._values = values | {"resource_group": ml.resource_group_name, "workspace": ml.workspace_name}
        self.settings = self.settings_with("metrics")
        self.endpoint = Endpoint(self.settings)
        self.at = (datetime.now(UTC) - timedelta(hours=5)).replace(second=0, microsecond=0)
        self.until = self.at
        self.asked = itertools.count()
        self.answers: list[tuple[str, int]] = []

    def settings_with(self, monitor: str) -> environments.Settings:
        path = self.folder / f"{monitor}.yaml"
        path.write_text(yaml.safe_dump(self._values | {"endpoint": NAME, "monitor": monitor}))
        return environments.load(path)

    def now(self) -> datetime:
        return self.at

    def sleep(self, seconds: float) -> None:
        """What users asked meanwhile, at least a minute's worth in a minute, was asked in this time of the clock."""
        if self.at > self.until:
            raise TimeoutError(f"no end after {LONGEST}")
        wanted, deadline = len(self.answers) + round(A_MINUTE * seconds / 60), time.monotonic() + 60
        while len(self.answers) < wanted and time.monotonic() < deadline:
            time.sleep(0.02)
        time.sleep(0.2)  # the log is written by a thread of its own
        inside = (self.at + timedelta(seconds=seconds / 2)).timestamp()
        with sqlite3.connect(self._log, timeout=10) as database:
            database.execute(
                "UPDATE requests SET at = ? - latency_ms / 1000.0 WHERE endpoint LIKE ? AND at > ?",
                (inside, f"%/onlineendpoints/{NAME}", time.time() - 3600),
            )
        database.close()
        self.at += timedelta(seconds=seconds)

    @contextmanager
    def users(self) -> Iterator[None]:
        """Six of them, each with the next question as soon as the last one is answered, for as long as this lasts."""
        gone = threading.Event()

        def one(requests: Requests) -> None:
            while not gone.is_set():
                question = ASKED[next(self.asked) % len(ASKED)]
                answer = requests.post({"messages": [{"role": "user", "content": question}]})
                self.answers.append((answer.deployment, answer.status))

        with Requests(self.endpoint.scoring_uri()) as requests, ThreadPoolExecutor(AT_ONCE) as pool:
            asking = [pool.submit(one, requests) for _ in range(AT_ONCE)]
            try:
                yield
            finally:
                gone.set()
                for each in asking:
                    each.result(60)

    def rolled(self, how: str, monitor: str = "metrics") -> tuple[RolloutState, list[str]]:
        """A whole rollout from blue to a green that answers so; its end and what was told."""
        (self.folder / "green.how").write_text(how)
        settings, told = self.settings_with(monitor), list[str]()
        wanted = Wanted(passed(), policy(), "green", again=True)
        prompts = self.folder / "prompts.jsonl"
        bodies = sample_requests.bodies(prompts)
        with self.users():
            rollouts.run(settings, wanted, Sources(bodies, bodies[:5], prompts), told.append)
        ended = BlobStore(settings).read()
        assert ended is not None
        return ended.state, told


def passed() -> Verdict:
    digests = ("policy_digest", "prompts_digest", "candidate_scores_digest", "baseline_scores_digest")
    models = {"candidate_model": MODELS["green"], "baseline_model": MODELS["blue"]}
    made = invalid_verdict("better", bound=True, alpha=0.05, **models, **dict.fromkeys(digests, "d" * 64))
    return made.model_copy(update={"outcome": "pass"}).sealed()


@pytest.fixture(scope="module")
def deployed(ml_client: Any, emulator_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Place:
    from azure.ai.ml.entities import (
        CodeConfiguration,
        Environment,
        ManagedOnlineDeployment,
        ManagedOnlineEndpoint,
        Model,
        OnlineRequestSettings,
    )

    folder = tmp_path_factory.mktemp("users")
    (folder / "code").mkdir()
    (folder / "code" / "score.py").write_text(SCORE)
    turns = [[{"role": "user", "content": text}, {"role": "assistant", "content": "All is well."}] for text in HELD_OUT]
    rows = [{"id": str(n), "cluster_id": str(n), "messages": each} for n, each in enumerate(turns)]
    (folder / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    ml_client.environments.create_or_update(Environment(name="tiny", version="1", image="mcr.microsoft.com/any"))
    endpoints = ml_client.online_endpoints
    endpoints.begin_create_or_update(ManagedOnlineEndpoint(name=NAME, auth_mode="aad_token")).result()
    pollers = []
    for colour, digest in MODELS.items():
        (folder / f"{colour}.how").write_text("good")
        (folder / colour).mkdir()
        (folder / colour / "model.json").write_text(colour)
        named = {"name": f"users-{colour}", "version": "1", "type": "custom_model", "tags": {"digest": digest}}
        ml_client.models.create_or_update(Model(path=str(folder / colour), **named))
        deployment = ManagedOnlineDeployment(
            name=colour,
            endpoint_name=NAME,
            model=f"azureml:users-{colour}:1",
            code_configuration=CodeConfiguration(code=str(folder / "code"), scoring_script="score.py"),
            environment="azureml:tiny:1",
            instance_type="Standard_E4s_v3",
            instance_count=1,
            environment_variables={"GUNICORN_CMD_ARGS": "--threads 12", "HOW": str(folder / f"{colour}.how")},
            request_settings=OnlineRequestSettings(request_timeout_ms=20000, max_concurrent_requests_per_instance=32),
        )
        pollers.append(ml_client.online_deployments.begin_create_or_update(deployment))
    for poller in pollers:
        poller.result()
    place = Place(ml_client, folder, emulator_home / "traffic.db")
    place.endpoint.set_traffic({"blue": 100})
    return place


@pytest.fixture
def place(deployed: Place, monkeypatch: pytest.MonkeyPatch) -> Place:
    """Everything on blue, and a clock that all of the rollout goes by."""
    if deployed.endpoint.traffic() != {"blue": 100}:
        deployed.endpoint.set_traffic({"blue": 100})
    deployed.until = deployed.at
    deployed.sleep(0)  # what was asked after the last rollout ended belongs to no other
    deployed.at += timedelta(minutes=10)
    deployed.until = deployed.at + LONGEST
    deployed.answers.clear()
    monkeypatch.setattr(records, "now", deployed.now)
    monkeypatch.setattr(rollouts, "Executor", partial(Executor, sleep=deployed.sleep, clock=deployed.now))
    return deployed


def test_a_candidate_that_fails_at_a_share_of_requests_comes_back_by_itself(place: Place) -> None:
    ended, told = place.rolled("fails")
    assert (ended.phase, place.endpoint.traffic()) == (Phase.ROLLED_BACK, {"blue": 100}), told
    assert "does worse than the stable" in ended.reason
    assert [write.traffic["green"] for write in ended.writes] == [25, 0]
    whole = ended.evidence.whole
    failed = sum(status == 424 for deployment, status in place.answers if deployment == "green")
    assert 0 < whole.candidate.bad <= failed  # all that is judged was seen by a user
    assert whole.stable.bad == 0
    assert whole.stable.requests > 2 * whole.candidate.requests
    with place.users():
        before = len(place.answers)
        while len(place.answers) < before + AT_ONCE + 30:
            time.sleep(0.02)
    assert set(place.answers[before + AT_ONCE :]) == {("blue", 200)}  # after those that were under way


def test_a_candidate_that_says_the_worst_comes_back_at_once(place: Place) -> None:
    """Each of its answers has status 200, so nothing but what it says speaks against it."""
    ended, told = place.rolled("unsafe")
    assert (ended.phase, place.endpoint.traffic()) == (Phase.ROLLED_BACK, {"blue": 100}), told
    assert "never be given (self harm, severity" in ended.reason
    assert [write.traffic["green"] for write in ended.writes] == [25, 0]
    assert ended.evidence.whole.candidate.bad == 0
    assert UNSAFE not in ended.model_dump_json() + "".join(told)
    assert any("local stand-in" in line for line in told)


def test_a_good_candidate_is_promoted_on_what_users_asked(place: Place) -> None:
    ended, told = place.rolled("good", "request-log")
    assert (ended.phase, place.endpoint.traffic()) == (Phase.PROMOTED, {"green": 100}), told
    assert [step.weight for step in ended.steps] == [25, 100]
    assert all(step.requests["green"] >= 8 for step in ended.steps)
    seen = ended.evidence.whole
    assert (seen.candidate.bad, seen.stable.bad) == (0, 0)
    assert seen.candidate.requests + seen.stable.requests >= 2 * A_MINUTE
    assert ended.evidence.safety.sides.candidate.requests >= policy().safety.min_answers
    assert {status for _, status in place.answers} == {200}  # nobody noticed
