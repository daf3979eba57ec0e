"""Where and how to ask, from the environment: the same for an application, prompt flow and an evaluation.

| variable | meaning |
| --- | --- |
| ENDPOINT_SCORING_URI | where to post; required |
| ENDPOINT_DEPLOYMENT | ask this deployment whatever the traffic says; optional |
| ENDPOINT_KEY | for an endpoint that knows keys alone, such as a serverless one; for one process, never in a file |
| ENDPOINT_SHAPE | of the requests: openai, or code-first, foundry, ml-sdk for an endpoint of the samples (openai) |
| ENDPOINT_TIMEOUT | seconds without a byte of the reply after which a try is given up (120) |
| FLOW_TRACING | on: OpenTelemetry spans without texts (tracing.py); off |
| CONTENT_FILTER, … | what the guards do: screen.py |
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass

from .shapes import SHAPES

TIMEOUT = 120.0  # seconds; a busy endpoint may queue a request for a minute


@dataclass(frozen=True)
class Endpoint:
    """`key`: of a prompt flow connection or ENDPOINT_KEY, for an endpoint with key sign-in; without, Entra signs in."""

    uri: str
    deployment: str = ""
    timeout: float = TIMEOUT
    key: str = ""
    shape: str = "openai"


def endpoint(uri: str = "", deployment: str = "", key: str = "", environ: Mapping[str, str] | None = None) -> Endpoint:
    """What is given, else what the environment says. Raises ValueError with one sentence."""
    environ = os.environ if environ is None else environ
    where = (uri or environ.get("ENDPOINT_SCORING_URI", "")).strip()
    if not where:
        raise ValueError("ENDPOINT_SCORING_URI is not set: give the endpoint's scoring URI.")
    if not where.startswith(("https://", "http://")):
        raise ValueError(f"ENDPOINT_SCORING_URI must be an http(s) address, not {where[:80]!r}.")
    shape = environ.get("ENDPOINT_SHAPE", "").strip() or "openai"
    if shape not in SHAPES:
        raise ValueError(f"ENDPOINT_SHAPE must be one of {', '.join(SHAPES)}, not {shape[:40]!r}.")
    return Endpoint(
        where,
        deployment or environ.get("ENDPOINT_DEPLOYMENT", ""),
        _timeout(environ),
        key or environ.get("ENDPOINT_KEY", ""),
        shape,
    )


def _timeout(environ: Mapping[str, str]) -> float:
    text = environ.get("ENDPOINT_TIMEOUT", "").strip()
    try:
        seconds = float(text) if text else TIMEOUT
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= 3600:  # NaN fails it too
        raise ValueError(f"ENDPOINT_TIMEOUT must be a number of seconds from above 0 to 3600, not {text[:40]!r}.")
    return seconds
