"""What leaves the scoring process about a request: no words in statistics, nothing private in content, no delay."""

import json
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import collect
import pytest
import score
from collect import AT_MOST, Collecting, Turn
from describe import PLACES, Vocabulary, fits, language, schema_checker, sketch, statistics
from hypothesis import given
from hypothesis import strategies as st
from masking import masked
from service import Service
from tiny_models import make_tokenizer

from data.privacy import PERSONAL, SECRETS, find

ROOT = Path(__file__).parents[2]
TALK = [{"role": "system", "content": "secret system words"}, {"role": "user", "content": "zebra parcel 4711"}]
PRIVATE = [
    "jane.doe+x@mail.company.com", "DE89 3704 0044 0532 0130 00", "+49 170 1234567", "(212) 555-0187",
    "4111 1111 1111 1111", "4111-1111-1111-1111", "AKIAABCDEFGHIJKLMNOP", "ghp_" + "a1" * 18, "hf_" + "aB" * 17,
    "sk-" + "a1B2" * 8, "AIza" + "x1" * 17 + "y", "xoxb-123456789012-abcdef", "postgres://bob:hunter22@db/x",
    "AccountKey=" + "aB3+" * 10, "password: hunter2", "10.20.30.40", "Pwd=letmein",
    "-----BEGIN RSA PRIVATE KEY-----\nMIIabc\n-----END RSA PRIVATE KEY-----",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.abcDEF123456",
]  # fmt: skip


@given(
    st.lists(st.sampled_from(PRIVATE) | st.text("abc ,.", max_size=12), max_size=6), st.sampled_from([" ", ", ", "\n"])
)
def test_nothing_that_the_data_checks_know_as_private_gets_out(parts: list[str], between: str) -> None:
    text = masked(between.join(parts))
    assert not list(find(SECRETS + PERSONAL, text)), text
    assert not any(part in text for part in parts if part in PRIVATE)


@pytest.mark.parametrize("text", ["Order no. PM-25582 came on 12 May, box 3 of 4.", "Mein Paket ist weg!", ""])
def test_what_is_not_private_stays(text: str) -> None:
    assert masked(text) == text


@given(st.text(max_size=200))
def test_statistics_hold_no_text_and_never_fail(text: str) -> None:
    row = statistics([{"role": "user", "content": text}], [1, 2], text, VOCABULARY, None)
    assert all(isinstance(value, int | float | bool | None) for name, value in row.items() if name not in WORDED)
    assert len(row["sketch"]) == PLACES
    assert row["language"].isascii() and len(row["language"]) < 30


VOCABULARY, WORDED = Vocabulary(make_tokenizer()), ("language", "sketch")


def test_one_word_cannot_be_told_from_a_sketch_though_crowds_can() -> None:
    """A guess of one of two words, made by the nearest noiseless sketch, is little better than a coin."""
    text = "where is the parcel that you sent me last week with the blue lamp in it and a"
    one, other = f"{text} hammer", f"{text} violin"

    def mean(text: str) -> list[float]:
        return [sum(each) / 2000 for each in zip(*(sketch(text) for _ in range(2000)), strict=True)]

    first, second = mean(one), mean(other)
    right = sum(_apart(sketch(one), first) < _apart(sketch(one), second) for _ in range(1000))
    assert 400 < right < 900
    assert _apart(first, second) > 25, "the means of crowds differ by more than chance leaves"


def _apart(one: list[Any], other: list[Any]) -> float:
    return float(sum((a - b) ** 2 for a, b in zip(one, other, strict=True)))


def test_language_and_schema_and_rare_tokens() -> None:
    assert language("Where is the parcel that you sent to me?") == "en"
    assert language("Wo ist das Paket, das Sie mit der Post und nicht selbst brachten?") == "de"
    assert language("где моя посылка") == "cyrillic"
    assert language("zzz") == "unknown"
    checker = schema_checker((ROOT / "eval/ticket.schema.json").read_text())
    good = json.loads((ROOT / "data/tickets.jsonl").read_text().splitlines()[0])["messages"][-1]["content"]
    assert fits(good, checker) is True
    assert fits("sorry", checker) is False
    assert fits(good, None) is None
    ids = make_tokenizer()("plain words é", add_special_tokens=False)["input_ids"]
    assert 0 < VOCABULARY.rare_share(ids) < 1


def gathered(rows: list[Any], wanted: int) -> None:
    until = time.monotonic() + 5
    while len(rows) < wanted:
        assert time.monotonic() < until, rows
        time.sleep(0.01)


def test_a_collector_that_hangs_delays_nobody_and_what_is_lost_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collect, "SECONDS", 0.01)
    hang, rows = threading.Event(), []

    def send(batch: list[Any]) -> bool:
        hang.wait(10)
        rows.extend(batch)
        return True

    collecting = Collecting(make_tokenizer(), "tiny:1", {"statistics": send})
    turn = Turn("a" * 32, TALK, [1, 2, 3], "{}", 1, "stop")
    for _ in range(AT_MOST + 1000):
        collecting.offer(turn)
    assert collecting.lost > 0 and not rows, "it waited for who takes the rows"
    collecting.offer(replace(turn, messages=[{"role": "user"}]))
    hang.set()
    gathered(rows, AT_MOST)
    assert "zebra" not in json.dumps(rows) and "system words" not in json.dumps(rows)
    assert rows[0]["model"] == "tiny:1"


def test_a_row_that_cannot_be_made_loses_only_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collect, "SECONDS", 0.01)
    rows: list[Any] = []
    collecting = Collecting(make_tokenizer(), "tiny:1", {"statistics": lambda batch: not rows.extend(batch)})
    good = Turn("a" * 32, TALK, [1], "x", 1, "stop")
    collecting.offer(replace(good, messages=[{"role": "user"}]))
    collecting.offer(good)
    gathered(rows, 1)
    assert collecting.lost == 1


def ask(body: Any) -> tuple[int, Any, Any]:
    response = score.run(json.dumps(body))
    return response.status_code, response.get_json(), response.headers


def test_feedback_is_noted_under_the_answers_id(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collect, "SECONDS", 0.01)
    kept: dict[str, list[Any]] = {"content": [], "feedback": []}
    send = {name: (lambda rows, mine=mine: not mine.extend(rows)) for name, mine in kept.items()}
    collecting = Collecting(service.prompts.tokenizer, "tiny:1", send)
    monkeypatch.setattr(score, "service", replace(service, collecting=collecting))
    status, _, headers = ask({"messages": TALK[1:], "max_tokens": 2})
    identity = headers["x-answer-id"]
    assert status == 200
    assert ask({"messages": TALK[1:], "max_tokens": 2, "user": "release-train"})[0] == 200
    assert ask({"feedback": {"id": identity, "rating": "down"}})[:2] == (200, {"feedback": "noted"})
    gathered(kept["feedback"], 1)
    assert [row["id"] for row in kept["content"]] == [identity], "ours is no customer's"
    assert kept["feedback"] == [{"id": identity, "rating": "down", "model": "tiny:1"}]
    for wrong in ({"id": "x", "rating": "down"}, {"id": identity, "rating": "bad"}, {"id": identity}, "down", None):
        assert ask({"feedback": wrong})[0] == 400
    monkeypatch.setattr(score, "service", service)
    assert ask({"feedback": {"id": identity, "rating": "down"}})[0] == 400, "nothing is collected here"


def test_content_needs_a_second_yes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Azure's older switch turns every collection on at once."""
    asked: list[str] = []
    monkeypatch.setattr(collect, "_collector", lambda name: asked.append(name) or (lambda _: True))
    assert collect.start(make_tokenizer(), "/models/tiny/3") is None
    monkeypatch.setenv("AZUREML_MDC_ENABLED", "true")
    started = collect.start(make_tokenizer(), "/models/tiny/3")
    assert started and started.model == "tiny:3"
    assert asked == ["statistics", "feedback"]
    monkeypatch.setenv("COLLECT_CONTENT", "true")
    collect.start(make_tokenizer(), "/models/tiny/3")
    assert "content" in asked
    monkeypatch.setenv("ANSWER_SCHEMA", "{")
    assert collect.start(make_tokenizer(), "/models/tiny/3") is None, "a slip in the settings is no reason to fail"
