"""The rollout's state in a real blob store with an Entra token, and the commands that read it, through the real SDK."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from scripts import settings as environments
from scripts.endpoint import Endpoint
from scripts.errors import AzureFailed, Refused
from scripts.rollout.state import Phase, RolloutState, tags
from scripts.rollout.store import BlobStore, Fenced, Held, Tenure, Unreadable, claim
from tests.scripts.rollout.test_resume import at

ROOT = Path(__file__).parents[2]
NAME = "rollout-state"
pytestmark = pytest.mark.slow


class Place(NamedTuple):
    config: Path
    settings: environments.Settings


@pytest.fixture(scope="module")
def place(ml_client: Any, tmp_path_factory: pytest.TempPathFactory) -> Place:
    """An environment whose endpoint exists and has no deployment."""
    from azure.ai.ml.entities import ManagedOnlineEndpoint

    ml_client.online_endpoints.begin_create_or_update(ManagedOnlineEndpoint(name=NAME, auth_mode="aad_token")).result()
    values = yaml.safe_load((ROOT / "scripts/environments/demo.yaml").read_text())
    values |= {"resource_group": ml_client.resource_group_name, "workspace": ml_client.workspace_name, "endpoint": NAME}
    config = tmp_path_factory.mktemp("settings") / "here.yaml"
    config.write_text(yaml.safe_dump(values))
    return Place(config, environments.load(config))


@pytest.fixture
def store(place: Place, ml_client: Any) -> BlobStore:
    """A store with nothing in it, and no tags that tell of a rollout either."""
    from azure.core.exceptions import ResourceNotFoundError

    endpoint = ml_client.online_endpoints.get(NAME)
    if endpoint.tags:
        endpoint.tags = {}
        ml_client.online_endpoints.begin_create_or_update(endpoint).result()

    made = BlobStore(place.settings)
    with contextlib.suppress(ResourceNotFoundError):
        made._blob.delete_blob()
    return made


def fresh(**changes: object) -> RolloutState:
    return at(Phase.SET, endpoint=NAME).changed(**changes)


def newest(store: BlobStore) -> Held:
    held = store.read()
    assert held is not None
    return held


def test_no_key_of_the_account_is_asked_for(store: BlobStore, emulator_home: Path) -> None:
    log = emulator_home / "requests.jsonl"
    before = log.read_text().count("listSecrets")
    store.write(fresh(), None)
    assert log.read_text().count("listSecrets") == before


def test_a_state_survives_the_store(store: BlobStore) -> None:
    assert store.read() is None
    state = fresh(reason='because\nof "this" and ünïcode', intent={"blue": 50, "green": 50})
    etag = store.write(state, None)
    assert newest(store) == Held(state, etag)


def test_it_is_created_once(store: BlobStore) -> None:
    store.write(fresh(epoch=1), None)
    with pytest.raises(Fenced):
        store.write(fresh(epoch=7), None)
    assert newest(store).state.epoch == 1


def test_only_the_version_that_was_read_is_replaced(store: BlobStore) -> None:
    first = store.write(fresh(epoch=1), None)
    second = store.write(fresh(epoch=2), first)
    with pytest.raises(Fenced):
        store.write(fresh(epoch=9), first)
    assert (newest(store).state.epoch, newest(store).etag) == (2, second)


def test_a_state_that_was_deleted_is_not_made_again_by_its_old_runner(store: BlobStore) -> None:
    mine = Tenure(store, fresh(), None)
    store._blob.delete_blob()
    with pytest.raises((Fenced, AzureFailed)):
        mine.put(step=5)
    assert store.read() is None


def test_of_many_at_once_one_goes_on(store: BlobStore) -> None:
    store.write(fresh(epoch=1), None)
    held = newest(store)

    def take(number: int) -> Tenure | None:
        try:
            return Tenure(store, held.state.changed(epoch=2, runner=f"runner-{number}"), held)
        except Fenced:
            return None

    with ThreadPoolExecutor(6) as pool:
        took = [tenure for tenure in pool.map(take, range(6)) if tenure]
    assert len(took) == 1
    assert newest(store).state.runner == took[0].state.runner


def test_everybody_who_insists_gets_a_turn(store: BlobStore) -> None:
    store.write(fresh(epoch=1), None)

    def insist(_: int) -> int:
        mine = claim(store, lambda found: found.changed(epoch=found.epoch + 1) if found else None)
        assert mine is not None
        return mine.state.epoch

    with ThreadPoolExecutor(4) as pool:
        assert sorted(pool.map(insist, range(4))) == [2, 3, 4, 5]


def test_a_process_that_was_fenced_off_learns_it_at_its_next_step(store: BlobStore) -> None:
    mine = Tenure(store, fresh(), None)
    mine.put(step=5)
    mine.check()
    other = Tenure(store, mine.state.changed(epoch=4, runner="other"), newest(store))
    for step in (mine.check, lambda: mine.put(step=6)):
        with pytest.raises(Fenced, match="other"):
            step()
    assert newest(store).state == other.state


@pytest.mark.parametrize("body", [b"", b"{}", b'{"schema_version": 2}', b"\xff"])
def test_what_is_not_a_state_is_one_sentence(store: BlobStore, body: bytes) -> None:
    store._blob.upload_blob(body, overwrite=True)
    with pytest.raises(Unreadable, match=f"rollouts/{NAME}.json") as caught:
        store.read()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("epoch", ["", "x", "-9999"])
def test_tags_that_make_no_sense_are_one_sentence(store: BlobStore, place: Place, epoch: str) -> None:
    Endpoint(place.settings).set_traffic({}, {**tags(fresh(), ""), "rollout-epoch": epoch})
    with pytest.raises(AzureFailed, match="rollback --to") as caught:
        store.read()
    assert "\n" not in str(caught.value)


def test_nobody_may_get_traffic_and_tags_are_kept(place: Place) -> None:
    endpoint = Endpoint(place.settings)
    reason = "x" * 10_000 + '\n"quoted" [/red] \x1b[0m'
    assert endpoint.set_traffic({}, tags(fresh(phase=Phase.ROLLED_BACK, reason=reason), "")) == {}
    assert endpoint.tags()["rollout"] == "ROLLED_BACK"
    assert len(endpoint.tags()["rollout-reason"]) <= 256
    with pytest.raises(ValueError, match="100"):
        endpoint.set_traffic({"blue": 90})


class Said(NamedTuple):
    code: int
    out: str
    error: str
    outputs: str


def command(place: Place, folder: Path, *arguments: str) -> Said:
    import os

    outputs = folder / "outputs"
    outputs.write_text("")
    done = subprocess.run(
        [sys.executable, "-m", "scripts", *arguments],
        cwd=ROOT,
        env={**os.environ, "MLOPS_CONFIG": str(place.config), "GITHUB_OUTPUT": str(outputs)},
        capture_output=True,
        text=True,
        check=False,
    )
    return Said(done.returncode, done.stdout, done.stderr, outputs.read_text())


class TestCommands:
    def test_status_and_watchdog_where_nothing_has_happened(
        self, place: Place, store: BlobStore, tmp_path: Path
    ) -> None:
        said = command(place, tmp_path, "rollout", "status", "--json")
        assert json.loads(said.out)["waits_for"] == "nothing: there has been no rollout"
        said = command(place, tmp_path, "watchdog", "--out", str(tmp_path / "watchdog.json"))
        assert (said.code, said.outputs.splitlines()[0]) == (0, "action=none")
        assert json.loads((tmp_path / "watchdog.json").read_text())["action"] == "none"
        assert store.read() is None

    def test_the_watchdog_takes_back_a_first_release_whose_runner_died(
        self, place: Place, store: BlobStore, tmp_path: Path
    ) -> None:
        store.write(fresh(stable="", standing={}), None)
        out = str(tmp_path / "watchdog.json")
        assert command(place, tmp_path, "watchdog", "--out", out).outputs.startswith("action=none\n")
        said = command(place, tmp_path, "watchdog", "--stale-minutes", "0", "--out", out)
        assert (said.code, said.outputs.splitlines()[0]) == (0, "action=taken-back")
        assert newest(store).state.phase is Phase.ROLLED_BACK

    def test_abort_keeps_a_persons_words_whole(self, place: Place, store: BlobStore, tmp_path: Path) -> None:
        store.write(fresh(stable="", standing={}), None)
        words = "wrong\n::error::x=y\n[/red] $(touch x) 'q' \"q\" " + "ü" * 10_000
        out = tmp_path / "rollback.json"
        said = command(place, tmp_path, "rollout", "abort", "--reason", words, "--out", str(out))
        assert said.code == 0, said.error
        assert json.loads(out.read_text())["reason"] == words
        assert newest(store).state.reason == words
        assert [line.split("=")[0] for line in said.outputs.splitlines()] == ["to", "state_kept", "reason"]
        again = command(place, tmp_path, "rollout", "abort", "--reason", "x", "--out", str(tmp_path / "none.json"))
        assert (again.code, again.error.count("\n")) == (1, 1)
        assert not (tmp_path / "none.json").exists()

    @pytest.mark.parametrize(
        ("arguments", "code", "words"),
        [
            (("--endpoint", "other; rm -rf /\n"), 3, (NAME, "key `endpoint`", "here.yaml", "'other; rm -rf /'")),
            (("--to", "red"), 3, ("no deployment red",)),
            ((), 3, ("--to",)),
        ],
    )
    def test_a_wrong_rollback_changes_nothing(
        self,
        place: Place,
        store: BlobStore,
        tmp_path: Path,
        arguments: tuple[str, ...],
        code: int,
        words: tuple[str, ...],
    ) -> None:
        out = tmp_path / "rollback.json"
        said = command(place, tmp_path, "rollback", "--reason", "x", *arguments, "--out", str(out))
        assert (said.code, said.error.count("\n")) == (code, 1), said.error
        assert all(word in said.error for word in words), said.error
        assert store.read() is None
        assert not out.exists()


def test_a_claim_that_is_refused_writes_nothing(store: BlobStore) -> None:
    def refuse(_: RolloutState | None) -> None:
        raise Refused("no")

    with pytest.raises(Refused):
        claim(store, refuse)
    assert store.read() is None
