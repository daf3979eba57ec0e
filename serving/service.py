"""Puts the service together: finds the model's folder, loads it, and reads the environment (listed in score.py)."""

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

from batcher import Batcher
from collect import Collecting
from prompts import Prompts
from screen import Screen
from wire import Limits

log = logging.getLogger("azmlinfsrv.serving")


@dataclass(frozen=True)
class Service:
    prompts: Prompts
    batcher: Batcher
    limits: Limits
    context: int
    max_input: int | None
    timeout: float
    name: str
    screen: Screen
    collecting: Collecting | None = None


def model_folder(root: str) -> Path:
    """The folder at or under AZUREML_MODEL_DIR that holds a transformers model. Raises FileNotFoundError."""
    found = sorted(Path(root).rglob("config.json"), key=lambda p: (len(p.parts), p)) if root else []
    if not found:
        raise FileNotFoundError(f"no config.json under AZUREML_MODEL_DIR ({root or 'not set'}): nothing to serve")
    return found[0].parent


def load(folder: Path) -> Service:
    """Tokenizer, model and batcher for a transformers folder, configured by the environment."""
    rows, kept = _setting("MAX_BATCH_SIZE", 16, low=1), _setting("PREFIX_CACHE_TOKENS", 4096)
    wait = _setting("BATCH_WAIT_MS", 10) / 1000
    timeout = _setting("SCORING_TIMEOUT_MS", 180_000, low=1) / 1000
    default, most = _setting("DEFAULT_MAX_TOKENS", 256, low=1), _setting("MAX_OUTPUT_TOKENS", 1024, low=1)
    max_input = _setting("MAX_INPUT_TOKENS", 0) or None
    screen = Screen.from_environment()

    batcher = Batcher(partial(_engine, cache(partial(_model, folder)), rows, kept), rows, wait)
    window = batcher.engine.context
    most = min(most, window - 1)
    limits = Limits(min(default, most), most, 64 * window)
    return Service(_prompts(folder), batcher, limits, window, max_input, timeout, folder.name, screen)


def _engine(model: Callable[[], Any], rows: int, kept: int) -> Any:
    from engine import Engine

    return Engine(model(), rows, kept)


def _model(folder: Path) -> Any:
    import torch
    from engine import pack_linears
    from transformers import AutoModelForCausalLM

    device = "cuda" if torch.cuda.is_available() else "cpu"
    options = {"dtype": torch.bfloat16, "attn_implementation": "sdpa", "trust_remote_code": False}
    model = AutoModelForCausalLM.from_pretrained(folder, **options).to(device).eval()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # hundreds of small copies: on a busy machine waiting for a second thread takes seconds
    packed = pack_linears(model)
    torch.set_num_threads(threads)
    log.info("%s on %s, packed weights: %s", type(model).__name__, device, packed)
    return model


def _prompts(folder: Path) -> Prompts:
    from transformers import AutoTokenizer

    return Prompts(AutoTokenizer.from_pretrained(folder, trust_remote_code=False))


def _setting(name: str, default: int, low: int = 0) -> int:
    text = os.environ.get(name, "")
    try:
        value = int(text) if text else default
    except ValueError:
        value = low - 1
    if value < low:
        raise ValueError(f"the environment variable {name} must be a whole number of at least {low}, not {text!r}")
    return value
