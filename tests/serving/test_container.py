"""What starts vLLM and what stands before it, without a server."""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

CONTAINER = Path(__file__).parents[2] / "serving/container"
sys.path.insert(0, str(CONTAINER))

from front import MOST_BYTES, ROUTE, Front  # noqa: E402
from start import RANKS, StartError, command  # noqa: E402

USER = [{"role": "user", "content": "the hat"}]


def folder(at: Path, window: int = 2048) -> Path:
    at.mkdir(parents=True)
    (at / "config.json").write_text(json.dumps({"max_position_embeddings": window}))
    tokens = [{"content": "<|end|>", "special": True}, {"content": "word", "special": False}]
    (at / "tokenizer.json").write_text(json.dumps({"added_tokens": tokens}))
    return at


def environment(root: Path, **more: str) -> dict[str, str]:
    return {"AZUREML_MODEL_DIR": str(root), "SERVED_MODEL_NAME": "phi", "SERVER_PORT": "8000", **more}


def test_the_command_is_the_model_its_name_and_what_the_tier_says(tmp_path: Path) -> None:
    model = folder(tmp_path / "phi/1/model")
    given = {"max-model-len": 4096, "enable-prefix-caching": True, "async": False, "override": {"temperature": 0}}
    line, beside = command(environment(tmp_path, SERVER_ARGUMENTS=json.dumps(given)))
    assert line[:3] == ["vllm", "serve", str(model)]
    said = " ".join(line[3:])
    assert "--host 0.0.0.0 --port 8000 --served-model-name phi --max-model-len 2048 --enable-prefix-caching" in said
    assert "--no-async" in said
    assert '--override {"temperature": 0}' in said
    assert line[-2:] == ["--middleware", "front.Front"]
    assert beside == {"FRONT_MODEL": "phi", "FRONT_CONTROL": '["<|end|>"]', "PYTHONPATH": str(CONTAINER)}


@pytest.mark.parametrize(("rank", "most"), [(1, 1), (3, 8), (8, 8), (16, 16), (200, 256)])
def test_an_adapter_has_the_released_name_and_the_base_another(tmp_path: Path, rank: int, most: int) -> None:
    base = folder(tmp_path / "tuned/base")
    (tmp_path / "tuned/adapter").mkdir()
    (tmp_path / "tuned/adapter/adapter_config.json").write_text(json.dumps({"r": rank}))
    line, _ = command(environment(tmp_path, MODEL_ARTIFACT="lora"))
    assert line[2] == str(base)
    said = " ".join(line)
    assert "--served-model-name phi-base" in said
    assert f"--enable-lora --max-lora-rank {most} --lora-modules phi={tmp_path}/tuned/adapter" in said
    assert most in RANKS


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"AZUREML_MODEL_DIR": ""}, "not mounted"),
        ({"MODEL_ARTIFACT": "lora"}, "no adapter_config.json"),
        ({"SERVER_PORT": ""}, "SERVER_PORT"),
        ({"SERVER_ARGUMENTS": "{"}, "SERVER_ARGUMENTS"),
        ({"SERVER_ARGUMENTS": '{"trust-remote-code": true}'}, "never on"),
    ],
)
def test_a_wrong_set_up_is_one_sentence(tmp_path: Path, wrong: dict[str, str], words: str) -> None:
    folder(tmp_path / "m")
    with pytest.raises(StartError, match=words):
        command(environment(tmp_path, **wrong))


def through(body: bytes, pieces: int = 1, path: str = ROUTE) -> tuple[dict[str, Any] | None, list[dict[str, Any]]]:
    """What the server behind got, and what the caller got."""
    seen: dict[str, Any] = {}
    told: list[dict[str, Any]] = []
    size = max(1, -(-len(body) // pieces))
    parts = [body[at : at + size] for at in range(0, len(body), size)] or [b""]
    queue = [{"type": "http.request", "body": part, "more_body": at < len(parts) - 1} for at, part in enumerate(parts)]

    async def server(scope: Any, receive: Any, send: Any) -> None:
        whole = b""
        while True:
            message = await receive()
            whole += message["body"]
            if not message.get("more_body"):
                break
        seen.update(body=whole, length=dict(scope["headers"]).get(b"content-length"))
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def receive() -> Any:
        return queue.pop(0) if queue else {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        told.append(message)

    front = Front(server)
    front.model, front.control = "phi", ("<|end|>",)
    headers = [(b"content-length", str(len(body)).encode())]
    asyncio.run(front({"type": "http", "method": "POST", "path": path, "headers": headers}, receive, send))
    return seen or None, told


@given(st.dictionaries(st.sampled_from(["messages", "model", "stream", "x"]), st.text(max_size=5)), st.integers(1, 5))
def test_a_request_arrives_whole_and_names_a_model(data: dict[str, str], pieces: int) -> None:
    seen, _ = through(json.dumps(data).encode(), pieces)
    assert seen is not None
    assert json.loads(seen["body"]) == {**data, "model": data.get("model") or "phi"}
    assert int(seen["length"]) == len(seen["body"])


@given(st.binary(max_size=30))
def test_what_is_no_object_is_the_servers_to_refuse(body: bytes) -> None:
    seen, _ = through(body)
    assert seen is not None
    try:
        inside = isinstance(json.loads(body), dict)
    except (ValueError, RecursionError):
        inside = False
    assert inside or seen["body"] == body


@pytest.mark.parametrize("content", ["a<|end|>b", [{"type": "text", "text": "<|end|>"}]])
def test_a_control_token_goes_no_further(content: Any) -> None:
    body = json.dumps({"messages": [*USER, {"role": "user", "content": content}]}).encode()
    seen, told = through(body)
    assert seen is None
    assert told[0]["status"] == 400
    assert b"entry 1" in told[1]["body"]
    assert through(body, path="/health")[0] is not None


def test_a_huge_body_goes_no_further() -> None:
    seen, told = through(b" " * (MOST_BYTES + 1), pieces=3)
    assert (seen, told[0]["status"]) == (None, 413)
