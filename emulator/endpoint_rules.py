"""What the service refuses or changes about traffic, names, and settings. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

import isodate

from emulator.errors import ArmError

ENDPOINT_NAME = re.compile(r"[a-z][a-z0-9-]{1,30}[a-z0-9]", re.IGNORECASE)
DEPLOYMENT_NAME = re.compile(r"[a-z][a-z0-9-]{1,30}[a-z0-9]", re.IGNORECASE)
AUTH_MODES = {"key": "Key", "amltoken": "AMLToken", "aadtoken": "AADToken"}
MAX_MIRROR = 50
MAX_REQUEST_SECONDS = 180.0
PROBE = {"failureThreshold": 30, "successThreshold": 1, "timeout": "PT2S", "period": "PT10S", "initialDelay": "PT10S"}
REQUESTS = {"requestTimeout": "PT5S", "maxConcurrentRequestsPerInstance": 1, "maxQueueWait": "PT0.5S"}


def check_name(name: str, pattern: re.Pattern[str], what: str) -> None:
    if not pattern.fullmatch(name):
        rule = "3 to 32 letters, digits and dashes, beginning with a letter and not ending with a dash"
        raise ArmError(400, "BadArgument", f"{what} name '{name}' is invalid: it must be {rule}.")


def weights(given: Mapping[str, Any] | None, known: Collection[str], what: str) -> dict[str, int]:
    """Weights as the service keeps them: names in lower case, zeros dropped. `known` are deployments, lower case.

    ArmError 400 for an unknown deployment or a weight that is not a whole number from 0 to 100.
    """
    kept: dict[str, int] = {}
    for name, weight in (given or {}).items():
        if name.lower() not in known:
            raise ArmError(400, "BadArgument", f"The {what} names deployment '{name}', which this endpoint lacks.")
        if isinstance(weight, bool) or not isinstance(weight, int) or not 0 <= weight <= 100:
            raise ArmError(400, "BadArgument", f"The {what} of '{name}' is {weight}: it must be a whole number, 0-100.")
        if weight:
            kept[name.lower()] = weight
    return kept


def check_traffic(traffic: Mapping[str, int], mirror: Mapping[str, int]) -> None:
    """ArmError 400 unless live traffic sums to 0 or 100 and at most one deployment, not live, is mirrored up to 50%."""
    total = sum(traffic.values())
    if total not in (0, 100):
        raise ArmError(400, "BadArgument", f"The traffic weights sum to {total}: the sum must be 0 or 100.")
    if len(mirror) > 1:
        raise ArmError(400, "BadArgument", f"Only one deployment can be mirrored, not {', '.join(sorted(mirror))}.")
    for name, weight in mirror.items():
        if weight > MAX_MIRROR:
            raise ArmError(400, "BadArgument", f"Mirror traffic of '{name}' is {weight}%: at most {MAX_MIRROR}%.")
        if name in traffic:
            raise ArmError(400, "BadArgument", f"Deployment '{name}' cannot take live and mirror traffic at once.")


def auth_mode(given: Any) -> str:
    """The mode as the service spells it (Key, AMLToken, AADToken)."""
    found = AUTH_MODES.get(str(given or "Key").lower().replace("_", ""))
    if found is None:
        raise ArmError(400, "BadArgument", f"Auth mode '{given}' is unknown; use key, aml_token or aad_token.")
    return found


def seconds(duration: Any, what: str) -> float:
    """Seconds of an ISO 8601 duration such as PT1M30S."""
    try:
        return float(isodate.parse_duration(str(duration)).total_seconds())
    except (isodate.ISO8601Error, AttributeError, TypeError) as error:
        raise ArmError(400, "BadArgument", f"{what} '{duration}' is not an ISO 8601 duration such as PT5S.") from error


def _filled(given: Mapping[str, Any] | None, defaults: Mapping[str, Any]) -> dict[str, Any]:
    return {**defaults, **{key: value for key, value in (given or {}).items() if value is not None}}


def deployment_properties(given: Mapping[str, Any]) -> dict[str, Any]:
    """A deployment's properties with the service's defaults for what was not sent. ArmError 400 when invalid."""
    sent = {key: value for key, value in given.items() if value is not None}
    if not sent.get("instanceType"):
        raise ArmError(400, "BadArgument", "The deployment has no instanceType.")
    requests = _filled(sent.get("requestSettings"), REQUESTS)
    limit = seconds(requests["requestTimeout"], "requestTimeout")
    if not 0 < limit <= MAX_REQUEST_SECONDS:
        message = f"requestTimeout is {limit:g} s: it must be over 0 and at most {MAX_REQUEST_SECONDS:g} s."
        raise ArmError(400, "BadArgument", message)
    if int(requests["maxConcurrentRequestsPerInstance"]) < 1:
        raise ArmError(400, "BadArgument", "maxConcurrentRequestsPerInstance must be at least 1.")
    return {
        "scaleSettings": {"scaleType": "Default"},
        "appInsightsEnabled": False,
        "egressPublicNetworkAccess": "Enabled",
        "endpointComputeType": "Managed",
        "environmentVariables": {},
        "properties": {},
        **sent,
        "requestSettings": requests,
        "livenessProbe": _filled(sent.get("livenessProbe"), PROBE),
        "readinessProbe": _filled(sent.get("readinessProbe"), PROBE),
    }
