"""The decider: what passes, what fails, what stays undecided, and what no evidence may ever do."""

import json
from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eval.decide import decide
from eval.errors import EvalError
from eval.policy import LatencyPolicy, MetricPolicy, Policy, SlicePolicy
from eval.scores import ScoreRow
from eval.verdict import parse_verdict

POLICY = Policy(metrics=[MetricPolicy(name="exact_match", kind="binary", margin=0.05, min_drop=0.02)])
NOW = datetime(2026, 3, 1, tzinfo=UTC)


def rows(values, **fields):
    return [
        ScoreRow(
            prompt_id=f"p{i:05}",
            cluster_id=fields.get("clusters", {}).get(i, f"c{i:05}"),
            slices={"priority": "high" if i % 2 else "low"},
            status="ok",
            metrics={"exact_match": float(value)},
            latency_ms=fields.get("latency", 100.0),
            tokens=50,
        )
        for i, value in enumerate(values)
    ]


def outcome(candidate, baseline, policy=POLICY, **options):
    return decide(candidate, baseline, policy, **options).outcome


@pytest.mark.parametrize(
    ("candidate", "baseline", "expected"),
    [
        ([1] * 150, [0] * 150, "pass"),
        ([0] * 150, [1] * 150, "fail"),
        ([1] * 150, [1] * 150, "pass"),
        ([1] * 40 + [0] * 10, [1] * 40 + [0] * 10, "inconclusive"),  # 50 ties still allow a loss of 5.1 points
        ([1] * 19, [0] * 19, "inconclusive"),
    ],
)
def test_outcomes(candidate, baseline, expected):
    assert outcome(rows(candidate), rows(baseline)) == expected


def test_ten_ties_pass_no_small_margin():
    loose = POLICY.model_copy(update={"min_rows": 2, "min_clusters": 2})
    assert outcome(rows([1] * 10), rows([1] * 10), loose) == "inconclusive"


def test_few_clusters_decide_nothing_however_many_rows():
    groups = {i: f"c{i % 19}" for i in range(400)}
    verdict = decide(rows([1] * 400, clusters=groups), rows([0] * 400, clusters=groups), POLICY)
    assert verdict.outcome == "inconclusive" and verdict.metrics[0].clusters == 19


def with_floor(floor):
    return Policy(metrics=[POLICY.metrics[0].model_copy(update={"floor": floor})])


@pytest.mark.parametrize(("good", "expected"), [(90, "pass"), (52, "inconclusive"), (10, "fail")])
@pytest.mark.parametrize("first_release", [True, False])
def test_the_floor_is_on_the_lower_bound(good, expected, first_release):
    candidate = rows([1] * good + [0] * (100 - good))
    baseline = None if first_release else rows([0] * 100)
    assert outcome(candidate, baseline, with_floor(0.5)) == expected


def test_a_first_release_needs_a_floor():
    verdict = decide(rows([1] * 100), None, POLICY, candidate_model="a", now=NOW)
    assert verdict.outcome == "invalid" and "floor" in verdict.reason
    assert decide(rows([1] * 100), None, with_floor(0.5), candidate_model="a").bound


def changed(table, index, **fields):
    return [row.model_copy(update=fields) if i == index else row for i, row in enumerate(table)]


GOOD = rows([1] * 100)
INVALID = {
    "empty policy": (GOOD, GOOD, Policy()),
    "all metrics muted": (GOOD, GOOD, Policy(metrics=[POLICY.metrics[0].model_copy(update={"primary": False})])),
    "no candidate": ([], GOOD, POLICY),
    "no baseline rows": (GOOD, [], POLICY),
    "unknown metric": (GOOD, GOOD, Policy(metrics=[MetricPolicy(name="rouge", kind="score", margin=0.1)])),
    "dropped metric on one row": (changed(GOOD, 5, metrics={}), GOOD, POLICY),
    "NaN": (changed(GOOD, 5, metrics={"exact_match": float("nan")}), GOOD, POLICY),
    "infinite": (changed(GOOD, 5, metrics={"exact_match": float("inf")}), GOOD, POLICY),
    "half right": (changed(GOOD, 5, metrics={"exact_match": 0.5}), GOOD, POLICY),
    "out of range": (changed(GOOD, 5, metrics={"exact_match": 2.0}), GOOD, POLICY),
    "row twice": ([*GOOD, GOOD[3]], GOOD, POLICY),
    "candidate drops a row": (GOOD[:-1], GOOD, POLICY),
    "baseline drops a row": (GOOD, GOOD[:-1], POLICY),
    "other prompts": ([row.model_copy(update={"prompt_id": "x" + row.prompt_id}) for row in GOOD], GOOD, POLICY),
    "other clusters": (changed(GOOD, 5, cluster_id="other"), GOOD, POLICY),
    "uneven repeats": ([*GOOD, GOOD[3].model_copy(update={"repeat": 1})], GOOD, POLICY),
    "infrastructure": (
        [row.model_copy(update={"status": "infra_error"}) if i < 3 else row for i, row in enumerate(GOOD)],
        GOOD,
        POLICY,
    ),
    "no latency": (
        changed(GOOD, 5, latency_ms=None),
        GOOD,
        POLICY.model_copy(update={"latency": LatencyPolicy(max_ratio=2)}),
    ),
}


@pytest.mark.parametrize("case", INVALID)
def test_no_evidence_is_invalid(case):
    verdict = decide(*INVALID[case], candidate_model="a", baseline_model="b")
    assert verdict.outcome == "invalid" and verdict.exit_code == 3
    assert verdict.reason.endswith(".") and verdict.metrics == [] and verdict.intact()


def test_the_same_model_twice_is_invalid_unless_meant():
    models = {"candidate_model": "a", "baseline_model": "a"}
    assert outcome(GOOD, GOOD, **models) == "invalid"
    assert outcome(GOOD, GOOD, **models, aa=True) == "pass"


def test_a_verdict_without_both_models_is_not_bound():
    assert decide(GOOD, GOOD, POLICY, candidate_model="a", baseline_model="b").bound
    assert not decide(GOOD, GOOD, POLICY, candidate_model="a").bound
    assert not decide(GOOD, GOOD, POLICY).bound


def test_a_refused_answer_counts_as_the_models_and_is_counted_by_name():
    def judged(status):
        bad = [row.model_copy(update={"status": status, "metrics": {}}) for row in GOOD[:40]]
        return decide(bad + GOOD[40:], GOOD, POLICY)

    blocked, failed = judged("blocked"), judged("model_error")
    assert blocked.outcome == "fail" and blocked.metrics == failed.metrics
    counts = blocked.counts.candidate
    assert (counts.blocked, counts.model_errors, counts.infra_errors) == (40, 0, 0)
    assert blocked.caveats == ["40 of the candidate's 100 answers were refused by a content filter and count as wrong."]
    assert failed.caveats == [] and blocked.intact()


def test_a_verdict_from_before_refusals_were_counted_is_still_whole():
    old = json.loads(decide(GOOD, GOOD, POLICY).model_dump_json())
    for side in old["counts"].values():
        del side["blocked"]
    assert parse_verdict(json.dumps(old), "old").intact()
    old["counts"]["candidate"]["blocked"] = 3
    with pytest.raises(EvalError, match="does not fit"):
        parse_verdict(json.dumps(old), "edited")


def test_a_model_error_scores_worst():
    candidate = [row.model_copy(update={"status": "model_error", "metrics": {}}) for row in GOOD[:40]] + GOOD[40:]
    verdict = decide(candidate, GOOD, POLICY)
    assert verdict.outcome == "fail" and verdict.metrics[0].candidate == 0.6
    assert verdict.counts.candidate.model_errors == 40 and verdict.counts.candidate.infra_errors == 0


def test_lost_rows_neither_pass_nor_fail_a_candidate():
    lost = [row.model_copy(update={"status": "infra_error", "metrics": {}}) for row in GOOD[:10]]
    lenient = POLICY.model_copy(update={"max_infra_error_rate": 0.5})
    clean = decide(GOOD, GOOD, lenient).metrics[0]
    holed = decide(lost + GOOD[10:], GOOD, lenient).metrics[0]
    assert clean.outcome == "pass" and holed.outcome == "inconclusive"
    assert holed.interval[0] < clean.interval[0] and holed.difference == 0 and holed.n == 90


binary = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=20, max_size=120)


@settings(deadline=None, max_examples=60)
@given(binary, st.randoms())
def test_row_order_changes_nothing(pairs, random):
    candidate, baseline = rows([c for c, _ in pairs]), rows([b for _, b in pairs])
    first = decide(candidate, baseline, POLICY, now=NOW)
    random.shuffle(candidate)
    random.shuffle(baseline)
    assert decide(candidate, baseline, POLICY, now=NOW) == first


@settings(deadline=None, max_examples=60)
@given(binary)
def test_swapping_sides_flips_the_sign(pairs):
    candidate, baseline = rows([c for c, _ in pairs]), rows([b for _, b in pairs])
    ours, theirs = (decide(*sides, POLICY).metrics[0] for sides in ((candidate, baseline), (baseline, candidate)))
    assert ours.difference == pytest.approx(-theirs.difference)
    assert ours.interval == pytest.approx((-theirs.interval[1], -theirs.interval[0]), abs=1e-9)


@settings(deadline=None, max_examples=60)
@given(binary)
def test_copying_every_row_as_a_repeat_changes_nothing(pairs):
    sides = [rows([pair[i] for pair in pairs]) for i in (0, 1)]
    twice = [[*side, *(row.model_copy(update={"repeat": 1}) for row in side)] for side in sides]
    assert decide(*twice, POLICY).metrics == decide(*sides, POLICY).metrics


@settings(deadline=None, max_examples=60)
@given(binary, st.data())
def test_losing_rows_never_helps_the_candidate(pairs, data):
    candidate, baseline = rows([c for c, _ in pairs]), rows([b for _, b in pairs])
    lost = data.draw(st.sets(st.integers(0, len(pairs) - 1), min_size=1, max_size=5))
    dropped = [row for i, row in enumerate(candidate) if i not in lost]
    holed = [
        row.model_copy(update={"status": "infra_error", "metrics": {}}) if i in lost else row
        for i, row in enumerate(candidate)
    ]
    failed = [row.model_copy(update={"status": "model_error"}) if i in lost else row for i, row in enumerate(candidate)]
    lenient = POLICY.model_copy(update={"max_infra_error_rate": 1.0})
    whole = decide(candidate, baseline, lenient).metrics[0]
    assert decide(dropped, baseline, POLICY).outcome == "invalid"
    for table in (holed, failed):
        result = decide(table, baseline, lenient).metrics[0]
        assert result.interval is None or result.interval[0] <= whole.interval[0] + 1e-9


@settings(deadline=None, max_examples=60)
@given(binary, st.data())
def test_a_better_answer_never_hurts(pairs, data):
    candidate, baseline = [c for c, _ in pairs], rows([b for _, b in pairs])
    better = list(candidate)
    better[data.draw(st.integers(0, len(pairs) - 1))] = True
    before, after = (decide(rows(side), baseline, POLICY).metrics[0] for side in (candidate, better))
    assert after.interval[0] >= before.interval[0] - 1e-9


@settings(deadline=None, max_examples=30)
@given(binary)
def test_renaming_prompts_and_clusters_changes_no_number(pairs):
    sides = [rows([pair[i] for pair in pairs]) for i in (0, 1)]
    names = {row.prompt_id: f"{hash(row.prompt_id) % 997}-{row.prompt_id}" for row in sides[0]}
    renamed = [
        [row.model_copy(update={"prompt_id": names[row.prompt_id], "cluster_id": row.cluster_id[::-1]}) for row in side]
        for side in sides
    ]
    assert decide(*renamed, POLICY).metrics == decide(*sides, POLICY).metrics


def lower_is_better(values):
    return [row.model_copy(update={"metrics": {"loss": float(v)}}) for row, v in zip(rows(values), values, strict=True)]


def test_lower_can_be_better():
    rng = np.random.default_rng(2)
    low, high = rng.uniform(0, 1, 60), rng.uniform(1, 2, 60)
    policy = Policy(metrics=[MetricPolicy(name="loss", kind="score", margin=0.1, direction="lower", range=(0, 4))])
    good = decide(lower_is_better(low), lower_is_better(high), policy)
    bad = decide(lower_is_better(high), lower_is_better(low), policy)
    assert (good.outcome, bad.outcome) == ("pass", "fail")
    assert good.metrics[0].difference < 0 and good.metrics[0].interval[1] < 0
    assert good.metrics[0].candidate == pytest.approx(low.mean())


def test_latency_is_compared_per_prompt():
    policy = POLICY.model_copy(update={"latency": LatencyPolicy(max_ratio=1.5)})
    slow, same = rows([1] * 150, latency=200.0), rows([1] * 150)
    assert decide(slow, same, policy).outcome == "fail" and decide(slow, same, policy).latency_ratio == pytest.approx(2)
    assert decide(same, slow, policy).outcome == "pass"


SLICED = POLICY.model_copy(update={"slices": SlicePolicy(tags=["priority"], alpha=0.01, min_drop=0.05)})


def test_harm_on_one_slice_fails_a_candidate_that_gained_elsewhere():
    baseline = rows([i % 2 for i in range(200)])  # right exactly where the priority is high
    candidate = rows([1 - i % 2 if i % 5 else i % 2 for i in range(200)])
    verdict = decide(candidate, baseline, SLICED)
    assert verdict.outcome == "fail" and "priority is high" in verdict.reason
    assert {part.value: part.outcome for part in verdict.slices} == {"high": "harm", "low": "ok"}


def test_a_small_slice_is_not_powered():
    table = [
        row.model_copy(update={"slices": {"priority": "rare" if i < 5 else "usual"}}) for i, row in enumerate(GOOD)
    ]
    parts = {part.value: part for part in decide(table, table, SLICED).slices}
    assert parts["rare"].outcome == "not powered" and parts["rare"].interval is None
    assert parts["usual"].outcome == "ok"


def test_unchanged_models_seldom_fail_with_slices_and_all():
    rng, fails, runs = np.random.default_rng(9), 0, 400
    for _ in range(runs):
        right = rng.random(120) < 0.7
        sides = [rows(np.where(rng.random(120) < 0.15, rng.random(120) < 0.7, right)) for _ in range(2)]
        fails += outcome(*sides, SLICED) == "fail"
    assert fails / runs <= 0.05


def test_the_digest_covers_the_content_and_not_the_time():
    first, later = (decide(GOOD, GOOD, POLICY, now=NOW.replace(year=year)) for year in (2026, 2027))
    assert first.digest == later.digest and first.created_at != later.created_at
    assert not first.model_copy(update={"outcome": "fail"}).intact()
    assert decide(GOOD, rows([0] * 100), POLICY, now=NOW).digest != first.digest
