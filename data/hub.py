"""A split of a data set of the hub, by the hub's own library: downloaded once, then read from disk piece by piece."""

from __future__ import annotations

import re
from collections.abc import Iterator

from data.chunks import BATCH, Chunk, Shape
from data.errors import DataError

_OFFLINE = re.compile(r"offline|couldn't reach|connect|resolve|timed? ?out|max retries|proxy", re.IGNORECASE)


def of_hub(name: str, revision: str, split: str, percent: int, shape: Shape) -> Iterator[Chunk]:
    """`name` may be a folder that is laid out like a data set of the hub. No code of the data set is ever run.

    Raises DataError for a hub that cannot be reached, and for no such data set, revision or split.
    """
    import datasets

    datasets.disable_progress_bars()
    what = f"{name} at {revision[:12]}"
    try:
        # The whole split first, so that a wrong one is told apart from a wrong percentage.
        table = datasets.load_dataset(name, revision=revision, split=f"{split}[:{percent}%]")
    except Exception as error:
        raise DataError(_sentence(what, split, error)) from error
    if not len(table):
        raise DataError(f"{percent} % of {split} of {what} holds no rows; raise percent.")
    for piece in table.with_format("arrow").iter(batch_size=BATCH):
        yield Chunk(shape, table=piece)


def _sentence(what: str, split: str, error: Exception) -> str:
    said = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    if known := re.search(r"Should be one of \[(.*?)\]", str(error)):
        return f"{what} has no split '{split}'; it has {known[1].replace(chr(39), '')}."
    if "evision" in said and ("doesn't exist" in said or "not found" in said.lower()):
        return f"There is no such revision: {what}; copy the commit from the data set's page."
    chain = f"{type(error).__name__} {error} {error.__cause__ or ''}"
    if isinstance(error, ConnectionError) or _OFFLINE.search(chain):
        return f"{what} cannot be loaded, because the hub cannot be reached from here; give a local copy as file."
    if isinstance(error, FileNotFoundError):
        return f"There is no data set {what} that may be read; check its name and who may read it."
    return f"{what} could not be loaded ({said[:200]})."
