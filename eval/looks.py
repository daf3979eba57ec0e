"""Looking twice at the same candidate, and paying for it.

Whoever adds prompts to an inconclusive comparison and judges again has two chances to be lucky. With `looks: 2` both
looks together err at most alpha: each is judged at a smaller level of its own (Pocock, Biometrika 64 (1977) 191-199).
"""

from functools import lru_cache

from scipy import special

PLANNED = 0.5  # of the second look's prompts, how many the first has seen; what the first level is chosen for


@lru_cache(maxsize=256)
def union(first: float, second: float, correlation: float) -> float:
    """P(Z1 > first or Z2 > second) of two standard normal variables."""
    # Here, as few ever look twice: importing it takes as long as the rest of the gate.
    from scipy.stats import multivariate_normal

    covariance = [[1.0, correlation], [correlation, 1.0]]
    both_below = multivariate_normal.cdf([first, second], cov=covariance, allow_singular=True)
    return float(1 - both_below)


@lru_cache(maxsize=256)
def first_alpha(alpha: float, looks: int) -> float:
    """The level of the first look: alpha when it is the only one, else Pocock's for two looks (0.0304 for 0.05)."""
    if looks == 1:
        return alpha
    from scipy.optimize import brentq

    bound = brentq(lambda z: union(z, z, PLANNED**0.5) - alpha, 0.5, 6.0, xtol=1e-10)
    return float(special.ndtr(-bound))


@lru_cache(maxsize=256)
def second_alpha(alpha: float, seen: int, now: int, shared: int) -> float:
    """The level that is left for a second look on `now` prompts after a first one on `seen`, `shared` of them the same.

    The two comparisons correlate as their means do, at most as planned (answers may differ from one time to the next);
    fewer shared prompts leave less, none at all the least.
    """
    from scipy.optimize import brentq

    first = float(-special.ndtri(first_alpha(alpha, 2)))
    correlation = min(shared / (seen * now) ** 0.5, PLANNED**0.5) if seen and now else 0.0
    bound = brentq(lambda z: union(first, z, correlation) - alpha, 0.5, 8.0, xtol=1e-10)
    return float(special.ndtr(-bound))
