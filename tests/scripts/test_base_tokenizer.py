"""`data --recipe`: what would stop the recipe's job stops the data step, and its tokenizer makes the token files."""

import http.server
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, NamedTuple

import pytest
import yaml

from scripts.base_tokenizer import of_recipe
from scripts.errors import InvalidInput
from scripts.settings import load

ROOT = Path(__file__).parents[2]
REVISION = "a" * 40


class Ran(NamedTuple):
    code: int
    error: str
    files: set[str]


class Hub(http.server.BaseHTTPRequestHandler):
    """Answers for one file of one model at one revision as the hub does, and says what else is not there."""

    content: ClassVar[bytes] = b""

    def do_GET(self) -> None:
        repository, _, rest = self.path.lstrip("/").partition("/resolve/")
        revision = rest.partition("/")[0]
        missing = "RepoNotFound" if repository != "someone/tiny" else "RevisionNotFound" if revision != REVISION else ""
        headers = {"X-Error-Code": missing} if missing else {"X-Repo-Commit": REVISION, "ETag": '"one"'}
        body = b"" if missing else self.content
        self.send_response(404 if missing else 200)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    do_HEAD = do_GET

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def hub() -> Iterator[str]:
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    special, alphabet = ["<|im_start|>", "<|im_end|>"], pre_tokenizers.ByteLevel.alphabet()
    made.train_from_iterator(
        ["lamp"],
        trainers.BpeTrainer(vocab_size=260, special_tokens=special, initial_alphabet=alphabet, show_progress=False),
    )
    Hub.content = made.to_str().encode()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository of its own, so that recipes can be put in it, with a few tickets."""
    shutil.copytree(ROOT / "training", tmp_path / "training", ignore=shutil.ignore_patterns("__pycache__"))
    tickets = (ROOT / "data/tickets.jsonl").read_text().splitlines(keepends=True)[:200]
    (tmp_path / "pool.jsonl").write_text("".join(tickets))
    (tmp_path / "checks.yaml").write_text(
        (ROOT / "data/checks.yaml").read_text().replace("max_tokens: ", "max_tokens: 9")
    )
    source = {"name": "t", "rules": "checks.yaml", "train": {"file": "pool.jsonl"}, "validation": None, "heldout": None}
    (tmp_path / "sources.yaml").write_text(yaml.safe_dump(source))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def recipe(place: Path, source: str, revision: str | None) -> str:
    content = yaml.safe_load((place / "training/recipes/cpu_demo.yaml").read_text())
    content["base_model"] |= {"source": source, "revision": revision}
    (place / "training/recipes/mine.yaml").write_text(yaml.safe_dump(content))
    return "mine"


def prepare(place: Path, **environment: str) -> Ran:
    out = place / "dataset.json"
    line = [sys.executable, "-m", "scripts", "data", "--recipe", "mine", "--source", "sources.yaml", "--check-only"]
    variables = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HOME": str(place / "hub"), **environment}
    done = subprocess.run(
        [*line, "--folder", "prepared", "--out", str(out)],
        cwd=place,
        env=variables,
        check=False,
        capture_output=True,
        text=True,
    )
    assert "Traceback" not in done.stderr, done.stderr
    assert not (done.returncode and out.exists())
    return Ran(done.returncode, done.stderr, {path.name for path in (place / "prepared").rglob("*.*")})


@pytest.mark.slow
def test_the_tokenizer_of_the_pinned_revision_makes_the_token_files(place: Path, hub: str) -> None:
    recipe(place, "someone/tiny", REVISION)
    online = {"HF_ENDPOINT": hub, "HF_HUB_OFFLINE": "0"}
    ran = prepare(place, **online)
    assert (ran.code, {"train.arrow", "validation.arrow"} <= ran.files) == (0, True), ran.error
    assert json.loads((place / "dataset.json").read_text())["token_count"] == "exact"
    shutil.rmtree(place / "prepared")
    (place / "dataset.json").unlink()

    recipe(place, "someone/tiny", "b" * 40)
    ran = prepare(place, **online)
    assert (ran.code, ran.files) == (3, set())
    assert f"no revision {'b' * 40} of someone/tiny" in ran.error

    recipe(place, "someone/else", REVISION)  # nobody knows, where no hub can be asked: the job finds out
    ran = prepare(place, HF_HUB_OFFLINE="1")
    assert (ran.code, "train.jsonl" in ran.files, "train.arrow" in ran.files) == (0, True, False), ran.error


def test_a_recipe_that_cannot_run_stops_the_data(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_SUBSCRIPTION_ID", "1" * 8)
    small = (
        (ROOT / "scripts/environments/demo.yaml").read_text().replace("Standard_NC24ads_A100_v4", "Standard_E16s_v3")
    )
    (place / "small.yaml").write_text(small)
    with pytest.raises(InvalidInput, match="a100_lora needs a GPU and Standard_E16s_v3 has none"):
        of_recipe("a100_lora", load(place / "small.yaml"))
    with pytest.raises(InvalidInput, match=r"recipes/none\.yaml cannot be read"):
        of_recipe("none", None)
    with pytest.raises(InvalidInput, match="name of a file"):
        of_recipe("../../secret", None)
    with pytest.raises(InvalidInput, match="pins no revision of someone/tiny"):
        of_recipe(recipe(place, "someone/tiny", None), None)


def test_a_folder_and_an_asset_as_base_model(place: Path) -> None:
    (place / "base").mkdir()
    found = of_recipe(recipe(place, "base", None), None)
    assert found.tokenizer == Path("base")
    assert found.template is not None
    assert found.template.read_text() == (ROOT / "training/templates/chatml.jinja").read_text()
    found = of_recipe("cpu_demo", None)
    assert found.tokenizer is None
    assert "--tokenizer" in found.why_not
