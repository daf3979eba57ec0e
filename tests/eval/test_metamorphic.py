"""What may not change a verdict, and in which direction a change may move it: properties over random comparisons.

Each property goes through `decide`, because that is what a release meets. Examples are drawn the same way every time.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eval import stats
from eval.decide import decide
from eval.policy import LatencyPolicy, MetricPolicy, Policy, SlicePolicy
from eval.scores import ScoreRow
from eval.verdict import Verdict

NOW = datetime(2026, 3, 1, tzinfo=UTC)
RANK = {"invalid": 0, "fail": 1, "inconclusive": 2, "pass": 3}
BINARY = Policy(metrics=[MetricPolicy(name="score", kind="binary", margin=0.05, min_drop=0.02)])
NUMBER = Policy(metrics=[MetricPolicy(name="score", kind="score", margin=0.05, min_drop=0.02)])
always = settings(deadline=None, max_examples=60, derandomize=True, database=None)


@pytest.fixture(autouse=True, scope="module")
def _fewer_resamples() -> Iterator[None]:
    """The properties hold for any number of resamples, and these examples need thousands of intervals."""
    kept, stats.RESAMPLES = stats.RESAMPLES, 199
    yield
    stats.RESAMPLES = kept


@dataclass(frozen=True)
class Case:
    """Scores of both sides on the same prompts, and how many prompts share a cluster."""

    policy: Policy
    candidate: tuple[float, ...]
    baseline: tuple[float, ...]
    cluster: int

    def rows(self, values: Sequence[float]) -> list[ScoreRow]:
        return [
            ScoreRow(
                prompt_id=f"p{i:03}",
                cluster_id=f"c{i // self.cluster:03}",
                slices={"length": "long" if i // self.cluster % 3 else "short"},
                status="ok",
                metrics={"score": float(value)},
                latency_ms=100.0 + i % 7,
                tokens=50,
            )
            for i, value in enumerate(values)
        ]

    @property
    def sides(self) -> tuple[list[ScoreRow], list[ScoreRow]]:
        return self.rows(self.candidate), self.rows(self.baseline)

    def judged(self, policy: Policy | None = None) -> Verdict:
        return decide(*self.sides, policy or self.policy, now=NOW)


@st.composite
def cases(draw: st.DrawFn, kinds: Sequence[Policy] = (BINARY, NUMBER), clusters: Sequence[int] = (1, 1, 3)) -> Case:
    """Comparisons on both sides of every border: mostly ties, few or many changes, better or worse."""
    policy = draw(st.sampled_from(kinds))
    cluster = draw(st.sampled_from(clusters))
    n = draw(st.sampled_from([22, 30, 60, 150])) * cluster
    steps = 1 if policy is BINARY else 10
    changed, better = (
        draw(st.sampled_from([0.0, 0.05, 0.2, 0.6, 1.0])),
        draw(st.sampled_from([0.0, 0.2, 0.5, 0.8, 1.0])),
    )
    random = Random(draw(st.integers(0, 9999)))
    baseline, candidate = [], []
    for _ in range(n):
        low, high = sorted(random.choices(range(steps + 1), k=2))
        ties = random.random() >= changed
        pair = (low, low) if ties else (low, high) if random.random() < better else (high, low)
        baseline.append(pair[0] / steps)
        candidate.append(pair[1] / steps)
    return Case(policy, tuple(candidate), tuple(baseline), cluster)


def with_metric(policy: Policy, **changes: object) -> Policy:
    return policy.model_copy(update={"metrics": [policy.metrics[0].model_copy(update=changes)]})


def sliced(policy: Policy) -> Policy:
    return policy.model_copy(update={"slices": SlicePolicy(tags=["length"], alpha=0.05)})


def not_worse(after: Verdict, before: Verdict) -> bool:
    return RANK[after.outcome] >= RANK[before.outcome]


def test_the_examples_reach_every_outcome() -> None:
    seen: list[str] = []

    @always
    @given(cases())
    def look(case: Case) -> None:
        seen.append(case.judged().outcome)

    look()
    assert min(seen.count(outcome) for outcome in ("pass", "fail", "inconclusive")) > 5, seen


@always
@given(cases(), st.integers(0, 9999).map(Random))
def test_row_order_changes_nothing(case, random):
    candidate, baseline = case.sides
    random.shuffle(candidate)
    random.shuffle(baseline)
    assert decide(candidate, baseline, sliced(case.policy), now=NOW) == case.judged(sliced(case.policy))


@always
@given(cases(), st.integers(2, 3))
def test_copies_as_repeats_change_nothing(case, repeats):
    copies = [[row.model_copy(update={"repeat": i}) for row in side for i in range(repeats)] for side in case.sides]
    once, more = case.judged(sliced(case.policy)), decide(*copies, sliced(case.policy), now=NOW)
    assert more.outcome == once.outcome
    for ours, theirs in zip(more.metrics, once.metrics, strict=True):
        assert ours.interval == (theirs.interval and pytest.approx(theirs.interval, abs=1e-9))
        assert (ours.n, ours.clusters) == (theirs.n, theirs.clusters)
    assert [part.outcome for part in more.slices] == [part.outcome for part in once.slices]


@always
@given(cases(kinds=[NUMBER]))
def test_a_score_of_which_less_is_better_is_judged_the_same(case):
    """The sign of a score: a loss of 1 - accuracy is accuracy."""
    mirrored = Case(case.policy, *(tuple(1 - v for v in s) for s in (case.candidate, case.baseline)), case.cluster)
    ours, theirs = case.judged(), mirrored.judged(with_metric(case.policy, direction="lower"))
    assert theirs.outcome == ours.outcome
    mine, its = ours.metrics[0], theirs.metrics[0]
    assert its.difference == (None if mine.difference is None else pytest.approx(-mine.difference, abs=1e-9))
    assert its.interval == (mine.interval and pytest.approx((-mine.interval[1], -mine.interval[0]), abs=1e-9))


@always
@given(cases(kinds=[NUMBER]), st.sampled_from([2.0, 5.0, 100.0]))
def test_the_unit_of_a_score_changes_nothing(case, unit):
    scaled = Case(case.policy, *(tuple(v * unit for v in s) for s in (case.candidate, case.baseline)), case.cluster)
    policy = with_metric(case.policy, margin=0.05 * unit, min_drop=0.02 * unit, range=(0.0, unit))
    assert scaled.judged(policy).outcome == case.judged().outcome


@always
@given(cases(), st.integers(0, 9999).map(Random))
def test_names_of_prompts_clusters_and_slices_change_nothing(case, random):
    fresh = random.sample(range(1000), 2 * len(case.candidate))
    prompts = {row.prompt_id: f"{fresh[i]}-x" for i, row in enumerate(case.sides[0])}
    clusters = {row.cluster_id: f"{fresh[-1 - i]}" for i, row in enumerate(case.sides[0])}
    renamed = [
        [
            row.model_copy(
                update={
                    "prompt_id": prompts[row.prompt_id],
                    "cluster_id": clusters[row.cluster_id],
                    "slices": {"bucket": {"long": "a", "short": "b"}[row.slices["length"]]},
                }
            )
            for row in side
        ]
        for side in case.sides
    ]
    policy = case.policy.model_copy(update={"slices": SlicePolicy(tags=["bucket"], alpha=0.05)})
    ours, theirs = case.judged(sliced(case.policy)), decide(*renamed, policy, now=NOW)
    assert theirs.outcome == ours.outcome
    assert theirs.metrics[0].interval == (ours.metrics[0].interval and pytest.approx(ours.metrics[0].interval))
    assert [part.outcome for part in theirs.slices] == [part.outcome for part in ours.slices]


@always
@given(cases())
def test_swapping_sides_flips_the_interval(case):
    ours = case.judged().metrics[0]
    theirs = Case(case.policy, case.baseline, case.candidate, case.cluster).judged().metrics[0]
    assert theirs.interval == (ours.interval and pytest.approx((-ours.interval[1], -ours.interval[0]), abs=1e-9))
    assert {ours.outcome, theirs.outcome} != {"fail"}, "each side cannot be worse than the other"


@always
@given(cases(kinds=[BINARY], clusters=[1]), st.data())
def test_a_better_candidate_never_gets_a_worse_verdict(case, data):
    """Yes/no answers, one prompt per cluster: a right answer more can only help."""
    where = data.draw(st.sets(st.integers(0, len(case.candidate) - 1), min_size=1))

    def better(side: tuple[float, ...]) -> tuple[float, ...]:
        return tuple(1.0 if i in where else value for i, value in enumerate(side))

    assert not_worse(Case(case.policy, better(case.candidate), case.baseline, 1).judged(), case.judged())
    assert not_worse(case.judged(), Case(case.policy, case.candidate, better(case.baseline), 1).judged())


@always
@given(cases(kinds=[NUMBER]), st.sampled_from([0.01, 0.1, 0.3]))
def test_a_candidate_better_by_the_same_on_every_prompt_never_gets_a_worse_verdict(case, gain):
    """Scores: an interval moves with its data. (One outlying gain may widen it; that is what a spread is for.)"""
    wide = with_metric(case.policy, range=(-1.0, 2.0))
    better = Case(case.policy, tuple(v + gain for v in case.candidate), case.baseline, case.cluster)
    assert not_worse(better.judged(wide), case.judged(wide))


@always
@given(cases(), st.floats(0.001, 0.5))
def test_more_margin_never_gives_a_worse_verdict(case, more):
    assert not_worse(case.judged(with_metric(case.policy, margin=0.05 + more)), case.judged())


@always
@given(cases(), st.floats(0.0, 1.0), st.floats(0.0, 1.0))
def test_a_higher_floor_never_gives_a_better_verdict(case, one, other):
    low, high = (case.judged(with_metric(case.policy, floor=floor)) for floor in sorted((one, other)))
    assert not_worse(case.judged(), low) and not_worse(low, high)


@always
@given(cases(), st.floats(0.0, 0.5))
def test_a_larger_drop_that_matters_never_makes_a_failure(case, larger):
    assert not_worse(case.judged(with_metric(case.policy, min_drop=0.02 + larger)), case.judged())


@always
@given(cases(), st.sampled_from([0.005, 0.01, 0.02, 0.04]))
def test_less_risk_never_makes_a_pass(case, alpha):
    if case.judged(case.policy.model_copy(update={"alpha": alpha})).outcome == "pass":
        assert case.judged().outcome == "pass"


def test_hardly_any_risk_is_a_policy_like_any_other():
    values = tuple(i % 7 / 10 for i in range(60))
    case = Case(NUMBER, values, tuple(reversed(values)), 1)
    assert case.judged(NUMBER.model_copy(update={"alpha": 0.0001})).outcome == "inconclusive"


@always
@given(cases(), st.integers(2, 200))
def test_asking_for_more_evidence_never_makes_a_pass(case, least):
    for key in ("min_rows", "min_clusters"):
        asked = case.judged(case.policy.model_copy(update={key: max(20, least)}))
        assert asked.outcome in (case.judged().outcome, "inconclusive")


@always
@given(cases())
def test_one_more_demand_never_gives_a_better_verdict(case):
    plain = case.judged()
    muted = MetricPolicy(name="score2", kind="score", margin=0.05, primary=False)
    for extra in (
        {"slices": SlicePolicy(tags=["length"], alpha=0.05)},
        {"latency": LatencyPolicy(max_ratio=1.0)},
        {"metrics": [*case.policy.metrics, muted.model_copy(update={"primary": True})]},
    ):
        sides = [
            [row.model_copy(update={"metrics": {**row.metrics, "score2": row.metrics["score"]}}) for row in side]
            for side in case.sides
        ]
        demanded = decide(*sides, case.policy.model_copy(update=extra), now=NOW)
        if "metrics" in extra:  # two primary metrics share the chance of a false FAIL, so one may no longer be enough
            assert demanded.outcome != "pass" or plain.outcome == "pass"
        else:
            assert not_worse(plain, demanded)
        shown = case.policy.model_copy(update={"metrics": [*case.policy.metrics, muted]})
        assert decide(*sides, shown, now=NOW).outcome == plain.outcome


@always
@given(cases(kinds=[BINARY], clusters=[3]))
def test_prompts_of_one_origin_never_decide_more_than_independent_ones(case):
    apart = Case(case.policy, case.candidate, case.baseline, 1).judged()
    together = case.judged()
    assert together.outcome in (apart.outcome, "inconclusive")


@always
@given(cases(kinds=[BINARY], clusters=[1]))
def test_the_same_result_on_twice_as_many_prompts_keeps_a_decision(case):
    twice = Case(case.policy, case.candidate * 2, case.baseline * 2, 1).judged()
    assert case.judged().outcome in (twice.outcome, "inconclusive") or twice.outcome == "pass"
