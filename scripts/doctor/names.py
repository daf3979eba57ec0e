"""Do the settings load, and would Azure take their names? A bad name costs a failed provisioning otherwise."""

import re
from dataclasses import dataclass

from scripts.doctor.context import Context
from scripts.errors import InvalidInput
from scripts.settings import Settings


@dataclass(frozen=True)
class Rule:
    """Azure's rule for a kind of name, as a pattern and in words."""

    pattern: re.Pattern[str]
    words: str

    @classmethod
    def of(cls, pattern: str, words: str) -> "Rule":
        return cls(re.compile(pattern, re.ASCII), words)


ASSET = Rule.of(r"[A-Za-z0-9][\w.-]{0,254}", "letters, digits, . _ -, a letter or digit first, at most 255")
IDENTITY = Rule.of(r"[A-Za-z0-9][\w-]{2,127}", "3 to 128 letters, digits, _ and -")
RULES = {
    "resource_group": Rule.of(r"[-\w._()]{0,89}[-\w_()]", "1 to 90 letters, digits and . _ - ( ), no dot at the end"),
    "location": Rule.of(r"[a-z][a-z0-9]+", "a region as Azure writes it, for example eastus2"),
    "workspace": Rule.of(r"[A-Za-z0-9][\w-]{2,32}", "3 to 33 letters, digits, _ and -, a letter or digit first"),
    "endpoint": Rule.of(
        r"[A-Za-z][A-Za-z0-9-]{1,30}[A-Za-z0-9]", "3 to 32 letters, digits and -, a letter first, no - at the end"
    ),
    "endpoint_identity": IDENTITY,
    "training_identity": IDENTITY,
    "experiment": ASSET,
    "dataset": ASSET,
    "model": ASSET,
    "compute.name": Rule.of(r"[A-Za-z](?![A-Za-z0-9-]*-\d+$)[A-Za-z0-9-]{2,23}", "3 to 24 letters, digits and -"),
    "compute.size": Rule.of(r"Standard_[A-Z]+\d\w*", "a size as Azure writes it, for example Standard_NC24ads_A100_v4"),
    "serving.instance_type": Rule.of(r"Standard_[A-Z]+\d\w*", "a size as Azure writes it, for example Standard_E4s_v3"),
    "training_environment.name": ASSET,
    "serving_environment.name": ASSET,
}


def settings(context: Context) -> str:
    """Raises InvalidInput when they do not load."""
    return f"{context.config} describes workspace {context.settings.workspace}"


def check(context: Context) -> str:
    """Raises InvalidInput naming each setting that Azure would not take."""
    wrong = [
        f"{where} is {value!r}, but Azure takes {RULES[where].words}"
        for where, value in _values(context.settings)
        if not RULES[where].pattern.fullmatch(value)
    ]
    if wrong:
        raise InvalidInput(f"{context.config}: {'; '.join(wrong)}.")
    return f"{len(RULES)} names follow Azure's rules"


def _values(settings: Settings) -> list[tuple[str, str]]:
    found = []
    for where in RULES:
        value: object = settings
        for part in where.split("."):
            value = None if value is None else getattr(value, part)
        if value is not None:  # a tier whose server is Azure's own has no environment
            found.append((where, str(value)))
    return found
