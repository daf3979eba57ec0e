"""The folder the scoring server would run in, on the path as there; one tiny model served for all tests."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
SERVING = HERE.parents[1] / "serving"
sys.path[:0] = [str(SERVING), str(HERE)]

from tiny_models import make_model, make_tokenizer  # noqa: E402


@pytest.fixture(scope="session")
def model_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Like AZUREML_MODEL_DIR: the transformers folder lies one level below."""
    root = tmp_path_factory.mktemp("model")
    make_model("llama").save_pretrained(root / "tiny")
    make_tokenizer().save_pretrained(root / "tiny")
    return root


@pytest.fixture(scope="session")
def service(model_root: Path) -> Iterator[Any]:
    from service import load, model_folder

    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"MAX_OUTPUT_TOKENS": "64", "DEFAULT_MAX_TOKENS": "8", "BATCH_WAIT_MS": "1"}.items():
            patch.setenv(name, value)
        loaded = load(model_folder(str(model_root)))
    yield loaded
