"""Puts the service together: finds the model's folder, loads it, and reads the environment (listed in score.py)."""

import logging
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any

from admission import Admission
from batcher import Batcher
from checks import Limits
from collect import Collecting
from digest import of_folder
from hangups import Hangups
from prompts import Prompts
from screen import Screen

log = logging.getLogger("azmlinfsrv.serving")

CONVERTED = "converted.json"  # a folder that has it is of the CPU tier


@dataclass(frozen=True)
class Service:
    prompts: Prompts
    batcher: Batcher
    limits: Limits
    context: int
    max_input: int | None
    timeout: float  # seconds for an answer
    patience: float  # seconds with a client that stalls
    name: str  # NAME:VERSION of the registered model
    admission: Admission
    screen: Screen
    digest: str = ""
    hangups: Hangups = field(default_factory=Hangups)
    collecting: Collecting | None = None


def model_folder(root: str) -> Path:
    """The folder at or under AZUREML_MODEL_DIR that holds a transformers model. Raises FileNotFoundError."""
    found = sorted(Path(root).rglob("config.json"), key=lambda p: (len(p.parts), p)) if root else []
    if not found:
        raise FileNotFoundError(f"no config.json under AZUREML_MODEL_DIR ({root or 'not set'}): nothing to serve")
    return found[0].parent


def load(folder: Path) -> Service:
    """Tokenizer, model and batcher for a transformers folder, configured by the environment.

    Raises ValueError for a wrong setting, and when the folder is not the one that MODEL_DIGEST names.
    """
    rows, kept = _setting("MAX_BATCH_SIZE", 16, low=1), _setting("PREFIX_CACHE_TOKENS", 4096)
    admission = Admission(rows, _setting("MAX_QUEUED_REQUESTS", 16))
    wait = _setting("BATCH_WAIT_MS", 10) / 1000
    timeout = _setting("SCORING_TIMEOUT_MS", 180_000, low=1) / 1000
    patience = _setting("CLIENT_TIMEOUT_MS", 20_000, low=1) / 1000
    default, most = _setting("DEFAULT_MAX_TOKENS", 256, low=1), _setting("MAX_OUTPUT_TOKENS", 1024, low=1)
    max_input = _setting("MAX_INPUT_TOKENS", 0) or None
    screen = Screen.from_environment()

    with ThreadPoolExecutor(1) as beside:  # reading takes a while, and hashing lets other threads work
        digest = beside.submit(of_folder, folder)
        make, loaded = (_converted, _session) if (folder / CONVERTED).is_file() else (_engine, _model)
        engine = partial(make, cache(partial(loaded, folder)), rows, kept)
        try:
            batcher = Batcher(engine, rows, wait, coming=lambda: admission.inside)
        finally:  # a damaged model may fail to load: this says why
            found, wanted = digest.result(), os.environ.get("MODEL_DIGEST", "")
            if wanted and found != wanted:
                sentence = f"the model in {folder} has the digest {found}, but {wanted} was deployed: it is not served"
                raise ValueError(sentence)
    window = batcher.engine.context
    most = min(most, window - 1)
    limits = Limits(min(default, most), most, 64 * window)
    return Service(
        _prompts(folder), batcher, limits, window, max_input, timeout, patience, _name(folder), admission, screen, found
    )


def _name(folder: Path) -> str:
    """AZUREML_MODEL_DIR ends in NAME/VERSION."""
    root = os.environ.get("AZUREML_MODEL_DIR", "")
    return ":".join(Path(root).parts[-2:]) if root else folder.name


def _converted(session: Callable[[], Any], rows: int, kept: int) -> Any:
    from ort_engine import OrtEngine

    loaded, facts = session()
    return OrtEngine(loaded, facts, rows, kept)


def _session(folder: Path) -> Any:
    from ort_engine import open_session

    return open_session(folder)


def _engine(model: Callable[[], Any], rows: int, kept: int) -> Any:
    from engine import Engine

    return Engine(model(), rows, kept)


def _model(folder: Path) -> Any:
    import torch
    from packing import pack_linears
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
