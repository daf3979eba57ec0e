"""Reads what Azure's data collector left in the workspace's storage: one event a line, its rows under `data`."""

import json
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from scripts.operate.drift import NOTHING, Rows
from scripts.operate.windows import Window

if TYPE_CHECKING:
    from azure.storage.blob import ContainerClient

FOLDER = "modelDataCollector"
PLACES = 32
AT_ONCE = 8
Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0)]


class StatisticsRow(BaseModel):
    """What is read of a row of `statistics` (serving/describe.py); whatever else it says is left alone."""

    model_config = ConfigDict(extra="ignore", frozen=True, allow_inf_nan=False)

    id: str
    model: str
    prompt_characters: Count
    rare_share: Share
    language: str
    sketch: Annotated[list[int], Field(min_length=PLACES, max_length=PLACES)]
    answer_tokens: Count
    finish_reason: str
    valid: bool | None = None
    refused: bool
    filtered: str = ""  # what the content filter found


class Statistics:
    """The rows of one model in one window. `unreadable` were left out; `newest` is when the last one came."""

    def __init__(self, events: Iterable[bytes], model: str) -> None:
        self.unreadable = 0
        newest = ""
        seen: set[str] = set()
        kept: list[StatisticsRow] = []
        for line in events:
            time, rows = parsed(line)
            self.unreadable += not rows
            for row in rows:
                try:
                    one = StatisticsRow.model_validate(row)
                except ValidationError:
                    self.unreadable += 1
                    continue
                if one.model == model and one.id not in seen:  # a row that was sent twice is one request
                    seen.add(one.id)
                    kept.append(one)
                    newest = max(newest, time)
        self.newest: datetime | None = _time(newest)
        self.rows = columns(kept)


def columns(rows: list[StatisticsRow]) -> Rows:
    """Rows as columns; what a row does not say is NaN."""

    def number(values: Iterable[float | None]) -> Any:
        return np.array([np.nan if value is None else float(value) for value in values], np.float64)

    return Rows(
        numbers={
            "prompt_characters": number(row.prompt_characters for row in rows),
            "rare_share": number(row.rare_share for row in rows),
            # Of what the content filter stopped nobody saw an answer.
            "answer_tokens": number(None if row.filtered else row.answer_tokens for row in rows),
            "valid": number(None if row.filtered else row.valid for row in rows),
            "refused": number(None if row.filtered else row.refused for row in rows),
            "cut_off": number(None if row.filtered else row.finish_reason == "length" for row in rows),
            "judge": NOTHING,  # no row of this collection has one
        },
        language=np.array([row.language for row in rows], np.str_),
        sketch=np.array([row.sketch for row in rows], np.float32).reshape(-1, PLACES),
    )


def parsed(line: bytes) -> tuple[str, list[dict[str, Any]]]:
    """Time and rows of an event; no rows for what is none of ours, or was too long to be filed here."""
    try:
        event = json.loads(line)
        rows = event["data"]
        return str(event.get("time", "")), rows if isinstance(rows, list) and all(
            isinstance(r, dict) for r in rows
        ) else []
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return "", []


def events(
    box: "ContainerClient", endpoint: str, collection: str, window: Window, deployment: str = ""
) -> Iterator[bytes]:
    """The events of a collection in a window, of one deployment or of all that the endpoint ever had."""
    start = f"{FOLDER}/{endpoint}/"
    if not deployment:
        found = {blob.name.split("/")[2] for blob in box.list_blobs(name_starts_with=start)}
        for name in sorted(found):
            yield from events(box, endpoint, collection, window, name)
        return
    names = [
        blob.name
        for day in window.days
        for blob in box.list_blobs(name_starts_with=f"{start}{deployment}/{collection}/{day:%Y/%m/%d}/")
    ]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for content in pool.map(lambda name: box.download_blob(name).readall(), sorted(names)):
            yield from content.splitlines()


def _time(text: str) -> datetime | None:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return found if found.tzinfo else None
