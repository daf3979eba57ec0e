"""Turn a transformers folder into one that the CPU tier serves: an ONNX graph with weights of few bits.

    python -m convert --model out/model --recipe convert/recipes/int8.yaml --prompts data/heldout.jsonl --output out/cpu

The output has the tokenizer and configuration of the source, model.onnx, and converted.json: what serving must know,
and which source and recipe it was made of. The same source and recipe give the same bytes. Runs where it is called, on
the processor; needs the source in memory (bf16) and a matrix of it in float32. Exit codes: 0 done, 3 invalid input.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import shutil
import sys
import time
from pathlib import Path
from typing import Any

from convert.errors import ConvertError
from convert.recipe import Recipe, load_recipe

FACTS = "converted.json"
WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".gguf", ".onnx", ".data")
COMPARED = 16  # chats that both models read to the end


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser("python -m convert", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("--model", type=Path, required=True, help="folder of a transformers model")
    parser.add_argument("--recipe", type=Path, required=True, help="a file such as convert/recipes/int8.yaml")
    parser.add_argument("--prompts", type=Path, required=True, help="JSONL of chats whose tokens are compared")
    parser.add_argument("--output", type=Path, required=True, help="a folder that is not there yet, or empty")
    parser.add_argument("--report", type=Path, help="where to write what was found, as JSON")
    given = parser.parse_args(arguments)
    try:
        report = convert(given.model, given.recipe, given.prompts, given.output)
    except ConvertError as error:
        print(f"✗ {error}", file=sys.stderr)
        return 3
    if given.report:
        given.report.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    same, places = report["same_choices"], report["choices"]
    print(
        f"✓ {report['recipe']}: {report['megabytes']:.0f} MB (source {report['source_megabytes']:.0f} MB) in "
        f"{report['seconds']:.0f} s; tokens equal for {report['prompts']} prompts; "
        f"the source's choice at {same} of {places} places"
    )
    return 0


def convert(model_folder: Path, recipe_file: Path, prompts_file: Path, output: Path) -> dict[str, Any]:
    """Write `output` and check it. Returns what was found. Raises ConvertError; then `output` is not there."""
    from convert import check

    recipe, digest = load_recipe(recipe_file)
    chats = check.read_chats(prompts_file)
    if not (model_folder / "config.json").is_file():
        raise ConvertError(f"{model_folder} is not a model folder (no config.json in it).")
    if output.exists() and any(output.iterdir()):
        raise ConvertError(f"{output} is not empty; give a folder that is not there yet.")
    began = time.monotonic()
    partial = output.with_name(output.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        found = _write(model_folder, recipe, digest, chats, partial)
        if output.exists():
            output.rmdir()
        partial.rename(output)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return {**found, "seconds": round(time.monotonic() - began, 1)}


def _write(source: Path, recipe: Recipe, digest: str, chats: list[Any], folder: Path) -> dict[str, Any]:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils.logging import disable_progress_bar

    from convert import check, graph

    disable_progress_bar()
    try:
        model = AutoModelForCausalLM.from_pretrained(
            source, dtype=torch.bfloat16, attn_implementation="sdpa", trust_remote_code=False, local_files_only=True
        ).eval()
        tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False, local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        said = (str(error).splitlines() or [type(error).__name__])[0]
        raise ConvertError(f"{source} cannot be loaded as a model: {said[:200]}") from None
    longest = context(model.config)
    graph.write(model, recipe, folder, longest)
    for file in sorted(source.iterdir()):
        if file.is_file() and file.suffix not in WEIGHTS and not file.name.endswith(".index.json"):
            shutil.copyfile(file, folder / file.name)
    known = {
        **facts(model, longest),
        "recipe": recipe.model_dump(), "recipe_digest": digest, "source_digest": folder_digest(source),
    }  # fmt: skip
    (folder / FACTS).write_text(json.dumps(known, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    check.same_tokens(AutoTokenizer.from_pretrained(folder, local_files_only=True), tokenizer, chats)
    compared = _short(tokenizer, chats, longest, COMPARED)
    same, places = check.agreement(model, folder, compared)
    if not places:
        raise ConvertError(f"No chat is short enough for the context of {longest} tokens: nothing was compared.")
    return {
        "recipe": recipe.name, "recipe_digest": digest, "source_digest": known["source_digest"],
        "prompts": len(chats), "same_choices": same, "choices": places,
        "megabytes": _megabytes(folder), "source_megabytes": _megabytes(source),
    }  # fmt: skip


def _short(tokenizer: Any, chats: list[Any], longest: int, count: int) -> list[list[int]]:
    """Token ids of the first chats that the model can read to the end."""
    from convert.check import ids

    read = (ids(tokenizer, chat, opened=False) for chat in chats)
    return list(itertools.islice((each for each in read if len(each) <= longest), count))


def facts(model: Any, longest: int) -> dict[str, Any]:
    """What serving must know beside the graph."""
    from convert.graph import head_size

    config, stops = model.config, model.generation_config.eos_token_id
    return {
        "stop_ids": stops if isinstance(stops, list) else [] if stops is None else [stops], "context": longest,
        "vocabulary": config.vocab_size, "layers": config.num_hidden_layers,
        "heads": config.num_key_value_heads, "size": head_size(config),
    }  # fmt: skip


def context(config: Any) -> int:
    """Tokens that a prompt and its answer may have: the same as on the Python tier. A LongRoPE model (Phi-3.5,
    Phi-4-mini) has other frequencies beyond its original length, and a row cannot change them half-way."""
    rope, longest = getattr(config, "rope_parameters", None) or {}, config.max_position_embeddings
    original = rope.get("original_max_position_embeddings") if rope.get("rope_type") == "longrope" else None
    return int(min(longest, original or longest))


def folder_digest(folder: Path) -> str:
    """SHA-256 over the sorted `path:SHA-256` of every file: the same number that a training job and `register` give."""
    pairs = []
    for path in sorted(each for each in folder.rglob("*") if each.is_file()):
        with path.open("rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
        pairs.append(f"{path.relative_to(folder).as_posix()}:{content}")
    return hashlib.sha256(json.dumps(pairs).encode()).hexdigest()


def _megabytes(folder: Path) -> float:
    return round(sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 1e6, 1)


if __name__ == "__main__":
    sys.exit(main())
