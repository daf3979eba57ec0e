"""What an HTTP status of the endpoint means: whose fault it is, and whether asking again may help."""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any

from .result import Status

# Behind Azure's gateway a failure of the model's container arrives as 424, with the container's own status in here.
MODEL_STATUS = "ms-azureml-model-error-statuscode"
BEHIND = 424
FILTERED = "content_filter"  # OpenAI's and Azure OpenAI's code of a refused prompt, and finish reason of an answer


@dataclass(frozen=True)
class Meaning:
    status: Status
    retry: bool = False


FAULT, NOT_NOW, NEVER = Meaning("model_error"), Meaning("infra_error", retry=True), Meaning("infra_error")
# A status that is not here means NEVER: nothing is known of it, so it speaks neither for nor against the model.
MEANINGS: dict[int, Meaning] = {
    400: FAULT,  # the model's server takes no such request
    401: NEVER,  # not signed in
    403: NEVER,  # signed in without the role
    404: NEVER,  # no such endpoint
    408: NOT_NOW,
    413: FAULT,  # the prompt is longer than the model reads
    422: FAULT,
    429: NOT_NOW,  # too many at once; says when to come again
    502: NOT_NOW,
    503: NOT_NOW,
    504: NOT_NOW,
}
# The container's own status behind a 424. All others are the model's: it failed, or took too long.
INSIDE: dict[int, Meaning] = {429: NOT_NOW, 503: NOT_NOW}


def meaning(status: int, headers: Mapping[str, str], text: str) -> Meaning:
    """Of a reply that is not 200. `text` is its body."""
    inner = _whole(headers.get(MODEL_STATUS, "")) if status == BEHIND else status
    if inner == 400 and error_code(text) == FILTERED:
        return Meaning("blocked")
    return INSIDE.get(inner, FAULT) if status == BEHIND else MEANINGS.get(status, NEVER)


def of_code(code: Any) -> Meaning:
    """Of an error inside a stream, where the status 200 is long said and the body has a code: OpenAI's or a number."""
    if code == FILTERED:
        return Meaning("blocked")
    return MEANINGS.get(_whole(code), FAULT)


def error(text: str) -> dict[str, Any]:
    """OpenAI's `error` object in a body, {} where there is none."""
    try:
        found = json.loads(text)["error"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def error_code(text: str) -> Any:
    return error(text).get("code")


def why_blocked(text: str) -> str:
    """Which kind of content was refused, as half a sentence and never with the text itself."""
    inner = error(text).get("innererror")
    told = [inner.get("kind"), inner.get("category")] if isinstance(inner, dict) else []
    kinds = ", ".join(str(each)[:40] for each in told if isinstance(each, str) and each)
    return "the endpoint's content filter refused the prompt" + (f" ({kinds})" if kinds else "")


def wait_asked(headers: Mapping[str, str]) -> float:
    """Seconds of `Retry-After`, which is a number or a date; 0 where it says nothing."""
    text = headers.get("retry-after", "")
    try:
        return max(0.0, float(text))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, TypeError):
        return 0.0


def _whole(value: Any) -> int:
    try:
        return int(value)
    except (ValueError, TypeError):
        return 0
