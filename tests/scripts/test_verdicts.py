"""A verdict that was given stays given, for exactly what it was about."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

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
