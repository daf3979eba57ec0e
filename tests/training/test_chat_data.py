"""The loss falls on the assistant's words and their end of turn alone; text of users stays text."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.chat_data import IGNORED, encode_chat, load_examples, read_chats
from training.chat_template import END_OF_TURN, control_tokens, install_template, render_template
from training.errors import TrainingError

FAMILIES = ["phi3", "phi4", "chatml"]
TOKENIZERS = {"phi3": "phi3", "phi4": "phi3", "chatml": "chatml"}
LONG_CHAT = [
    {"role": "system", "content": "Answer with JSON."},
    {"role": "user", "content": "Lamp 1 is broken"},
    {"role": "assistant", "content": '{"category": "defect"}'},
    {"role": "user", "content": "  And order AB-002?\n"},
    {"role": "assistant", "content": '{"order_id": "AB-002"}'},
]


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def tokenizer(family: str, request: pytest.FixtureRequest) -> Any:
    made = request.getfixturevalue(f"{TOKENIZERS[family]}_tokenizer")
    install_template(made, family)
    return made


def test_only_the_assistants_words_and_their_end_of_turn_are_labels(tokenizer: Any, family: str) -> None:
    example = encode_chat(LONG_CHAT, tokenizer)
    assert len(example["input_ids"]) == len(example["labels"])
    learned = [token for token in example["labels"] if token != IGNORED]
    answers = [m["content"] for m in LONG_CHAT if m["role"] == "assistant"]
    assert tokenizer.decode(learned) == "".join(answer + END_OF_TURN[family] for answer in answers)
    assert all(label in (IGNORED, token) for token, label in zip(example["input_ids"], example["labels"], strict=True))


def test_the_prompt_of_a_server_is_the_beginning_of_what_was_trained(tokenizer: Any) -> None:
    whole = encode_chat(LONG_CHAT, tokenizer)
    prompt = tokenizer.apply_chat_template(LONG_CHAT[:-1], add_generation_prompt=True, return_dict=True)["input_ids"]
    assert whole["input_ids"][: len(prompt)] == prompt
    assert whole["labels"][len(prompt)] != IGNORED
    assert whole["labels"][len(prompt) - 1] == IGNORED


@pytest.mark.parametrize("text", ["And order AB-002?", "  two\n\n lines é <b> ", "if a < b | c > d: end"])
def test_the_server_makes_the_tokens_that_were_trained(text: str, tokenizer: Any) -> None:
    from serving.prompts import Prompts

    chat = [*LONG_CHAT[:3], {"role": "user", "content": text}, LONG_CHAT[-1]]
    whole = encode_chat(chat, tokenizer)["input_ids"]
    asked = Prompts(tokenizer).encode(chat[:-1])
    assert whole[: len(asked)] == asked
    assert len(whole) > len(asked)


def _controls_in(ids: list[int], tokenizer: Any) -> int:
    special = {tokenizer.convert_tokens_to_ids(name) for name in control_tokens(tokenizer)}
    return sum(token in special for token in ids)


@pytest.mark.parametrize("role", ["system", "user", "assistant"])
def test_control_tokens_in_text_stay_text(role: str, tokenizer: Any) -> None:
    sound = _controls_in(encode_chat(LONG_CHAT, tokenizer)["input_ids"], tokenizer)
    for control in control_tokens(tokenizer):
        chat = [dict(m) for m in LONG_CHAT]
        for message in chat:
            if message["role"] == role:
                message["content"] = f"{control}x {control}{control[0]}{control}"
        assert _controls_in(encode_chat(chat, tokenizer)["input_ids"], tokenizer) == sound, control


@settings(max_examples=60, deadline=None)
@given(
    pieces=st.lists(
        st.sampled_from(["<|", "|>", "<", ">", "|", "end", "im_end", "im_start", "user", " ", "<|end|>", "<|im_end|>"])
    )
)
@pytest.mark.parametrize("family", FAMILIES)
def test_no_text_makes_a_control_token(family: str, pieces: list[str], request: pytest.FixtureRequest) -> None:
    tokenizer = request.getfixturevalue(f"{TOKENIZERS[family]}_tokenizer")
    install_template(tokenizer, family)
    chat = [{"role": "user", "content": "a" + "".join(pieces) + "b"}, {"role": "assistant", "content": "c"}]
    plain = [{"role": "user", "content": "ab"}, {"role": "assistant", "content": "c"}]
    found, sound = (_controls_in(encode_chat(c, tokenizer)["input_ids"], tokenizer) for c in (chat, plain))
    assert found == sound


def test_ordinary_text_is_left_alone(tokenizer: Any) -> None:
    text = "if a < b | c > d: print('<end>') # 100 % {{ curly }} {% end %} é"
    shown = tokenizer.apply_chat_template([{"role": "user", "content": text}], tokenize=False)
    assert text in shown


def test_the_template_of_another_family_is_refused(phi3_tokenizer: Any) -> None:
    with pytest.raises(TrainingError, match=r"no special token <\|im_end\|>"):
        install_template(phi3_tokenizer, "chatml")
    with pytest.raises(TrainingError, match=r"no chat template 'llama'.*chatml, phi3, phi4"):
        render_template("llama", [])


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("{", "line 2 is not valid JSON"),
        ("[]", "line 2 has no list of messages"),
        ('{"messages":[]}', "line 2 has no list of messages"),
        ('{"messages":[{"role":"tool","content":"x"}]}', "line 2 has a message whose role"),
        ('{"messages":[{"role":"user","content":" "}]}', "line 2 has a message without text"),
        ('{"messages":[{"role":"user","content":"x"}]}', "line 2 does not end with the assistant"),
    ],
)
def test_bad_rows_are_named_with_file_and_line(row: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"
    path.write_text(json.dumps({"messages": LONG_CHAT}) + "\n" + row + "\n")
    with pytest.raises(TrainingError, match=said):
        read_chats(path)


def test_files_without_chats(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="There is no"):
        read_chats(tmp_path / "train.jsonl")
    (tmp_path / "train.jsonl").write_text("\n")
    with pytest.raises(TrainingError, match="nothing to train on"):
        read_chats(tmp_path / "train.jsonl")


def test_a_chat_is_never_cut(tokenizer: Any, data_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = data_folder / "train.jsonl"
    lengths = sorted(len(e["input_ids"]) for e in load_examples(path, tokenizer, 512, "error"))
    with path.open("a") as file:
        file.write(json.dumps({"messages": [{"role": "user", "content": "x " * 300}, LONG_CHAT[-1]]}) + "\n")
    with pytest.raises(TrainingError, match=r"1 of 65 chats .* longer than data\.max_length 200"):
        load_examples(path, tokenizer, 200, "error")
    kept = load_examples(path, tokenizer, 200, "drop")
    assert sorted(len(e["input_ids"]) for e in kept) == lengths
    assert "left out 1 of 65" in capsys.readouterr().out
    with pytest.raises(TrainingError, match="65 of 65 chats"):
        load_examples(path, tokenizer, 3, "drop")


def test_a_template_that_marks_nothing_is_refused(tokenizer: Any, data_folder: Path) -> None:
    tokenizer.chat_template = "{% for m in messages %}{{ m['content'] }}{% generation %}{% endgeneration %}{% endfor %}"
    with pytest.raises(TrainingError, match=r"64 of 64 chats .* no token to learn from"):
        load_examples(data_folder / "train.jsonl", tokenizer, 512, "error")
