"""Ids and labels as the data step left them beside the JSONL: mapped into memory instead of encoded on a rented GPU.

They count only when they are whole, of this very JSONL, and made with this base model's tokenizer and the template that
is installed; and some chats, spread over the file, are encoded here all the same and compared.
"""

from __future__ import annotations

import hashlib
from array import array
from bisect import bisect_right
from pathlib import Path
from typing import Any

from training.chat_data import IGNORED, Example, Lazy, encode_chat, parse_chat
from training.digest import file_sha256

FORMAT = "1"
COMPARED = 32  # chats that are encoded here too
# What the file says it is of, and what is wrong when that is something else.
STALE = {
    "format": "it is of another format than this code reads",
    "jsonl": "it is of other chats than the JSONL beside it",
    "tokenizer": "it was made with another tokenizer than the base model's",
    "template": "it was made with another chat template than the recipe's",
}


class Unfit(Exception):
    """Why a token file is left alone."""


def tokenizer_digest(base: str, revision: str | None) -> str:
    """SHA-256 of the base model's tokenizer.json; "" for one that has none."""
    path: Any = Path(base) / "tokenizer.json"
    if not Path(base).is_dir():
        from transformers.utils import cached_file

        path = cached_file(base, "tokenizer.json", revision=revision, _raise_exceptions_for_missing_entries=False)
    return file_sha256(Path(path)) if path and Path(path).is_file() else ""


def mapped(path: Path, jsonl: Path, tokenizer: Any, made_with: dict[str, str]) -> tuple[Lazy, array[int]]:
    """The chats of token file `path`, each read when it is asked for, and how many labels each has.

    `made_with` has the SHA-256 of `jsonl` and of the tokenizer. Raises Unfit for a file that must not be used.
    """
    import pyarrow

    expected = {**made_with, "format": FORMAT, "template": hashlib.sha256(tokenizer.chat_template.encode()).hexdigest()}
    try:
        with pyarrow.OSFile(str(path)) as file:  # the check reads everything once, and maps nothing of it
            reader = pyarrow.ipc.open_file(file)
            about = {key.decode(): value.decode() for key, value in (reader.schema.metadata or {}).items()}
            for key, why in STALE.items():
                if about.get(key) != expected[key]:
                    raise Unfit(why)
            starts, lengths, labels = _checked(reader)
        rows = _rows(pyarrow.ipc.open_file(pyarrow.memory_map(str(path))), starts, lengths)
        _compare(rows, jsonl, tokenizer)
    except (pyarrow.ArrowException, OSError, ValueError, KeyError) as error:
        raise Unfit(f"it is damaged ({(str(error) or type(error).__name__).splitlines()[0][:100]})") from None
    return rows, labels


def _checked(reader: Any) -> tuple[list[int], array[int], array[int]]:
    """The first row of each batch, and of each chat its tokens and labels. Raises ValueError for a damaged batch."""
    import numpy as np

    starts, lengths, labels = [0], array("i"), array("i")
    for number in range(reader.num_record_batches):
        batch, said = reader.get_batch_with_custom_metadata(number)
        batch.validate(full=True)
        ids, learned = batch.column("input_ids"), batch.column("learned")
        bounds, bits = ids.offsets.to_numpy(), learned.values.to_numpy(zero_copy_only=False)
        digest = hashlib.sha256(bounds.tobytes())
        digest.update(ids.values.to_numpy().tobytes())
        digest.update(np.packbits(bits, bitorder="little").tobytes())
        whole = said is not None and said["sha256"].decode() == digest.hexdigest()
        if not whole or not learned.offsets.equals(ids.offsets):
            raise ValueError(f"piece {number + 1} is not what was written")
        before = np.concatenate(([0], np.cumsum(bits)))
        lengths.extend(np.diff(bounds).tolist())
        labels.extend((before[bounds[1:]] - before[bounds[:-1]]).tolist())
        starts.append(len(lengths))
    return starts, lengths, labels


def _rows(reader: Any, starts: list[int], lengths: array[int]) -> Lazy:
    import numpy as np

    def read(index: int) -> Example:
        number = bisect_right(starts, index) - 1
        batch, at = reader.get_batch(number), index - starts[number]
        ids = batch.column("input_ids")[at].values.to_numpy()
        learned = batch.column("learned")[at].values.to_numpy(zero_copy_only=False)
        return {"input_ids": ids.tolist(), "labels": np.where(learned, ids, IGNORED).tolist()}

    return Lazy(lengths, read)


def _compare(rows: Lazy, jsonl: Path, tokenizer: Any) -> None:
    """Raises Unfit when the file holds more or fewer chats than the JSONL, or one differs from what is encoded here."""
    last = len(rows) - 1
    wanted = {last * step // (COMPARED - 1) for step in range(COMPARED)}
    count = 0
    with jsonl.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            if count in wanted:
                chat = parse_chat(jsonl, number, line.decode("utf-8"))
                if count <= last and encode_chat(chat, tokenizer) != rows[count]:
                    raise Unfit(f"chat {count + 1} in it is not what the tokenizer makes of line {number}")
            count += 1
    if count != len(rows):
        raise Unfit(f"it has {len(rows)} chats and the JSONL {count}")
