"""`python -m convert`: the same input gives the same bytes, and what cannot be converted is refused in one sentence."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from convert import check
from convert.__main__ import convert, folder_digest, main
from convert.errors import ConvertError
from scripts import digests
from tests.serving.tiny_models import make_model, make_tokenizer

ROOT = Path(__file__).parents[2]
RECIPES = ROOT / "convert" / "recipes"
SIZES: dict[str, Any] = {"hidden_size": 64, "intermediate_size": 96}
CHAT = {"messages": [{"role": "user", "content": "Hi <|end|> there"}, {"role": "assistant", "content": "Hello"}]}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(tmp_path_factory.mktemp("source"), make_model("phi3", **SIZES))


@pytest.fixture
def chats(tmp_path: Path) -> Path:
    path = tmp_path / "chats.jsonl"
    path.write_text(json.dumps(CHAT) + "\n")
    return path


def saved(folder: Path, model: Any) -> Path:
    model.save_pretrained(folder)
    make_tokenizer().save_pretrained(folder)
    return folder


@pytest.mark.parametrize("recipe", ["int8", "int8_blocks", "int4", "fp32"])
def test_the_same_source_and_recipe_give_the_same_bytes(recipe: str, source: Path, chats: Path, tmp_path: Path) -> None:
    reports = [convert(source, RECIPES / f"{recipe}.yaml", chats, tmp_path / name) for name in ("one", "two")]
    assert digests.of_folder(tmp_path / "one") == digests.of_folder(tmp_path / "two") != digests.of_folder(source)
    known = json.loads((tmp_path / "one" / "converted.json").read_text())
    assert known["source_digest"] == folder_digest(source) == digests.of_folder(source)
    assert (known["recipe_digest"], known["stop_ids"]) == (reports[0]["recipe_digest"], [258, 262])
    assert not list((tmp_path / "one").glob("*.safetensors"))
    assert reports[0]["choices"] > 10
    assert recipe != "fp32" or reports[0]["same_choices"] >= reports[0]["choices"] - 1  # the source rounds to bf16


@pytest.mark.slow
def test_the_runtime_reports_to_nobody(source: Path, chats: Path, tmp_path: Path) -> None:
    """Left alone, onnxruntime keeps a device's id under the user's home, and sends it what it does."""
    nowhere = "http://127.0.0.1:9"
    alone = {"PATH": os.environ["PATH"], "OMP_NUM_THREADS": "1", "https_proxy": nowhere, "HTTPS_PROXY": nowhere}

    def run(name: str, *arguments: object) -> list[Path]:
        home = tmp_path / f"home-{name}"
        home.mkdir()
        subprocess.run([sys.executable, *map(str, arguments)], cwd=ROOT, env={**alone, "HOME": str(home)}, check=True)
        return [path for path in home.rglob("*") if "onnxruntime" in path.name]

    told = ("--model", source, "--recipe", RECIPES / "fp32.yaml", "--prompts", chats, "--output", tmp_path / "out")
    assert run("convert", "-m", "convert", *told) == []
    load = "import sys; sys.path.insert(0, 'serving'); from ort_engine import *; open_session(Path(sys.argv[1]))"
    assert run("serve", "-c", load, tmp_path / "out") == []
    itself = "import sys, onnxruntime; onnxruntime.InferenceSession(sys.argv[1])"
    assert run("itself", "-c", itself, tmp_path / "out" / "model.onnx"), "else this test would see nothing"


def broken(folder: Path, what: str) -> Path:
    """A source that lacks one thing."""
    changes: dict[str, dict[str, Any]] = {
        "bias": {"attention_bias": True},
        "activation": {"hidden_act": "gelu"},
        "heads": {"hidden_size": 32, "intermediate_size": 32},
        "blocks": {"intermediate_size": 80},
    }
    if what == "nothing":
        return folder
    path = saved(folder, make_model("llama", **{**SIZES, **changes.get(what, {})}))
    if what == "weights":
        (path / "model.safetensors").unlink()
    if what == "not finite":
        import torch

        model = make_model("llama", **SIZES)
        with torch.no_grad():
            model.model.norm.weight[0] = float("nan")
        model.save_pretrained(path)
    return path


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("nothing", "is not a model folder"),
        ("weights", "cannot be loaded as a model"),
        ("bias", "have biases"),
        ("activation", "activation gelu cannot be converted"),
        ("heads", "Heads of 8"),
        ("blocks", "80 columns has no whole blocks of 32"),
        ("not finite", "no numbers"),
    ],
)
def test_what_cannot_be_converted_leaves_nothing(what: str, said: str, chats: Path, tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    with pytest.raises(ConvertError, match=said) as caught:
        convert(broken(tmp_path / "source", what), RECIPES / "int8_blocks.yaml", chats, tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert {path.name for path in tmp_path.iterdir()} == {"source", "chats.jsonl"}


def test_another_kind_of_model_is_refused(chats: Path, tmp_path: Path) -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    size = {"vocab_size": 263, "n_embd": 32, "n_layer": 1, "n_head": 2, "n_positions": 64}
    folder = saved(tmp_path / "gpt2", GPT2LMHeadModel(GPT2Config(**size)))
    with pytest.raises(ConvertError, match="GPT2LMHeadModel cannot be converted; known are Llama"):
        convert(folder, RECIPES / "int8_blocks.yaml", chats, tmp_path / "out")


@pytest.mark.parametrize(
    "content", ["", "{}\n", '{"messages": []}\n', '{"messages": [{"role": "assistant"}]}\n', "x\n"]
)
def test_chats_that_are_none_are_refused(content: str, tmp_path: Path) -> None:
    path = tmp_path / "chats.jsonl"
    path.write_text(content)
    with pytest.raises(ConvertError, match="chats"):
        check.read_chats(path)


def test_a_tokenizer_that_differs_is_found() -> None:
    check.same_tokens(make_tokenizer(), make_tokenizer(), [CHAT["messages"]])
    with pytest.raises(ConvertError, match="Prompt 1 becomes other tokens"):
        check.same_tokens(make_tokenizer(), make_tokenizer(rstrip=True), [CHAT["messages"]])


def test_the_command_says_what_is_wrong_and_exits_3(source: Path, chats: Path, tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    given = ["--model", str(source), "--recipe", str(RECIPES / "int8_blocks.yaml"), "--prompts", str(chats)]
    assert main([*given, "--output", str(tmp_path / "full")]) == 3
    assert capsys.readouterr().err.startswith("✗ ")
    assert main([*given, "--output", str(tmp_path / "new"), "--report", str(tmp_path / "report.json")]) == 0
    assert json.loads((tmp_path / "report.json").read_text())["prompts"] == 1
