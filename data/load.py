"""Reading and writing JSONL with errors that name the file and the line."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from data.errors import DataError

Row = dict[str, Any]


def read_jsonl(path: Path) -> list[Row]:
    """All rows of a UTF-8 JSONL file, in order; blank lines are skipped.

    Raises DataError for a missing or empty file, text that is not UTF-8 and a line that is not a JSON object.
    """
    try:
        text = path.read_bytes().decode("utf-8")
    except FileNotFoundError:
        raise DataError(f"There is no file {path}; check the path.") from None
    except (IsADirectoryError, PermissionError) as error:
        raise DataError(f"{path} cannot be read ({error.strerror}); give a readable JSONL file.") from None
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise DataError(f"{path} line {line} is not UTF-8; save the file as UTF-8.") from None
    rows: list[Row] = []
    for number, line_text in enumerate(text.split("\n"), start=1):
        if not line_text.strip():
            continue
        try:
            row = json.loads(line_text)
        except (json.JSONDecodeError, RecursionError) as error:
            reason = error.msg if isinstance(error, json.JSONDecodeError) else "nested too deeply"
            raise DataError(f"{path} line {number} is not valid JSON ({reason}); mend or remove the line.") from None
        if not isinstance(row, dict):
            raise DataError(f"{path} line {number} is not a JSON object; each line must be one {{…}} with messages.")
        rows.append(row)
    if not rows:
        raise DataError(f"{path} holds no rows; give a JSONL file with at least one.")
    return rows


def write_text(path: Path, text: str) -> None:
    """Writes the whole file or nothing: beside it first, then in one step over it. Raises DataError."""
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside.write_text(text, encoding="utf-8", newline="\n")
        beside.replace(path)
    except OSError as error:
        raise DataError(f"{path} could not be written ({error.strerror}); check the folder and free space.") from error
    except UnicodeEncodeError as error:
        raise DataError(f"{path} cannot hold half a character pair ({error.reason}); mend the rows' text.") from error
    finally:
        with suppress(OSError):
            beside.unlink()


def write_jsonl(path: Path, rows: Iterable[Row]) -> None:
    """One compact JSON object a line, UTF-8, keys in the rows' own order; atomic like `write_text`."""
    lines = (json.dumps(row, ensure_ascii=False, separators=(",", ":")) for row in rows)
    write_text(path, "".join(line + "\n" for line in lines))
