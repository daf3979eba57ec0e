"""The gate's error rates counted out over every possible table: yes/no answers, one prompt per cluster, one metric.

No simulation, so no simulation error. The borders are found by asking the interval that the gate itself uses.
"""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from eval.stats import tango_interval

MARGIN, MIN_DROP = 0.05, 0.02


def passes(gained: int, lost: int, n: int) -> bool:
    return tango_interval(gained, lost, n)[0] > -MARGIN


def fails(gained: int, lost: int, n: int) -> bool:
    low, high = tango_interval(gained, lost, n)
    return high < 0 and low <= -MARGIN and (lost - gained) / n > MIN_DROP + 1e-12


@lru_cache
def borders(n: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """For each number of gained prompts: how many lost ones still PASS, and from how many on the candidate FAILs.

    Both rise with what was gained, so one walk finds them.
    """
    still, from_on, last, first = [], [], -1, 0
    for gained in range(n + 1):
        while last < n - gained and passes(gained, last + 1, n):
            last += 1
        while first <= n - gained and not fails(gained, first, n):
            first += 1
        still.append(last)
        from_on.append(first)
    return np.array(still), np.array(from_on)


def rates(n: int, discordant: float, delta: float) -> tuple[float, float]:
    """P(PASS) and P(FAIL) of a candidate that is truly `delta` better, where that share of answers changes at all."""
    gain, loss = (discordant + delta) / 2, (discordant - delta) / 2
    still, from_on = borders(n)
    gained = np.arange(n + 1)
    mass = stats.binom.pmf(gained, n, gain)
    below = stats.binom.cdf([still, from_on - 1], n - gained, loss / (1 - gain))
    return float(mass @ below[0]), float(1 - mass @ below[1])
