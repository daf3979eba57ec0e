"""Small pieces every ARM resource has: timestamps, systemData, the answer with a resource in it."""

from __future__ import annotations

import datetime as dt
from typing import Any

from starlette.responses import JSONResponse

from emulator.routing import Call
from emulator.store import Resource, public

PROVIDER = "Microsoft.MachineLearningServices"
BUSY_STATES = frozenset({"Creating", "Updating", "Deleting"})


def utc_now() -> str:
    """Now, as the service writes it: 2026-11-21T11:13:29.123456Z."""
    return dt.datetime.now(dt.UTC).isoformat().replace("+00:00", "Z")


def system_data(call: Call, old: Resource | None = None) -> dict[str, Any]:
    """Who made the resource and who touched it last; creation is kept from `old`."""
    who, now = call.claims.get("appid", "local"), utc_now()
    touched = {"lastModifiedAt": now, "lastModifiedBy": who, "lastModifiedByType": "Application"}
    made = (old or {}).get("systemData") or {"createdAt": now, "createdBy": who, "createdByType": "Application"}
    return {**made, **touched}


def answer(resource: Resource, status: int = 200, headers: dict[str, str] | None = None) -> JSONResponse:
    return JSONResponse(public(resource), status, headers=headers)


def answer_list(resources: list[Resource]) -> JSONResponse:
    return JSONResponse({"value": [public(resource) for resource in resources]})
