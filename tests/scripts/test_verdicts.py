"""A verdict that was given stays given, for exactly what it was about."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from eval.verdict import read_verdict
from scripts import records, verdicts
from scripts.deploy import release_digest
from scripts.errors import InvalidInput
from scripts.gate import judge
from scripts.settings import Settings, load

ROOT = Path(__file__).parents[2]
DIGEST = st.text("0123456789abcdef", min_size=64, max_size=64)


def model(digest: str, version: str = "1") -> records.Model:
    return records.Model(
        name="m", version=version, id=f"/m/{version}", digest=digest, path="p", lineage=records.Lineage()
    )


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    policy, prompts = tmp_path / "policy.yaml", tmp_path / "prompts.jsonl"
    policy.write_text("alpha: 0.05\n")
    prompts.write_text("{}\n")
    return policy, prompts


@given(DIGEST, DIGEST, DIGEST)
@hypothesis_settings(deadline=None)
def test_another_model_on_either_side_is_another_question(one: str, two: str, three: str) -> None:
    same = ROOT / "eval/policy.yaml", ROOT / "data/heldout.jsonl"
    assert (verdicts.key(one, two, *same) == verdicts.key(one, three, *same)) == (two == three)
    assert (verdicts.key(one, two, *same) == verdicts.key(three, two, *same)) == (one == three)
    assert (verdicts.key(one, two, *same) == verdicts.key(two, one, *same)) == (one == two)


def test_another_policy_or_other_prompts_are_another_question(files: tuple[Path, Path]) -> None:
    policy, prompts = files
    before = verdicts.key("a", "b", policy, prompts)
    assert verdicts.key("a", "b", policy, prompts) == before
    prompts.write_text("{}\n{}\n")
    other = verdicts.key("a", "b", policy, prompts)
    policy.write_text("alpha: 0.04\n")
    assert len({before, other, verdicts.key("a", "b", policy, prompts)}) == 3


def test_a_candidate_that_is_live_is_no_question_at_all(files: tuple[Path, Path], tmp_path: Path) -> None:
    live = records.Live(endpoint="e", stable="green", idle="blue", model=model("a" * 64))
    done = verdicts.look(None, model("a" * 64), live, *files, tmp_path)  # type: ignore[arg-type]  # Azure is not asked
    assert (done.judged, done.outcome) == (True, "live")
    assert "live already as green" in done.reason


@pytest.mark.parametrize(("tables", "digest"), [([Path("x.jsonl")], None), ([], "b" * 64)])
def test_the_live_model_has_both_a_table_and_a_digest_or_there_is_none(tables: list[Path], digest: str | None) -> None:
    with pytest.raises(InvalidInput, match="without it nothing can be compared"):
        judge(Path("c.jsonl"), tables, ROOT / "eval/policy.yaml", "a" * 64, digest)


@pytest.fixture
def demo(monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("AZURE_SUBSCRIPTION_ID", "33333333-3333-3333-3333-333333333333")
    return load(Path("scripts/environments/demo.yaml"))


def test_a_deployment_is_kept_only_when_every_part_is_the_same(demo: Settings) -> None:
    one = release_digest(demo, model("a" * 64), {})
    assert release_digest(demo, model("a" * 64), {}) == one
    larger = demo.model_copy(update={"serving": demo.serving.model_copy(update={"instance_count": 2})})
    others = {
        release_digest(demo, model("b" * 64), {}),
        release_digest(demo, model("a" * 64, "2"), {}),
        release_digest(demo, model("a" * 64), {"MAX_INPUT_TOKENS": "230"}),
        release_digest(larger, model("a" * 64), {}),
    }
    assert len(others | {one}) == 5


# A real workspace with a registered model; what a test does there follows.
WORKSPACE = """
import json, sys
from pathlib import Path
from eval.verdict import invalid_verdict, write_verdict
from scripts import azure_ml, provision, records, register, settings, verdicts
out = Path(sys.argv[1])
values = settings.load(Path("scripts/environments/demo.yaml"))
for resource in provision.resources(values):
    if resource.kind in ("resource group", "container registry", "workspace"):
        resource.create()
(out / "model").mkdir()
(out / "model" / "config.json").write_text("{}")
model = register.register_folder(values, out / "model", "candidate")
live = records.Live(endpoint="e", stable="", idle="blue", model=None)
policy = Path("eval/policy.yaml")
"""


def in_a_workspace(script: str, folder: Path) -> Any:
    """Run `script` in a workspace of its own; what it wrote to said.json."""
    command = [sys.executable, "-m", "emulator", "run", "--", sys.executable, "-c", WORKSPACE + script, str(folder)]
    environment = {**os.environ, "EMULATOR_HOME": str(folder / "azure"), "PYTHONPATH": str(ROOT)}
    subprocess.run(command, cwd=ROOT, env=environment, check=True, stdin=subprocess.DEVNULL)
    return json.loads((folder / "said.json").read_text())


# On a real workspace: keep a verdict, lose its tag as a dying runner would, look again; then try to keep another.
KEEPING = """
from scripts.errors import Refused
first = invalid_verdict("better").model_copy(update={"outcome": "pass"}).sealed()
write_verdict(out / "verdict.json", first)
(out / "candidate.jsonl").write_text("first")
prompts = Path("data/heldout.jsonl")
name = verdicts.key(model.digest, "", policy, prompts)
verdicts.keep_and_tag(values, name, first, model, out / "verdict.json", [out / "candidate.jsonl"])
ml = azure_ml.client(values)
tags = lambda: ml.models.get(model.name, model.version).tags
kept = tags()
lost = ml.models.get(model.name, model.version)
lost.tags = {"digest": model.digest}
ml.models.create_or_update(lost)
found = verdicts.look(values, model, live, policy, prompts, out / "again")
second = first.model_copy(update={"reason": "tried until it passed"}).sealed()
write_verdict(out / "verdict.json", second)
(out / "candidate.jsonl").write_text("second")
try:
    verdicts.keep_and_tag(values, name, second, model, out / "verdict.json", [out / "candidate.jsonl"])
    refused = ""
except Refused as error:
    refused = str(error)
verdicts.look(values, model, live, policy, prompts, out / "after")
said = {"kept": kept, "found": found.model_dump(), "tags": tags(), "first": first.digest, "refused": refused}
(out / "said.json").write_text(json.dumps(said))
"""


@pytest.mark.slow
def test_a_kept_verdict_outlives_its_runner_and_no_second_one_replaces_it(tmp_path: Path) -> None:
    said = in_a_workspace(KEEPING, tmp_path)
    assert said["kept"]["verdict"] == "pass"
    assert said["found"]["judged"] is True
    assert (said["tags"]["verdict"], said["tags"]["verdict_digest"]) == ("pass", said["first"])
    assert "judged before" in said["refused"]
    assert read_verdict(tmp_path / "after" / "verdict.json").digest == said["first"]
    assert (tmp_path / "after" / "scores" / "candidate.jsonl").read_text() == "first"


# On a real workspace: a first look that decides nothing, a second on more prompts, and no third.
LOOKING = """
from eval.errors import EvalError
from scripts import storage
from eval.scores import ScoreRow, write_scores
table, path = out / "candidate.jsonl", out / "verdict.json"
asked = verdicts.question(model.digest, "", policy)
write_scores(table, [ScoreRow(prompt_id="p", cluster_id="c", status="ok")])
said = []
for look in (1, 2, 3):
    prompts = out / f"prompts-{look}.jsonl"
    prompts.write_text(str(look))
    found = verdicts.look(values, model, live, policy, prompts, out / str(look))
    before = verdicts.earlier(values, asked)
    seen = before and [before.verdict.look, len(before.rows)]
    said.append([found.judged, found.outcome, found.reason, seen])
    if not found.judged:
        verdict = invalid_verdict(f"look {look}.", look=look).model_copy(update={"outcome": "inconclusive"}).sealed()
        write_verdict(path, verdict)
        verdicts.keep_and_tag(values, verdicts.key(model.digest, "", policy, prompts), verdict, model, path, [table])
box = storage.container(values)
first = sorted(blob.name for blob in box.list_blobs() if blob.name.endswith("/verdict.json"))[0]
edited = box.download_blob(first).readall().replace(b'"inconclusive"', b'"pass"')
box.upload_blob(first, edited, overwrite=True)
try:
    verdicts.looked(values, asked)
except EvalError as error:
    said.append(str(error))
(out / "said.json").write_text(json.dumps(said))
"""


@pytest.mark.slow
def test_other_prompts_are_another_look_and_the_policy_says_how_many(tmp_path: Path) -> None:
    said = in_a_workspace(LOOKING, tmp_path)
    first, second, third, edited = said
    assert first == [False, "", "", None]
    assert second == [False, "", "", [1, 1]]
    assert third[:2] == [True, "inconclusive"]
    assert third[2].startswith("look 2. That was on other prompts")
    assert third[3] == [2, 1]
    assert "digest does not fit" in edited
