"""Starts vLLM's OpenAI server on the model that Azure ML mounted. What it is given comes from the environment:

  SERVED_MODEL_NAME   what the model is called in requests and replies
  MODEL_ARTIFACT      merged: a plain model folder; lora: `base` and `adapter` in folders of these names
  MODEL_ROOT          where the model is mounted, where AZUREML_MODEL_DIR does not say it
  SERVER_PORT         the port of the environment's routes
  SERVER_ARGUMENTS    JSON: options of `vllm serve` without their dashes

A managed container runs its image's command as it is, so this file is that command (Dockerfile).
"""

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)  # what --max-lora-rank takes
ADAPTER = "adapter"
HERE = Path(__file__).resolve().parent


class StartError(Exception):
    """str() is one sentence for the deployment's log."""


def find(root: Path, name: str) -> Path:
    """The folder at or under `root` that holds the file `name`, the shallowest. Raises StartError."""
    found = sorted(root.rglob(name), key=lambda path: (len(path.parts), path))
    if not found:
        raise StartError(f"no {name} under {root}: there is nothing to serve")
    return found[0].parent


def root_of(env: Mapping[str, str]) -> Path:
    """Where the model is mounted. Raises StartError."""
    for name in ("AZUREML_MODEL_DIR", "MODEL_ROOT"):
        if (place := env.get(name, "")) and Path(place).is_dir():
            return Path(place)
    raise StartError("neither AZUREML_MODEL_DIR nor MODEL_ROOT is a folder: the model is not mounted")


def command(env: Mapping[str, str]) -> tuple[list[str], dict[str, str]]:
    """The command line, and what the server's environment has beside `env`. Raises StartError."""
    try:
        name, port = env["SERVED_MODEL_NAME"], int(env["SERVER_PORT"])
        given: dict[str, Any] = json.loads(env.get("SERVER_ARGUMENTS") or "{}")
    except (KeyError, ValueError) as error:
        raise StartError(f"SERVED_MODEL_NAME, SERVER_PORT or SERVER_ARGUMENTS is missing or wrong ({error})") from None
    if given.get("trust-remote-code"):
        raise StartError("trust-remote-code would run whatever the model's folder holds, so it is never on")
    root, artifact = root_of(env), env.get("MODEL_ARTIFACT", "merged")
    lora = artifact == "lora"
    adapter = find(root, "adapter_config.json") if lora else None
    folder = find(adapter.parent / "base", "config.json") if adapter else find(root, "config.json")
    config = _read(folder / "config.json")
    if "max-model-len" in given and (window := config.get("max_position_embeddings")):
        given["max-model-len"] = min(int(given["max-model-len"]), int(window))  # more than it has is refused
    served = f"{name}-base" if lora else name
    options = {"host": "0.0.0.0", "port": port, "served-model-name": served, **given}  # noqa: S104 (a container)
    extra = []
    if adapter:
        rank = int(_read(adapter / "adapter_config.json").get("r", RANKS[0]))
        options |= {"enable-lora": True, "max-lora-rank": next((each for each in RANKS if each >= rank), RANKS[-1])}
        extra = ["--lora-modules", f"{name}={adapter}"]
    line = ["vllm", "serve", str(folder), *_flags(options), *extra, "--middleware", "front.Front"]
    control = [each["content"] for each in _read(folder / "tokenizer.json").get("added_tokens", []) if each["special"]]
    beside = {"FRONT_MODEL": name, "FRONT_CONTROL": json.dumps(control), "PYTHONPATH": str(HERE)}
    return line, beside


def _flags(options: Mapping[str, Any]) -> list[str]:
    """`true` is the bare option and `false` its --no- form; mappings travel as JSON."""
    found: list[str] = []
    for name, value in options.items():
        if isinstance(value, bool):
            found.append(f"--{name}" if value else f"--no-{name}")
        else:
            found += [f"--{name}", json.dumps(value) if isinstance(value, dict | list) else str(value)]
    return found


def _read(path: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise StartError(f"{path} cannot be read ({error})") from None
    return found


if __name__ == "__main__":
    try:
        line, beside = command(os.environ)
    except StartError as error:
        sys.exit(f"StartError: {error}")
    print("starting:", " ".join(line), flush=True)
    os.execvpe(line[0], line, {**os.environ, **beside})  # noqa: S606 (the arguments are made above)
