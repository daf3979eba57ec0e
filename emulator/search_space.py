"""What a sweep tries: values drawn from its search space as it comes on the wire. Pure, and the same for a name.

The distributions and their arguments: https://learn.microsoft.com/azure/machine-learning/how-to-tune-hyperparameters
"""

from __future__ import annotations

import itertools
import json
import math
import random
import re
from collections.abc import Callable, Mapping
from typing import Any

from emulator.errors import ArmError

REFERENCE = re.compile(r"\$\{\{\s*search_space\.([A-Za-z_]\w*)\s*\}\}")
Draw = Callable[..., Any]
PLAIN: dict[str, Draw] = {
    "choice": lambda dice, options: dice.choice(options),
    "randint": lambda dice, upper: dice.randrange(int(upper)),
    "uniform": lambda dice, low, high: dice.uniform(low, high),
    "loguniform": lambda dice, low, high: math.exp(dice.uniform(low, high)),
    "normal": lambda dice, mu, sigma: dice.normalvariate(mu, sigma),
    "lognormal": lambda dice, mu, sigma: math.exp(dice.normalvariate(mu, sigma)),
}
SAMPLINGS = ("random", "grid")


def _in_steps(draw: Draw) -> Draw:
    """The distribution in whole multiples of its last argument."""
    return lambda dice, *arguments: round(draw(dice, *arguments[:-1]) / arguments[-1]) * arguments[-1]


DRAWS = PLAIN | {f"q{name}": _in_steps(PLAIN[name]) for name in ("uniform", "loguniform", "normal", "lognormal")}
Space = Mapping[str, list[Any]]


def check(command: str, space: Space, sampling: str) -> None:
    """ArmError 400 for a space that cannot be drawn from, or that the command does not go with."""
    if sampling.lower() not in SAMPLINGS:
        raise ArmError(400, "NotSupported", f"The local Azure ML samples at random or by grid, not {sampling}.")
    unknown = sorted({str(kind) for kind, _ in space.values()} - DRAWS.keys())
    if unknown or not space:
        raise ArmError(400, "UserError", f"The search space has no distribution {', '.join(unknown) or 'at all'}.")
    if sampling.lower() == "grid" and any(kind != "choice" for kind, _ in space.values()):
        raise ArmError(400, "UserError", "Grid sampling only takes choices.")
    if missing := sorted(set(REFERENCE.findall(command)) - space.keys()):
        names = ", ".join(f"search_space.{name}" for name in missing)
        raise ArmError(400, "UserError", f"The command refers to {names}, which this job does not have.")


def trials(name: str, space: Space, sampling: str, most: int) -> list[dict[str, Any]]:
    """At most `most` sets of values for the sweep `name`."""
    if sampling.lower() == "grid":
        grid = itertools.product(*(arguments[0] for _, arguments in space.values()))
        return [dict(zip(space, values, strict=True)) for values in itertools.islice(grid, most)]
    dice = random.Random(name)  # noqa: S311 (nothing secret: the same search shall give the same trials)
    return [{key: DRAWS[kind](dice, *arguments) for key, (kind, arguments) in space.items()} for _ in range(most)]


def filled(command: str, values: Mapping[str, Any]) -> str:
    """The command of one trial."""
    return REFERENCE.sub(lambda found: _text(values[found[1]]), command)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
