"""What the data step counts is what the training job learns: the same ids and labels, fast or not."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from data.encode import Encoder, EncodingDiffers
from data.errors import DataError
from data.prepare import prepare
from data.rules import load_rules
from data.tokens import Encoding, approximate_tokens, load

ROOT = Path(__file__).parents[2]
TEMPLATES = ROOT / "training" / "templates"
SPECIAL = {"chatml": ["<|im_start|>", "<|im_end|>"], "phi3": ["<|system|>", "<|user|>", "<|assistant|>", "<|end|>"]}
WORDS = "the lamp is broken and I'd like 12,345 of them back by Tuesday – naïve “quotes” “日本語” please \n\n  thanks"
MODERN = r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
FAST = {"gpt2-chatml": True, "gpt2-phi3": True, "modern-phi3": True, "llama-phi3": False}


def build(kind: str, template: str) -> Any:
    """A small tokenizer of the make of SmolLM2's, of Phi-4-mini's, or of Phi-3's (spaces as ▁, marks that eat them)."""
    from transformers import PreTrainedTokenizerFast

    inner = Tokenizer(models.BPE(byte_fallback=kind == "llama"))
    if kind == "llama":
        inner.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    elif kind == "modern":
        split = pre_tokenizers.Split(Regex(MODERN), "isolated")
        inner.pre_tokenizer = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(False, use_regex=False)])
    else:
        inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    marks = [AddedToken(name, special=True, rstrip=kind == "llama", normalized=False) for name in SPECIAL[template]]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=500, special_tokens=["<unk>", *marks], initial_alphabet=alphabet, show_progress=False
    )
    inner.train_from_iterator([WORDS] * 20, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="<unk>", pad_token="<unk>")


@pytest.fixture(scope="module", params=FAST)
def both(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Encoder, Any]:
    from training.chat_template import install_template

    kind, template = request.param.split("-")
    folder = tmp_path_factory.mktemp(request.param)
    build(kind, template).save_pretrained(folder)
    from transformers import AutoTokenizer

    theirs = AutoTokenizer.from_pretrained(folder)
    install_template(theirs, template)
    ours = load(folder, TEMPLATES / f"{template}.jinja")
    assert ours.is_fast == FAST[request.param]
    return ours, theirs


LOOSE = load_rules().model_copy(update={"max_tokens": 10_000})
TEXT = st.text(min_size=1, max_size=30) | st.lists(
    st.sampled_from(
        [*WORDS.split(" "), " ", "\n", "\t ", "<|end|>", "<|im_end|>", "<|user|>", "'S", "½", "\x1d", "é", "<|"]
    )
).map("".join)
CHATS = st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=3)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(said=CHATS, system=st.none() | TEXT)
def test_ids_and_labels_are_those_of_the_training_code(
    both: tuple[Encoder, Any], said: list[tuple[str, str]], system: str | None
) -> None:
    from training.chat_data import encode_chat

    ours, theirs = both
    chat = [{"role": "system", "content": system}] if system else []
    for asked, answered in said:
        chat += [{"role": "user", "content": asked or "?"}, {"role": "assistant", "content": answered or "!"}]
    expected = encode_chat(chat, theirs)
    assert ours.encode([chat])[0] == (expected["input_ids"], expected["labels"])
    assert ours.by_the_library([chat])[0] == (expected["input_ids"], expected["labels"])


def test_a_fast_way_that_errs_is_found_out(both: tuple[Encoder, Any]) -> None:
    ours, _ = both
    if not ours.is_fast:
        return
    chat = [{"role": "user", "content": "the lamp"}, {"role": "assistant", "content": "is broken"}]
    memory = ours._fast.memory  # type: ignore[union-attr]
    kept = dict(memory)
    memory.update({piece: [0] for piece in memory})
    with pytest.raises(EncodingDiffers):
        ours.encode([chat] * 64)
    memory.update(kept)


def test_a_template_that_treats_turns_in_another_way_is_rendered(both: tuple[Encoder, Any]) -> None:
    ours, _ = both
    trimmed = Encoder(ours.tokenizer, ours.controls, ours.template.replace("safe.text -}}", "safe.text | trim -}}"))
    assert not trimmed.is_fast
    chat = [{"role": "user", "content": "the lamp \n"}, {"role": "assistant", "content": " is broken "}]
    assert trimmed.encode([chat]) == trimmed.by_the_library([chat])


def test_the_record_says_what_was_counted_with(both: tuple[Encoder, Any], tmp_path: Path) -> None:
    ours, theirs = both
    theirs.save_pretrained(tmp_path / "model")  # with the template, as the training job saves it
    made = prepare(
        ROOT / "data/tickets.jsonl",
        ROOT / "data/heldout.jsonl",
        tmp_path / "out",
        "t",
        rules=LOOSE,
        tokenizer=tmp_path / "model",
    )
    rows = [json.loads(line) for line in (tmp_path / "out/heldout.jsonl").open()]
    encoded = ours.encode([row["messages"] for row in rows])
    assert made.token_count == "exact"
    assert made.files["heldout"].tokens == sum(len(ids) for ids, _ in encoded)
    assert made.files["heldout"].loss_tokens == sum(label >= 0 for _, labels in encoded for label in labels)
    assert made.tokenizer
    assert made.template


def test_a_template_without_marks_and_one_that_is_not_there_are_refused(
    both: tuple[Encoder, Any], tmp_path: Path
) -> None:
    _, theirs = both
    theirs.save_pretrained(tmp_path)
    plain = tmp_path / "plain.jinja"
    plain.write_text("{% for m in messages %}{{ m.content }}{% endfor %}")
    chat = [[{"role": "user", "content": "x"}]]
    with pytest.raises(DataError, match=r"has no \{% generation %\} block"):
        Encoding(tmp_path, plain).measured(chat)
    with pytest.raises(DataError, match="There is no chat template"):
        Encoding(tmp_path, tmp_path / "none.jinja").measured(chat)


@given(text=st.text())
def test_the_approximation_counts_started_eights(text: str) -> None:
    import re

    pieces = re.findall(r"[^\W\d_]+|\d|[^\w\s]|_", text)
    assert approximate_tokens(text) == sum(1 + (len(piece) - 1) // 8 for piece in pieces)
