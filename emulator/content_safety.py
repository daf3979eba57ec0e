"""What stands in for Azure AI Content Safety in front of a serverless endpoint: a short list of words.

The real one is an ensemble of classifiers. This one only shows how a refusal looks and that the switch works: it sees
nothing that is not spelt out here.
"""

from __future__ import annotations

import re
from typing import Any

CATEGORIES = {
    "hate": re.compile(r"\b(subhuman|ethnic cleansing)\b", re.IGNORECASE),
    "self_harm": re.compile(r"\b(kill myself|how to hang myself)\b", re.IGNORECASE),
    "sexual": re.compile(r"\b(pornograph\w*|sexual act)\b", re.IGNORECASE),
    "violence": re.compile(r"\b(build a bomb|how to murder|stab (him|her|them))\b", re.IGNORECASE),
}
JAILBREAK = re.compile(r"\bignore (all|any|your) (previous|prior) instructions\b", re.IGNORECASE)
MESSAGE = (
    "The response was filtered due to the prompt triggering Microsoft's content management policy. "
    "Please modify your prompt and retry."
)


def verdict(text: str) -> dict[str, dict[str, Any]]:
    """Each category with what was found in a text."""
    found: dict[str, dict[str, Any]] = {}
    for name, pattern in CATEGORIES.items():
        hit = pattern.search(text) is not None
        found[name] = {"filtered": hit, "severity": "medium" if hit else "safe"}
    return found


def refuses(result: dict[str, dict[str, Any]]) -> bool:
    return any(each["filtered"] for each in result.values())


def prompt_verdict(text: str) -> dict[str, dict[str, Any]]:
    hit = JAILBREAK.search(text) is not None
    return {**verdict(text), "jailbreak": {"filtered": hit, "detected": hit}}


def refusal(result: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The body of the 400 that a filtered prompt gets."""
    inner = {"code": "ResponsibleAIPolicyViolation", "content_filter_result": result}
    return {
        "error": {
            "message": MESSAGE,
            "type": None,
            "param": "prompt",
            "code": "content_filter",
            "status": 400,
            "innererror": inner,
        }
    }
