"""The gate's statistics against values that others published and against scipy and statsmodels, where they have one."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as scipy_stats
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

from eval.stats import Sample, bootstrap_t, cluster_variance, harm_p_value, holm, tango_interval, wilson_interval

always = settings(deadline=None, max_examples=100, derandomize=True, database=None)
counts = st.tuples(st.integers(0, 60), st.integers(0, 60), st.integers(0, 300)).filter(lambda table: sum(table) > 1)

TANGO = {
    "Tango 1998, Table V: 43 pairs agree, one lost; 90 %": (0, 1, 44, 0.05, 3, -0.096, 0.037),
    "Tango 1998, Table VII: 9 against 3 of 32 pairs; 95 %": (9, 3, 32, 0.025, 3, -0.027, 0.390),
    "Fagerland, Lydersen & Laake 2014, airway reactivity (Bentur 2009)": (1, 7, 21, 0.025, 3, -0.517, -0.026),
    "Fagerland, Lydersen & Laake 2017, ch. 8, complete response (Cavo 2012)": (6, 16, 161, 0.025, 4, -0.1240, -0.0054),
    "contingencytables 3.0 (R) for the book's ch. 8: 3 of 3 gained": (3, 0, 3, 0.025, 4, -0.1230, 1.0),
    "the same, 3 of 3 lost": (0, 3, 3, 0.025, 4, -1.0, 0.1230),
    "Chang et al. 2024, J. Appl. Statistics 51: 25 against 2 of 102 pairs": (25, 2, 102, 0.025, 3, 0.139, 0.321),
}


@pytest.mark.parametrize("source", TANGO)
def test_tango_gives_the_published_limits(source):
    gained, lost, n, alpha, digits, low, high = TANGO[source]
    assert [round(end, digits) for end in tango_interval(gained, lost, n, alpha)] == [low, high]


def quartic(gained: int, lost: int, n: int, alpha: float) -> list[float]:
    """Tango's limits as roots of a polynomial: Yang, Sun & Hardin, Statistics in Medicine 32 (2013) 1336-1342."""
    g, difference, both = scipy_stats.norm.ppf(1 - alpha) ** 2, gained - lost, gained + lost
    polynomial = [
        n**2 * (n / g + 1) ** 2,
        -n * difference * (n / g + 1) * (4 * n / g + 1),
        2 * n * difference**2 * (3 * n / g + 2) / g - n**2 * (both / g + 1),
        n * difference * (2 * both / g + 1) - difference**3 * (4 * n / g + 1) / g,
        difference**2 * (difference**2 / g - both) / g,
    ]
    real = [root.real for root in np.roots(polynomial) if abs(root.imag) < 1e-6]
    return [min(real), max(real)]


@always
@given(counts, st.sampled_from([0.005, 0.025, 0.05, 0.1]))
def test_tango_solves_its_closed_form(table, alpha):
    gained, lost, tied = table
    n = gained + lost + tied
    if max(gained, lost) < n:  # at ±1 the interval ends at the bound, not at a root
        assert tango_interval(gained, lost, n, alpha) == pytest.approx(quartic(gained, lost, n, alpha), abs=2e-6)


@always
@given(counts)
def test_tango_leaves_zero_out_exactly_when_mcnemar_rejects(table):
    """At no difference the score statistic is McNemar's, so interval and test agree (statsmodels, no correction)."""
    gained, lost, tied = table
    low, high = tango_interval(gained, lost, gained + lost + tied, 0.025)
    p = 1.0 if gained + lost == 0 else mcnemar([[tied, gained], [lost, 0]], exact=False, correction=False).pvalue
    if abs(p - 0.05) > 1e-9:
        assert (low > 0 or high < 0) == (p < 0.05)


WILSON = {(81, 263): (0.2553, 0.3662), (15, 148): (0.0624, 0.1605), (0, 20): (0.0, 0.1611), (1, 29): (0.0061, 0.1718)}


@pytest.mark.parametrize("table", WILSON)
def test_wilson_gives_the_published_limits(table):
    """Newcombe, Statistics in Medicine 17 (1998) 857-872, Table I, method 3; 95 %."""
    assert [round(end, 4) for end in wilson_interval(*table, 0.025)] == list(WILSON[table])


@always
@given(st.integers(0, 80), st.integers(1, 80), st.sampled_from([0.005, 0.025, 0.05]))
def test_wilson_agrees_with_statsmodels(good, bad, alpha):
    theirs = proportion_confint(good, good + bad, alpha=2 * alpha, method="wilson")
    assert wilson_interval(good, good + bad, alpha) == pytest.approx(theirs, abs=1e-9)


@pytest.mark.parametrize("seed", range(8))
def test_holm_agrees_with_statsmodels(seed):
    p_values = np.random.default_rng(seed).beta(0.2, 4, size=1 + 2 * seed)
    assert holm(list(p_values), 0.05) == list(multipletests(p_values, 0.05, method="holm")[0])


@always
@given(st.integers(0, 60), st.integers(0, 60))
def test_the_harm_test_agrees_with_scipy_and_statsmodels(better, worse):
    if better + worse:
        ours = harm_p_value(Sample.of([1.0] * better + [-1.0] * worse + [0.0] * 9, range(better + worse + 9)))
        assert ours == pytest.approx(scipy_stats.binomtest(worse, better + worse, alternative="greater").pvalue)
        if worse > better:
            assert 2 * ours == pytest.approx(mcnemar([[0, better], [worse, 0]], exact=True).pvalue)


@pytest.mark.parametrize("size", [1, 4])
def test_the_clustered_error_is_statsmodels_cluster_robust_one(size):
    from statsmodels.regression.linear_model import OLS

    rng = np.random.default_rng(3)
    values = (rng.normal(0, 1, (50, size)) + rng.normal(0, 1, (50, 1))).ravel()
    names = np.repeat(np.arange(50), size)
    fit = OLS(values, np.ones((len(values), 1))).fit(
        cov_type="cluster", cov_kwds={"groups": names, "use_correction": False}
    )
    assert cluster_variance(Sample(values, names)) == pytest.approx(50 / 49 * fit.bse[0] ** 2)


def test_the_bootstrap_t_agrees_with_its_textbook():
    """Exponential data, n = 60: the skewed interval of Hall's expansion, within a tenth of its width."""
    values = np.random.default_rng(12).exponential(1, 60)
    error, skew, z = values.std(ddof=1) / math.sqrt(60), scipy_stats.skew(values), scipy_stats.norm.ppf(0.95)
    shift = skew * (2 * z**2 + 1) / 6 / math.sqrt(60)
    expected = values.mean() - error * (z - shift), values.mean() + error * (z + shift)
    ends = bootstrap_t(Sample(values, np.arange(60)), 0.05, 0)
    assert ends == pytest.approx(expected, abs=0.1 * (expected[1] - expected[0]))
