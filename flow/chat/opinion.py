"""Sends somebody's opinion of an earlier answer to the endpoint that gave it."""

import httpx
from asking.calling import headers_for, http, timeout
from asking.result import NoAnswer
from asking.settings import endpoint
from asking.statuses import error


def rate(identity: str, rating: str, deployment: str) -> str:
    """Returns "" or, in a sentence, why the opinion was not taken. Blocks while the endpoint is asked."""
    body = {"feedback": {"id": identity, "rating": rating}}
    try:
        where = endpoint(deployment=deployment)
        response = http().post(where.uri, json=body, headers=headers_for(where), timeout=timeout(where))
    except (NoAnswer, httpx.HTTPError, ValueError) as problem:
        return f"The opinion did not reach the endpoint: {problem}."
    if response.status_code == httpx.codes.OK:
        return ""
    said = " ".join(str(error(response.text).get("message", "")).split())[:200]
    return said or f"The endpoint answered {response.status_code} to an opinion."
