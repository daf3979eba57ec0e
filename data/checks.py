"""What must be true of chats before anything is paid for. Each check has a code, a severity, a count and examples.

The checks are a table: a code, how bad it is, a sentence, and a function that yields the rows at fault. Adding one
means adding a line. A check that found nothing is reported with count 0: proof that it ran.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from data.errors import DataError
from data.load import Row
from data.tokens import Messages, approximate_chat_tokens

ROLES = ("system", "user", "assistant")
EXAMPLES = 5
Severity = Literal["error", "warning"]


class Check(BaseModel):
    """The result of one check over all rows; `examples` name file, row and id."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    code: str
    severity: Severity
    count: int = Field(ge=0)
    message: str
    examples: list[str]


@dataclass(frozen=True)
class Rules:
    """What the checks hold the rows against. `answer_keys=None`: answers are free text."""

    answer_keys: tuple[str, ...] | None = ("category", "priority", "product", "order_id")
    max_tokens: int = 1024  # a chat with all its turns
    count_tokens: Callable[[Messages], int] = approximate_chat_tokens


@dataclass(frozen=True)
class Corpus:
    """The rows of one file, and the rows that they must not share a prompt or cluster with."""

    name: str
    rows: Sequence[Row]
    held_out: Sequence[Row] = ()


Finder = Callable[[Corpus, Rules], Iterator[int]]  # yields indices of rows at fault


def _messages(row: Row) -> list[dict[str, str]] | None:
    """The row's messages, or None when they are not even a list of role and text."""
    messages = row.get("messages")
    if not isinstance(messages, list) or not messages:
        return None
    whole = all(
        isinstance(m, dict) and isinstance(m.get("role"), str) and isinstance(m.get("content"), str) for m in messages
    )
    return messages if whole else None


def _sound(corpus: Corpus) -> Iterator[tuple[int, list[dict[str, str]]]]:
    for index, row in enumerate(corpus.rows):
        if (messages := _messages(row)) is not None:
            yield index, messages


def normalised(text: str) -> str:
    """Text without what does not change its meaning here: case, spacing, punctuation, form of the characters."""
    return " ".join(re.findall(r"\w+", unicodedata.normalize("NFKC", text).casefold()))


def prompts(messages: Messages) -> Iterator[tuple[str, ...]]:
    """What the customer had said before each of the assistant's turns: each of them is a prompt that is trained on."""
    said: list[str] = []
    for message in messages:
        if message["role"] == "user":
            said.append(normalised(message["content"]))
        elif message["role"] == "assistant":
            yield tuple(said)


def _schema(corpus: Corpus, _: Rules) -> Iterator[int]:
    for index, row in enumerate(corpus.rows):
        names = all(isinstance(row.get(key), str) and row[key] for key in ("id", "cluster_id"))
        slices = row.get("slices", {})
        tagged = isinstance(slices, dict) and all(isinstance(v, str) for v in slices.values())
        if _messages(row) is None or not names or not tagged:
            yield index


def _roles(corpus: Corpus, _: Rules) -> Iterator[int]:
    for index, messages in _sound(corpus):
        if any(m["role"] not in ROLES or (m["role"] == "system" and at > 0) for at, m in enumerate(messages)):
            yield index


def _alternation(corpus: Corpus, _: Rules) -> Iterator[int]:
    for index, messages in _sound(corpus):
        turns = [m["role"] for m in messages if m["role"] != "system"]
        if turns[::2].count("user") != len(turns[::2]) or turns[1::2].count("assistant") != len(turns[1::2]):
            yield index


def _last_turn(corpus: Corpus, _: Rules) -> Iterator[int]:
    return (index for index, messages in _sound(corpus) if messages[-1]["role"] != "assistant")


def _blank(corpus: Corpus, _: Rules) -> Iterator[int]:
    return (index for index, messages in _sound(corpus) if any(not m["content"].strip() for m in messages))


def _repeated(keys: Iterator[tuple[int, Any]]) -> Iterator[int]:
    seen: set[Any] = set()
    for index, key in keys:
        if key in seen:
            yield index
        seen.add(key)


def _duplicate_id(corpus: Corpus, _: Rules) -> Iterator[int]:
    ids = ((i, row["id"]) for i, row in enumerate(corpus.rows) if isinstance(row.get("id"), str))
    return _repeated(ids)


def _duplicate(corpus: Corpus, _: Rules) -> Iterator[int]:
    return _repeated((index, json.dumps(messages, sort_keys=True)) for index, messages in _sound(corpus))


def _leakage(corpus: Corpus, _: Rules) -> Iterator[int]:
    gate = Corpus("held-out", corpus.held_out)
    asked = {list(prompts(messages))[-1] for _, messages in _sound(gate) if list(prompts(messages))}
    return (index for index, messages in _sound(corpus) if asked.intersection(prompts(messages)))


def _shared_cluster(corpus: Corpus, _: Rules) -> Iterator[int]:
    clusters = {row["cluster_id"] for row in corpus.held_out if isinstance(row.get("cluster_id"), str)}
    return (
        i
        for i, row in enumerate(corpus.rows)
        if isinstance(row.get("cluster_id"), str) and row["cluster_id"] in clusters
    )


def _over_length(corpus: Corpus, rules: Rules) -> Iterator[int]:
    return (index for index, messages in _sound(corpus) if rules.count_tokens(messages) > rules.max_tokens)


def _answer(text: str) -> Any:
    try:
        return json.loads(text)
    except (json.JSONDecodeError, RecursionError):
        return None


def _answer_json(corpus: Corpus, rules: Rules) -> Iterator[int]:
    for index, messages in _sound(corpus) if rules.answer_keys else ():
        if any(m["role"] == "assistant" and not isinstance(_answer(m["content"]), dict) for m in messages):
            yield index


def _answer_keys(corpus: Corpus, rules: Rules) -> Iterator[int]:
    for index, messages in _sound(corpus) if rules.answer_keys else ():
        answers = [_answer(m["content"]) for m in messages if m["role"] == "assistant"]
        if any(isinstance(answer, dict) and tuple(answer) != rules.answer_keys for answer in answers):
            yield index


CHECKS: tuple[tuple[str, Severity, str, Finder], ...] = (
    ("schema", "error", "needs id, cluster_id, messages of role and content, and slices of text", _schema),
    ("roles", "error", "has a role other than system (first only), user and assistant", _roles),
    ("alternation", "error", "does not alternate user and assistant, user first", _alternation),
    ("last_turn", "error", "does not end with the assistant's answer", _last_turn),
    ("blank", "error", "has a message without text", _blank),
    ("duplicate_id", "error", "has the id of an earlier row", _duplicate_id),
    ("duplicate", "error", "has the same messages as an earlier row", _duplicate),
    ("leakage", "error", "asks what a held-out prompt asks", _leakage),
    ("shared_cluster", "error", "belongs to the cluster of a held-out prompt", _shared_cluster),
    ("over_length", "error", "is longer than the limit of tokens", _over_length),
    ("answer_json", "error", "has an answer that is not a JSON object", _answer_json),
    ("answer_keys", "error", "has an answer whose keys or their order differ from the task's", _answer_keys),
)


def run_checks(corpora: Sequence[Corpus], rules: Rules) -> list[Check]:
    """Every check over every corpus, in the order of the table."""
    results = []
    for code, severity, message, find in CHECKS:
        found = [(corpus, index) for corpus in corpora for index in find(corpus, rules)]
        examples = [f"{c.name} row {i + 1} ({c.rows[i].get('id', 'no id')})" for c, i in found[:EXAMPLES]]
        results.append(Check(code=code, severity=severity, count=len(found), message=message, examples=examples))
    return results


def stop_on_errors(checks: Sequence[Check]) -> None:
    """Raises DataError naming every broken check with its first example, when one of severity error found a row."""
    broken = [check for check in checks if check.severity == "error" and check.count]
    if broken:
        each = "; ".join(f"{c.code}: {c.count} row(s), e.g. {c.examples[0]} {c.message}" for c in broken)
        raise DataError(f"The data breaks {len(broken)} check(s): {each}. Mend or remove these rows.")
