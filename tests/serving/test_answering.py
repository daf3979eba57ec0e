"""What goes out of an answer while it is written, and what does not."""

import json
import queue
import time
from concurrent.futures import TimeoutError as Late
from typing import Any

import pytest
from answering import Filtered, Gone, answered, held_back, streamed, written
from batcher import Batcher
from decoding import Request, Sampling
from engine import Engine
from hypothesis import given
from hypothesis import strategies as st
from prompts import Prompts
from replies import Heading
from screen import Undecided
from tiny_models import make_model, make_tokenizer
from writing import Writer

PROMPTS = Prompts(make_tokenizer())


def no_badword(text: str) -> None:
    if "badword" in text:
        raise Filtered


@given(st.lists(st.sampled_from(["a", "bad", "word", "wor", "d", "", "some more"]), max_size=30), st.integers(7, 20))
def test_nothing_of_what_is_filtered_goes_out(pieces: list[str], window: int) -> None:
    text, out = "".join(pieces), ""
    try:
        for piece in held_back(pieces, no_badword, window):
            out += piece
    except Filtered:
        assert "badword" in text
        assert out == text[: len(out)]
        assert len(out) <= text.index("badword"), "a part of it went out"
    else:
        assert "badword" not in text
        assert out == text


def followed(tokens: list[int], finish: str = "length") -> Request:
    """A request that the model has finished."""
    request = Request([1], Sampling(50), answer=tokens, tokens=queue.SimpleQueue())
    for token in tokens:
        request.tokens.put(token)  # type: ignore[union-attr]
    request.finish_reason = finish
    request.end()
    return request


def events(request: Request, pieces: Any) -> list[Any]:
    made = streamed(pieces, request, Writer(PROMPTS.decode), Heading("1f", "m"), usage=False, done=lambda *_: None)
    said = [event.decode().removeprefix("data: ").strip() for event in made]
    return [each if each == "[DONE]" else json.loads(each) for each in said]


def test_a_filtered_stream_ends_as_openais() -> None:
    def pieces() -> Any:
        yield "fine"
        raise Filtered

    *_, last, done = events(followed([1]), pieces())
    assert (last["choices"][0]["finish_reason"], done) == ("content_filter", "[DONE]")


@pytest.mark.parametrize(
    ("error", "code"), [(Late(), 504), (RuntimeError("secret words"), 500), (Undecided("away", 7), 503)]
)
def test_what_goes_wrong_in_a_stream_is_its_last_event(error: Exception, code: int) -> None:
    def pieces() -> Any:
        yield "fine"
        raise error

    *_, last = events(followed([1]), pieces())
    assert last["error"]["code"] == code
    assert "secret" not in json.dumps(last)


def test_a_client_that_left_gets_nothing_more() -> None:
    request = followed([65, 66], "cancelled")
    with pytest.raises(Gone):
        list(written(request, Writer(PROMPTS.decode), time.monotonic() + 5))
    request = followed([65], "cancelled")
    said = events(request, written(request, Writer(PROMPTS.decode), time.monotonic() + 5))
    assert [event["choices"][0]["finish_reason"] for event in said] == [None] * len(said), "it was told an end"


def test_after_the_deadline_nobody_waits_for_the_next_token() -> None:
    request = Request([1], Sampling(50), tokens=queue.SimpleQueue())
    with pytest.raises(Late):
        list(written(request, Writer(PROMPTS.decode), time.monotonic() + 0.05))
    with pytest.raises(Late):
        answered([Request([1], Sampling(50))], PROMPTS.decode, (), time.monotonic() + 0.05)


def test_a_row_is_free_a_few_tokens_after_it_is_not_wanted_any_more() -> None:
    model = make_model("llama", eos_token_id=[], max_position_embeddings=100_000)
    batcher = Batcher(lambda: Engine(model, 2, 0), max_batch=2)
    request, other, waiting = (batcher.submit([1, 2, 3], Sampling(90_000), follow=True) for _ in range(3))
    for _ in range(20):
        request.tokens.get(timeout=60)  # type: ignore[union-attr]
    waiting.abandoned = True
    waiting.done.result(60)
    assert (waiting.finish_reason, waiting.answer) == ("cancelled", [])
    had = len(request.answer)
    request.abandoned = True
    request.done.result(60)
    assert len(request.answer) <= had + 3
    other.abandoned = True
    other.done.result(60)


def test_a_stop_sequence_frees_the_row_too() -> None:
    model = make_model("llama", eos_token_id=[], max_position_embeddings=100_000)
    batcher = Batcher(lambda: Engine(model, 2, 0), max_batch=2)
    plain = batcher.submit([1, 2, 3], Sampling(40))
    plain.done.result(60)
    text = PROMPTS.decode(plain.answer)
    request = batcher.submit([1, 2, 3], Sampling(90_000), follow=True)
    (answer,) = answered([request], PROMPTS.decode, (text[10:12],), time.monotonic() + 60)
    assert answer.text == text[: text.index(text[10:12])]
    assert answer.completion_tokens < 40
    request.done.result(60)
    assert len(request.answer) < 90_000


def test_an_idle_model_waits_only_for_requests_that_are_on_their_way() -> None:
    model, coming = make_model("llama"), 1
    batcher = Batcher(lambda: Engine(model, 4, 0), max_batch=4, wait_seconds=5.0, coming=lambda: coming)
    alone = batcher.submit([1, 2], Sampling(1))
    alone.done.result(60)
    assert alone.started - alone.asked < 4
    coming = 2
    first = batcher.submit([1, 2], Sampling(1))
    time.sleep(0.3)
    second = batcher.submit([1, 2], Sampling(1))
    first.done.result(60)
    assert first.started == second.started, "they were not decoded together"
