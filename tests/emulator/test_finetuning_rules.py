"""Which hyper-parameters and chats the fine-tuning service takes, and how it words what it does not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator import service_models
from emulator.errors import ArmError
from emulator.finetuning_rules import BATCH, EPOCHS, LEARNING_RATE, Asked, chats, hyper_parameters, split

CHAT = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}


def test_the_samples_names_and_the_wizards_names() -> None:
    sample = {"per_device_train_batch_size": "1", "learning_rate": "0.00002", "num_train_epochs": "1"}
    assert hyper_parameters(sample) == Asked(epochs=1, learning_rate=0.00002, batch=1)
    wizard = {"batch_size_multiplier": "2", "learning_rate_multiplier": "0.5", "n_epochs": "3"}
    assert hyper_parameters(wizard) == Asked(epochs=3, learning_rate=LEARNING_RATE / 2, batch=2 * BATCH)
    assert hyper_parameters({}) == Asked(EPOCHS, LEARNING_RATE, BATCH)


@pytest.mark.parametrize(
    ("given_values", "said"),
    [
        ({"lora_rank": "8"}, "'lora_rank' is not supported"),
        ({"learning_rate": "0"}, "must be a positive number"),
        ({"learning_rate": "nan"}, "must be a positive number"),
        ({"n_epochs": "1.5"}, "whole numbers"),
        ({"n_epochs": "1", "num_train_epochs": "1"}, "are the same"),
        ({"learning_rate": "0.1", "learning_rate_multiplier": "1"}, "not both"),
        ({"learning_rate_multiplier": "1000"}, "below 1"),
    ],
)
def test_hyper_parameters_that_are_refused(given_values: dict[str, str], said: str) -> None:
    with pytest.raises(ArmError, match=said) as refused:
        hyper_parameters(given_values)
    assert refused.value.status == 400


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("{", "line 2 is not JSON"),
        (json.dumps({**CHAT, "id": "7"}), "the key 'messages' alone"),
        (json.dumps({"messages": [{"role": "tool", "content": "a"}]}), "without a role"),
        (json.dumps({"messages": CHAT["messages"][:1]}), "does not end with the assistant"),
        (json.dumps({"messages": []}), "does not end with the assistant"),
    ],
)
def test_rows_that_are_no_chats(tmp_path: Path, row: str, said: str) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text(f"{json.dumps(CHAT)}\n{row}\n")
    with pytest.raises(ArmError, match=said):
        chats(file, "training")


def test_a_byte_order_mark_is_read_over(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text(f"{json.dumps(CHAT)}\n", encoding="utf-8-sig")
    assert chats(file, "training") == [json.dumps(CHAT)]


@given(st.integers(2, 500))
def test_the_automatic_split_loses_and_repeats_nothing(count: int) -> None:
    rows = [str(number) for number in range(count)]
    train, validation = split(rows)
    assert sorted(train + validation, key=int) == rows
    assert train
    assert 1 <= len(validation) <= max(1, count // 10)


def test_the_table_of_models_is_sound() -> None:
    for model in service_models.table().values():
        assert set(model.fine_tune) <= set(model.deploy), model.name
    phi = service_models.find("azureml://registries/azureml/models/Phi-4-mini-instruct/versions/1")
    assert phi is not None
    assert phi.fine_tune[0] == "eastus2"
    assert not phi.partner
    assert service_models.find("/subscriptions/s/models/m/versions/1") is None
    with pytest.raises(ArmError, match="not offered as a service"):
        service_models.find("azureml://registries/azureml/models/Unheard-of")
