"""The scoring route under a fuzzer that reads the server's own OpenAPI description (schemathesis), and under rubbish.

Whatever comes: a reply that the description knows, never a 5xx, never a worker that dies.
"""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from real_server import Server, serve
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from tiny_models import make_model, make_tokenizer

pytestmark = pytest.mark.slow
QUICK = settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)

# Not whether a wrong request is refused: fields that contradict each other fit a JSON schema too.
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    root = tmp_path_factory.mktemp("fuzzed")
    make_model("llama").save_pretrained(root / "tiny")
    make_tokenizer().save_pretrained(root / "tiny")
    limits = {"MAX_OUTPUT_TOKENS": "8", "DEFAULT_MAX_TOKENS": "4", "CONTENT_FILTER": "local"}
    with serve(root, root / "log", **limits) as server:
        yield server
        assert len(server.workers()) == 1
        assert "a request failed" not in server.log.read_text()


@pytest.fixture(scope="module")
def route(server: Server) -> Any:
    described = httpx.get(f"{server.url}/swagger.json", params={"version": "3"}).json()
    schema = schemathesis.openapi.from_dict(described)
    return schema["/score"]["POST"], server.url


def test_what_the_description_allows_and_what_it_does_not_gets_a_reply_that_it_knows(route: Any) -> None:
    operation, url = route

    @given(case=operation.as_strategy())
    @QUICK
    def ask(case: Any) -> None:
        case.call_and_validate(base_url=url, checks=CHECKS, timeout=30)

    ask()


@given(body=st.binary(max_size=400))
@QUICK
def test_rubbish_is_the_callers_fault(server: Server, body: bytes) -> None:
    reply = httpx.post(f"{server.url}/score", content=body, headers={"content-type": "application/json"}, timeout=30)
    assert reply.status_code in (400, 413), (body, reply.text)
