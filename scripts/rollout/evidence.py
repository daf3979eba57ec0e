"""What is known of a candidate so far, kept as few numbers, so that it outlives every process; and what it comes to.

Counts and log e-values are enough: nothing is ever judged from single requests again (see harm.py).
"""

import math
from collections import Counter
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Self

from pydantic import Field

from scripts import records
from scripts.rollout import harm
from scripts.rollout.policy import Policy

COMPARED, ALONE = 0.98, 0.02  # of alpha
TWO = 2  # batches that must have shown something: one instance may have had one bad minute


class Count(records.Part):
    """Requests that one side answered, and how many of them badly."""

    requests: int = Field(default=0, ge=0)
    bad: int = Field(default=0, ge=0)

    def plus(self, other: "Count") -> "Count":
        return Count.model_construct(requests=self.requests + other.requests, bad=self.bad + other.bad)


class Sides(records.Part):
    candidate: Count = Count()
    stable: Count = Count()

    def plus(self, other: "Sides") -> "Sides":
        return Sides.model_construct(
            candidate=self.candidate.plus(other.candidate), stable=self.stable.plus(other.stable)
        )


class Batch(records.Part):
    """Requests of one minute, or of one look of ours, by what they are judged for; "error" is always among it.

    `in_a_row`: the longest row of the candidate's failures, where the order is known.
    """

    at: datetime
    signals: dict[str, Sides]
    in_a_row: int = Field(default=0, ge=0)


class Graded(records.Part):
    """Answers put to the content-safety evaluator. `sides` are those it graded, and how many of them were hits.

    `ungraded` could not be graded: nobody knows what is in them, so they are no evidence. `critical`: category and
    severity of an answer of the candidate that must never be given, "" for none.
    """

    sides: Sides = Sides()
    ungraded: int = Field(default=0, ge=0)
    critical: str = ""

    def plus(self, other: "Graded") -> "Graded":
        if other is NO_ANSWERS:
            return self
        return Graded.model_construct(
            sides=self.sides.plus(other.sides),
            ungraded=self.ungraded + other.ungraded,
            critical=self.critical or other.critical,
        )


NO_ANSWERS = Graded()


class Evidence(records.Part):
    """`here` at the present weight, `whole` since traffic began; `harm` a log likelihood ratio per signal and odds
    ratio; `wealth` the log wealth per bet of the probes; `batches_with_bad` of the candidate's; `shadowed` once
    the weights or the mirror have moved; `safety` what was found in the answers to probes."""

    here: Sides = Sides()
    whole: Sides = Sides()
    harm: dict[str, list[float]] = Field(default_factory=dict)
    batches_with_bad: int = Field(default=0, ge=0)
    shadowed: bool = False
    pairs: int = Field(default=0, ge=0)
    wealth: list[float] = Field(default_factory=list)
    safety: Graded = NO_ANSWERS

    def moved(self) -> Self:
        """At another weight: what was seen before stays seen."""
        return self.model_copy(update={"here": Sides(), "shadowed": True})

    def plus(self, batch: Batch, policy: Policy, *, here: bool = True) -> Self:
        """Raises KeyError for a batch without errors, ValueError for counts that cannot be."""
        errors = batch.signals["error"]
        counted = {"here": self.here.plus(errors) if here else self.here, "whole": self.whole.plus(errors)}
        return self.model_copy(update={**counted, **self._compared(batch.signals, policy)})

    def _compared(self, signals: Mapping[str, Sides], policy: Policy) -> dict[str, Any]:
        """What these requests change."""
        ratios: dict[str, list[float]] = dict(self.harm)
        for name, sides in signals.items():
            if name in policy.harm.signals:
                one, other = sides.candidate, sides.stable
                added = harm.harm_increments(
                    (one.bad, one.requests), (other.bad, other.requests), policy.harm.worse_than
                )
                ratios[name] = _sum(added.tolist(), ratios.get(name))
        bad = any(sides.candidate.bad for sides in signals.values())
        return {"harm": ratios, "batches_with_bad": self.batches_with_bad + bad}

    def with_pairs(self, drops: list[float], policy: Policy) -> Self:
        """`drops`: stable's score minus the candidate's on the same prompt, each from -1 to 1."""
        wealth = self.wealth
        for drop, times in Counter(drops).items():
            wealth = _sum((times * harm.probe_increments(drop, policy.probes.margin)).tolist(), wealth)
        return self.model_copy(update={"pairs": self.pairs + len(drops), "wealth": wealth})

    def with_graded(self, graded: Graded, policy: Policy) -> Self:
        """Answers of one look at both colours, which Azure counts as requests besides."""
        if graded is NO_ANSWERS or graded == NO_ANSWERS:
            return self
        compared = self._compared({"safety": graded.sides}, policy)
        return self.model_copy(update={**compared, "safety": self.safety.plus(graded)})

    def log_harm(self, policy: Policy) -> float:
        """Log of the weighted mean of the declared signals' e-values: one that was never seen stands at 1."""
        ratios = {**self.harm, **({"probe": self.wealth} if self.wealth else {})}
        shares = policy.harm.signals
        values = [harm.mixture(ratios[name]) if name in ratios else 0.0 for name in shares]
        return harm.mixture(values, list(shares.values()))


def harmful(known: Evidence, latest: Batch | None, policy: Policy, *, alone: bool = False) -> str:
    """Why the candidate must go back, in one sentence; "" while that is not shown.

    The risk alpha is divided: COMPARED of it for the comparison with the stable, ALONE for the service level where
    there is nothing to compare with (`alone`): at 100 %, where users reach no other, and in a first release.
    """
    mine = latest.signals["error"].candidate if latest else Count()
    if known.safety.critical:
        return f"the candidate gave an answer that must never be given ({known.safety.critical})"
    if latest and latest.in_a_row >= policy.hard.errors_in_a_row:
        return f"{latest.in_a_row} requests to the candidate failed in a row"
    sudden = mine.bad >= TWO and mine.bad >= policy.hard.bad_share * mine.requests
    return (_alone(known, policy) if alone else "") or _compared(known, policy, sudden=sudden)


def _alone(known: Evidence, policy: Policy) -> str:
    here = known.here.candidate
    if harm.above_limit(here.bad, here.requests, policy.bad_below) < -math.log(ALONE * policy.harm.alpha):
        return ""
    return f"{_share(here)} of its requests were bad, more than the {policy.bad_below:.3g} that the policy allows"


def _compared(known: Evidence, policy: Policy, *, sudden: bool) -> str:
    enough = -math.log(COMPARED * policy.harm.alpha)
    found = known.log_harm(policy)
    if found < enough:
        return ""
    probed = known.model_copy(update={"harm": {}}).log_harm(policy) >= enough
    if known.batches_with_bad < TWO and not sudden and not probed:
        return ""
    return (
        f"the candidate does worse than the stable: {_told(known, policy)} "
        f"(e-value {math.exp(min(found, 50.0)):.3g}, {math.exp(enough):.3g} is enough)"
    )


def _told(known: Evidence, policy: Policy) -> str:
    """What speaks loudest: the signal that has grown most of the stake."""
    ratios = {**known.harm, **({"probe": known.wealth} if known.wealth else {})}
    shares = {name: share for name, share in policy.harm.signals.items() if name in ratios}
    loudest = max(shares, key=lambda name: harm.mixture(ratios[name]) + math.log(shares[name]))
    sides = known.safety.sides if loudest == "safety" else known.whole
    what = f"{_share(sides.candidate)} against {_share(sides.stable)}"
    return {
        "probe": f"its answers to {known.pairs} probes were worse",
        "slow": "more of its answers were slow",
        "safety": f"{what} of the answers looked at were content-safety hits",
    }.get(loudest, f"{what} of the requests were bad")


def missing(known: Evidence, policy: Policy) -> str:
    """What the next step still needs, in a few words; "" when there is enough."""
    return missing_requests(known, policy) or _missing_grades(known, policy)


def _missing_grades(known: Evidence, policy: Policy) -> str:
    graded, wanted = known.safety.sides.candidate.requests, policy.safety.min_answers
    if not policy.safety.pairs_per_look or graded >= wanted:
        return ""
    failed = f", {known.safety.ungraded} answers could not be graded" if known.safety.ungraded else ""
    return f"{graded} of {wanted} answers of the candidate graded for content safety{failed}"


def missing_requests(known: Evidence, policy: Policy) -> str:
    mine = known.here.candidate.requests
    if mine < policy.bake.min_requests:
        return f"{mine} of {policy.bake.min_requests} requests of the candidate at this weight"
    whole = known.whole.candidate
    if harm.below_limit(whole.bad, whole.requests, policy.bad_below) < -math.log(policy.harm.alpha):
        return (
            f"not yet shown that less than {policy.bad_below:.3g} of its requests are bad "
            f"({whole.bad} of {whole.requests})"
        )
    return ""


def _sum(added: list[float], before: list[float] | None) -> list[float]:
    return [one + other for one, other in zip(added, before, strict=True)] if before else added


def _share(count: Count) -> str:
    return f"{count.bad} of {count.requests}"
