"""What the train itself asks of an endpoint, and reads, in each shape that a tier may have."""

import json
from typing import Any

import httpx
import pytest

from scripts import azure_ml, endpoint, tiers
from scripts.shapes import SHAPES

TALK = [{"role": "system", "content": "S"}, {"role": "user", "content": "Q"}]
SENT: dict[str, dict[str, Any]] = {
    "openai": {"user": "release-train", "messages": TALK, "temperature": 0, "max_tokens": 9},
    "foundry": {
        "input_data": {
            "input_string": TALK,
            "parameters": {"temperature": 0, "max_new_tokens": 9, "do_sample": False},
        }
    },
}
REPLIES = {
    "openai": [{"choices": [{"message": {"content": "4"}}]}],
    "foundry": [{"output": "4"}, ["4"], [{"0": "4"}]],
}


def asking(monkeypatch: pytest.MonkeyPatch, shape: str, reply: Any) -> tuple[str, dict[str, Any]]:
    """What was understood of the reply, and what had been sent."""
    seen = []

    def answered(request: httpx.Request) -> httpx.Response:
        seen.append(json.loads(request.content))
        return httpx.Response(200, json=reply)

    token = type("Signed", (), {"get_token": lambda *_: type("Token", (), {"token": "t"})})
    monkeypatch.setattr(azure_ml, "credential", token)
    with endpoint.Requests("https://e/score", shape=shape) as requests:
        requests._http = httpx.Client(transport=httpx.MockTransport(answered))
        said = requests.ask({"messages": TALK, "temperature": 0, "max_tokens": 9}, "green")[1]
    return said, seen[0]


@pytest.mark.parametrize(("shape", "reply"), [(shape, reply) for shape in SHAPES for reply in REPLIES[shape]])
def test_it_asks_and_reads_in_the_tiers_shape(monkeypatch: pytest.MonkeyPatch, shape: str, reply: Any) -> None:
    assert asking(monkeypatch, shape, reply) == ("4", SENT[shape])


@pytest.mark.parametrize("reply", [{}, [], [{}], {"choices": []}, 1, None])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_reply_of_another_shape_says_nothing(monkeypatch: pytest.MonkeyPatch, shape: str, reply: Any) -> None:
    assert asking(monkeypatch, shape, reply)[0] == ""


def test_every_tier_has_a_shape_that_there_is() -> None:
    assert {tier.shape for tier in tiers.load().tiers.values()} == set(SHAPES)
