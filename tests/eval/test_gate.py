"""The gate as a command: exit codes, the verdict file, and one sentence for every mistake."""

import json
import subprocess
import sys

import pytest

from eval.gate import main
from eval.scores import write_scores
from eval.summary import beside
from eval.verdict import read_verdict
from tests.eval.test_validity import summary

POLICY = """
metrics: [{name: exact_match, kind: binary, margin: 0.05, min_drop: 0.02}]
"""


@pytest.fixture
def gate(tmp_path, make):
    """Run the gate on two lists of scores; returns its exit code and its verdict."""
    policy = tmp_path / "p.yaml"
    policy.write_text(POLICY)

    def run(candidate, baseline, *options):
        write_scores(tmp_path / "c.jsonl", make(candidate))
        write_scores(tmp_path / "b.jsonl", make(baseline))
        out = tmp_path / "out" / "v.json"
        files = ["--candidate", tmp_path / "c.jsonl", "--baseline", tmp_path / "b.jsonl", "--policy", policy]
        code = main([str(part) for part in [*files, "--out", out, *options]])
        return code, read_verdict(out)

    return run


@pytest.mark.parametrize(
    ("candidate", "baseline", "code"),
    [([1] * 100, [0] * 100, 0), ([0] * 100, [1] * 100, 1), ([1] * 10, [0] * 10, 2), ([0.5] * 100, [1] * 100, 3)],
)
def test_exit_code_and_verdict_agree(gate, candidate, baseline, code):
    got, verdict = gate(candidate, baseline)
    assert got == code == verdict.exit_code
    assert verdict.bound is False


def test_digests_bind_the_verdict(gate):
    _, verdict = gate([1] * 100, [0] * 100, "--candidate-model", "aaa", "--baseline-model", "bbb")
    assert verdict.bound and (verdict.candidate_model, verdict.baseline_model) == ("aaa", "bbb")
    assert verdict.policy_digest and verdict.candidate_scores_digest != verdict.baseline_scores_digest


def test_the_summary_leads_with_the_verdict(gate, capsys):
    gate([1] * 100, [0] * 100)
    first, *rest = capsys.readouterr().out.splitlines()
    assert first.startswith("PASS  exact_match went from 0.000 to 1.000")
    assert any("●" in line and "exact_match" in line for line in rest)


@pytest.mark.parametrize("changed", [{"scores_digest": "0"}, {"judge_digest": "another"}, {"evaluated_at": "gestern"}])
def test_summaries_beside_the_tables_are_held_against_them(tmp_path, gate, make, changed):
    for name, values in (("c", [1] * 100), ("b", [0] * 100)):
        about = json.loads(summary(make(values)).model_dump_json())
        beside(tmp_path / f"{name}.jsonl").write_text(json.dumps({**about, **(changed if name == "b" else {})}))
    assert gate([1] * 100, [0] * 100)[0] == 3
    beside(tmp_path / "b.jsonl").write_text(summary(make([0] * 100)).model_dump_json())
    assert gate([1] * 100, [0] * 100)[0] == 0


def test_broken_tables_still_leave_an_invalid_verdict(tmp_path):
    (tmp_path / "c.jsonl").write_text("{\n")
    out = tmp_path / "v.json"
    code = main(["--candidate", str(tmp_path / "c.jsonl"), "--baseline", "missing.jsonl", "--out", str(out)])
    verdict = read_verdict(out)
    assert code == 3 and verdict.outcome == "invalid" and "c.jsonl:1" in verdict.reason


def test_an_unwritable_place_is_one_sentence(tmp_path, capsys, make):
    write_scores(tmp_path / "c.jsonl", make([1]))
    (tmp_path / "file").write_text("")
    code = main(["--candidate", str(tmp_path / "c.jsonl"), "--out", str(tmp_path / "file" / "v.json")])
    assert code == 3 and "cannot be written" in capsys.readouterr().err


@pytest.mark.parametrize("argv", [[], ["--candidate", "x", "--out", "y", "--wat"]])
def test_a_wrong_option_is_invalid_and_not_inconclusive(argv, capsys):
    with pytest.raises(SystemExit) as caught:
        main(argv)
    assert caught.value.code == 3 and len(capsys.readouterr().err.splitlines()) == 1


def test_a_verdict_that_was_edited_is_refused(gate, tmp_path):
    gate([0] * 100, [1] * 100)
    path = tmp_path / "out" / "v.json"
    path.write_text(path.read_text().replace('"outcome": "fail"', '"outcome": "pass"', 1))
    with pytest.raises(Exception, match="digest does not fit"):
        read_verdict(path)


def test_help_needs_no_package_and_is_instant():
    argv = [sys.executable, "-S", "-m", "eval.gate", "--help"]  # -S: nothing that is installed can be imported
    assert "example:" in subprocess.run(argv, capture_output=True, text=True, check=True).stdout
