"""Whole minutes of answered requests, made of what Azure counted: which codes are bad, what is no count. No I/O."""

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from scripts.errors import AzureFailed, InvalidInput

MINUTE = timedelta(minutes=1)
LAST_CODE = 599

# https://learn.microsoft.com/azure/machine-learning/how-to-troubleshoot-online-endpoints#http-status-codes
BAD: Mapping[int, str] = {
    0: "the connection ended before anybody got an answer",
    408: "the deployment took longer than its request timeout",
    424: "the model's container answered with anything but 200",
    429: "more requests at once than the deployment takes",
    **dict.fromkeys(range(500, LAST_CODE + 1), "the service, or the way to the container, failed"),
}


@dataclass(frozen=True)
class Minute:
    """What a deployment answered in one minute. `slow`, of the good and bad ones: None when nobody asked or knows."""

    at: datetime  # UTC, its start
    good: int
    bad: int
    slow: int | None = None


@dataclass(frozen=True)
class Count:
    """`requests` that were answered with one code in one minute."""

    deployment: str
    at: datetime
    code: int
    requests: int
    slow: int | None = None


def whole_minutes(since: datetime, until: datetime, delay: timedelta, now: datetime) -> tuple[datetime, datetime]:
    """`since` rounded up and `until` rounded down, never later than what Azure can have counted whole by `now`.

    The second is not after the first when there is no whole minute. Raises ValueError for times without a zone.
    """
    if since.tzinfo is None or until.tzinfo is None:
        raise ValueError("since and until must say their time zone")
    end = min(until, now - delay).astimezone(UTC).replace(second=0, microsecond=0)
    start = since.astimezone(UTC).replace(second=0, microsecond=0)
    return (start if start == since else start + MINUTE), end


def tally(counts: Iterable[Count], deployments: Sequence[str]) -> dict[str, list[Minute]]:
    """Minutes by deployment, oldest first. A minute without a single request is absent: nothing was seen in it.

    2xx is good and BAD is bad. The rest (a 4xx is the caller's fault, a 1xx or 3xx no answer of a model) is neither,
    so a minute may be (0, 0): requests came, and none of them says anything about the deployment.
    """
    names = {name.lower(): name for name in deployments}
    minutes: dict[str, dict[datetime, Minute]] = defaultdict(dict)
    for count in counts:
        if count.deployment.lower() not in names or not count.requests:
            continue
        side = minutes[names[count.deployment.lower()]]
        before = side.get(count.at, Minute(count.at, 0, 0))
        bad = count.code in BAD
        judged = bad or 200 <= count.code < 300
        slow = before.slow if count.slow is None else (before.slow or 0) + count.slow * judged
        good, worse = before.good + count.requests * (judged and not bad), before.bad + count.requests * bad
        side[count.at] = Minute(count.at, good, worse, slow)
    return {name: [minutes[name][at] for at in sorted(minutes[name])] for name in deployments}


def quantity(value: object, where: str) -> float:
    """A number of requests that Azure gave, perhaps a mean. Raises AzureFailed for NaN, negatives and no numbers."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
        raise AzureFailed(f"Azure Monitor gave {value!r} as {where}: that is no number of requests.")
    return float(value)


def whole(value: object, where: str) -> int:
    """Like `quantity`, but a fraction is refused too: it is a mean of several counts, and their sum is lost."""
    number = quantity(value, where)
    if not number.is_integer():
        raise AzureFailed(
            f"Azure Monitor gave {value!r} as {where}, a mean and no count: "
            "set `monitor: request-log` to count the requests themselves."
        )
    return int(number)


def status(value: object, where: str) -> int:
    """An HTTP status code that Azure wrote as a number or as text; 0 for no answer. Raises AzureFailed for another."""
    text = str(value)
    code = int(text) if re.fullmatch(r"\d{1,3}", text, re.ASCII) else -1
    if code != 0 and not 100 <= code <= LAST_CODE:
        raise AzureFailed(f"Azure Monitor gave {value!r} as {where}: that is no status code.")
    return code


def minute(at: object, where: str) -> datetime:
    """The start of a minute. Raises AzureFailed for anything else."""
    if not isinstance(at, datetime) or at.tzinfo is None or at.second or at.microsecond:
        raise AzureFailed(f"Azure Monitor gave {at!s} as {where}: that is not the start of a minute.")
    return at.astimezone(UTC)


def plain(names: Iterable[str]) -> list[str]:
    """The names, fit to be quoted in a query. Raises InvalidInput for one that Azure could not have."""
    checked = list(names)
    for name in checked:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
            raise InvalidInput(f"{name!r} is no name of a deployment, an endpoint or a workspace.")
    return checked
