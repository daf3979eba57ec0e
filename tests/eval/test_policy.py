"""The policy file: the default one is sound, and a mistake is named."""

import pytest

from eval.errors import EvalError
from eval.policy import DEFAULT_POLICY, load_policy

METRIC = "metrics: [{name: exact_match, kind: binary, margin: 0.05}]\n"


def test_the_default_policy_judges_exact_match_with_margin_and_floor():
    policy = load_policy()
    primary = [metric for metric in policy.metrics if metric.primary]
    assert [metric.name for metric in primary] == ["exact_match"]
    assert primary[0].margin == 0.05 and primary[0].floor == 0.5
    assert (policy.alpha, policy.min_clusters, policy.max_infra_error_rate) == (0.05, 20, 0.02)


BAD = {
    "": "empty",
    "[": "not YAML",
    METRIC + "alfa: 0.1\n": "alfa: unknown key",
    METRIC + "alpha: 0.7\n": "alpha",
    METRIC + "min_rows: 0\n": "min_rows",
    METRIC.replace("0.05", ".nan"): "margin",
    METRIC.replace("0.05", "-0.1"): "margin",
    METRIC.replace("0.05", "1.0"): "everything would pass",
    METRIC.replace("binary", "wordy"): "kind",
    METRIC.replace("0.05", "0.05, floor: 3"): "outside its range",
    METRIC.replace("0.05", "0.05, direction: lower"): "binary",
    METRIC.replace("[", "[{name: exact_match, kind: score, margin: 0.1}, "): "named twice",
}


@pytest.mark.parametrize("text", BAD)
def test_a_mistake_is_named_in_one_sentence(tmp_path, text):
    path = tmp_path / "p.yaml"
    path.write_text(text)
    with pytest.raises(EvalError) as caught:
        load_policy(path)
    assert str(caught.value).startswith(f"{path}: ") and BAD[text] in str(caught.value)
    assert "\n" not in str(caught.value)


def test_comments_do_not_change_the_digest_and_numbers_do(tmp_path):
    plain, looser = tmp_path / "a.yaml", tmp_path / "b.yaml"
    text = DEFAULT_POLICY.read_text(encoding="utf-8")
    plain.write_text("# a comment\n" + text, encoding="utf-8")
    looser.write_text(text.replace("margin: 0.05", "margin: 0.06", 1), encoding="utf-8")
    assert load_policy(plain).digest() == load_policy().digest() != load_policy(looser).digest()
