"""`retrain-decision` against the local Azure ML: from no release at all to a reason that was tried and refused."""

from itertools import islice
from pathlib import Path

import pytest
from azure.ai.ml.entities import Data

from scripts import dataset, records
from scripts.operate.facts import period_of
from scripts.operate.retrain import Decision
from scripts.operate.retrain_facts import data_now, rows_of

from .conftest import ROOT, Azure, Ran

pytestmark = pytest.mark.slow
ALL, HELD_OUT = ROOT / "data/tickets.jsonl", ROOT / "data/heldout.jsonl"
FEWER = 1000


@pytest.fixture(scope="module")
def earlier(azure: Azure) -> Path:
    """The tickets as they were when the live model was trained."""
    path = azure.folder / "earlier.jsonl"
    with ALL.open() as lines:
        path.write_text("".join(islice(lines, FEWER)))
    return path


def ask(azure: Azure, source: Path = ALL, **changes: object) -> tuple[Ran, Decision]:
    out = azure.folder / "retrain.json"
    out.unlink(missing_ok=True)
    policy = azure.policy("retrain.yaml", **changes)
    ran = azure.command("retrain-decision", "--source", str(source), "--policy", policy, "--out", str(out))
    assert ran.code == 0, ran.error
    decision = records.read(Decision, out)
    assert ran.outputs == {
        "retrain": str(decision.retrain).lower(),
        "reason": decision.said,
        "period": decision.period,
    }
    assert decision.said in ran.summary
    return ran, decision


def test_a_first_release_comes_first(azure: Azure) -> None:
    _, decision = ask(azure)
    assert not decision.retrain
    assert not decision.reasons
    assert "first release" in decision.said


def test_from_new_data_to_a_model_that_was_refused(azure: Azure, earlier: Path) -> None:
    from data.prepare import prepare

    before = prepare(earlier, HELD_OUT, azure.folder / "data", azure.settings.dataset)
    dataset.upload(azure.settings, before, azure.folder / "data" / "training")
    assert rows_of(azure.ml, azure.settings.dataset, before.digest) == FEWER
    asset = azure.ml.data.get(azure.settings.dataset, before.version)
    assert asset.tags == {
        "digest": before.digest,
        "rows": str(FEWER),
        "train_rows": str(before.files["train"].rows),
    }
    azure.job("train-live", "true", data_digest=before.digest)
    azure.model("1", digest="1" * 64, data=before.digest, job="train-live", verdict="pass")
    azure.deploy(azure.settings.endpoint, "blue", "1")
    azure.traffic(blue=100)

    _, decision = ask(azure, earlier)
    assert not decision.retrain
    assert decision.live_model == f"{azure.settings.model}:1"

    ran, decision = ask(azure)
    assert (decision.retrain, decision.reason, decision.period) == (True, "data", "")
    assert f"+{decision.rows - FEWER:,} rows" in decision.said
    assert ran.summary.count("\n| data | yes |") == 1

    azure.job("train-broken", "exit 1", data_digest=decision.data_digest)
    assert ask(azure)[1].retrain

    azure.job("train-new", "true", data_digest=decision.data_digest, commit="c0ffee")
    _, decision = ask(azure)
    assert not decision.retrain
    assert decision.reasons[0].tried == "train-new (Completed, not judged yet)"
    azure.model("2", digest="2" * 64, data=decision.data_digest, job="train-new", verdict="fail")
    assert "already tried as train-new (Completed, verdict fail)" in ask(azure)[1].said

    # The data as it was, but the live model has grown old: once in this period.
    old = {"max_age_days": 1e-9}
    _, decision = ask(azure, earlier, **old)
    assert (decision.retrain, decision.reason) == (True, "age")
    assert decision.period == period_of(records.now(), "quarter")
    azure.job("train-again", "true", data_digest=before.digest, period=decision.period)
    _, decision = ask(azure, earlier, **old)
    assert not decision.retrain
    assert decision.reasons[-1].tried.startswith("train-again (Completed")

    # While the weights are split nobody knows what is live.
    azure.deploy(azure.settings.endpoint, "green", "2")
    azure.traffic(blue=90, green=10)
    assert not ask(azure)[1].reasons
    azure.traffic(blue=100)


def test_rows_that_nobody_wrote_down(azure: Azure) -> None:
    digest = "e" * 64
    folder = azure.folder / "untagged"
    folder.mkdir()
    (folder / "train.jsonl").write_text("{}\n")
    asset = Data(name=azure.settings.dataset, version=digest[:12], path=str(folder), type="uri_folder")
    azure.ml.data.create_or_update(asset)
    assert rows_of(azure.ml, azure.settings.dataset, digest) is None
    assert rows_of(azure.ml, azure.settings.dataset, "f" * 64) is None
    assert rows_of(azure.ml, azure.settings.dataset, "") is None


def test_the_same_file_has_the_same_digest_every_time(azure: Azure) -> None:
    assert data_now(azure.settings, ALL, HELD_OUT).digest == data_now(azure.settings, ALL, HELD_OUT).digest


@pytest.mark.parametrize("flag", ["--source", "--held-out", "--policy"])
def test_bad_input_is_one_sentence_and_no_record(azure: Azure, flag: str) -> None:
    out = azure.folder / "bad.json"
    ran = azure.command("retrain-decision", flag, str(azure.folder / "nowhere"), "--out", str(out))
    assert ran.code == 3
    assert "nowhere" in ran.error
    assert not out.exists()
    assert not ran.outputs


def test_what_azure_does_not_have_is_exit_code_4(azure: Azure) -> None:
    other = azure.folder / "other.yaml"
    name = azure.settings.endpoint
    other.write_text(azure.config.read_text().replace(f"endpoint: {name}", "endpoint: elsewhere"))
    ran = azure.command("retrain-decision", "--config", str(other), "--out", str(azure.folder / "none.json"))
    assert ran.code == 4
    assert "elsewhere" in ran.error
