"""Pieces of an answer add up to its text, are whole characters, and end where a stop sequence begins."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prompts import Prompts
from tiny_models import make_tokenizer
from writing import UNFINISHED, Writer, whole

STOPS = st.lists(st.sampled_from(["ab", "b", "aab", "\n\n", "€a", "he"]), max_size=4)
TEXT = st.text(st.sampled_from("ab \nhe€é🙂x"), max_size=30)


def llama_like() -> Any:
    """A tokenizer as Phi-3's: white space is a mark before words, unknown characters are taken as bytes."""
    from tokenizers import Tokenizer, decoders, models, normalizers
    from transformers import PreTrainedTokenizerFast

    names = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", "a", "b", "h", "e", "x", "▁a", "▁x"]
    merges = [("▁", "a"), ("▁", "x")]
    words = {name: i for i, name in enumerate(names)}
    core = Tokenizer(models.BPE(vocab=words, merges=merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    core.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    core.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    core.add_special_tokens(["<|end|>"])
    return PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<|end|>", chat_template="x")


PROMPTS = {"byte level": Prompts(make_tokenizer()), "llama": Prompts(llama_like())}


def pieces(name: str, ids: list[int], stops: list[str]) -> tuple[list[str], Writer]:
    writer, found = Writer(PROMPTS[name].decode, stops), []
    for token in ids:
        found.append(writer.add(token))
        if writer.stopped:
            break
    return [*found, writer.end()], writer


@pytest.mark.parametrize("name", PROMPTS)
@given(text=TEXT)
def test_the_pieces_of_a_text_are_that_text(name: str, text: str) -> None:
    ids = PROMPTS[name].tokenizer(text, add_special_tokens=False)["input_ids"]
    said = PROMPTS[name].decode(ids)
    assert said == text
    parts, _ = pieces(name, ids, [])
    assert "".join(parts) == whole(PROMPTS[name].decode, ids) == said
    assert all(UNFINISHED not in part for part in parts), "half a character was sent"


@pytest.mark.parametrize("name", PROMPTS)
@given(ids=st.lists(st.integers(0, 262), max_size=25))
def test_whatever_the_model_says_a_stream_has_the_text_of_a_plain_answer(name: str, ids: list[int]) -> None:
    """Broken characters and control tokens included; where nothing is broken it is also the tokenizer's own text."""
    parts, _ = pieces(name, ids, [])
    text = PROMPTS[name].decode(ids)
    assert "".join(parts) == whole(PROMPTS[name].decode, ids)
    if UNFINISHED not in text:
        assert "".join(parts) == text


@pytest.mark.parametrize("name", PROMPTS)
@given(text=TEXT, stops=STOPS)
def test_a_text_ends_before_its_first_stop_sequence(name: str, text: str, stops: list[str]) -> None:
    ids = PROMPTS[name].tokenizer(text, add_special_tokens=False)["input_ids"]
    parts, writer = pieces(name, ids, stops)
    said = "".join(parts)
    assert text.startswith(said)
    assert not any(stop in said for stop in stops)
    assert writer.stopped == any(stop in text for stop in stops)
    if writer.stopped:
        assert any(text[len(said) :].startswith(stop) for stop in stops)
    else:
        assert said == text


def test_the_beginning_of_a_stop_sequence_is_held_back_until_it_is_none() -> None:
    ids = PROMPTS["byte level"].tokenizer("xaax", add_special_tokens=False)["input_ids"]
    assert pieces("byte level", ids, ["aab"])[0] == ["x", "", "", "aax", ""]
