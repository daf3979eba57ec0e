"""The request log keeps the traffic and never a secret."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.identity import Tokens
from emulator.request_log import BODY_LIMIT, SECRET_KEYS, readable, redact

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text("abc ", max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("xyz"), inner, max_size=3),
    max_leaves=10,
)


@given(PLAIN)
def test_what_holds_no_secret_is_kept_as_it_is(value: object) -> None:
    assert redact(value) == value
    assert readable(json.dumps(value).encode()) == value


@given(PLAIN, st.sampled_from(sorted(SECRET_KEYS)), st.sampled_from([str.lower, str.upper, str.title]))
def test_secrets_under_telling_names_go_wherever_they_are(value: object, name: str, case: object) -> None:
    body = {"a": [value, {case(name): "s3cr3t-value"}]}  # type: ignore[operator]
    assert "s3cr3t-value" not in json.dumps(readable(json.dumps(body).encode()))


def test_tokens_and_signatures_go_wherever_they_stand(tmp_path: Path) -> None:
    token = Tokens(tmp_path, "t").mint("https://management.azure.com", "c")
    sas = "https://a.blob.core.windows.net/c?se=2026&sp=r&sig=abc%2Bdef%3D"
    kept = json.dumps(redact({"log": f"Authorization: Bearer {token} and {sas}"}))
    assert token.split(".")[2] not in kept
    assert "abc%2Bdef" not in kept
    assert "se=2026" in kept


@pytest.mark.parametrize("body", [b"\x00\xff", b"not json", b"x" * (BODY_LIMIT + 1)])
def test_other_bodies_leave_only_their_size(body: bytes) -> None:
    assert readable(body) == f"<{len(body)} bytes>"


@pytest.mark.slow
def test_no_secret_of_the_emulator_is_in_its_log(ml_client: object, emulator_home: Path) -> None:
    ml_client.datastores.get("workspaceblobstore", include_secrets=True)  # type: ignore[attr-defined]
    ml_client.workspaces.get("ws-mlops")  # type: ignore[attr-defined]
    text = (emulator_home / "requests.jsonl").read_text()
    kept = json.loads((emulator_home / "settings.json").read_text())
    assert "listSecrets" in text
    for secret in (kept["storage_key"], kept["identity_secret"], "eyJ"):
        assert secret not in text
    assert "sig=" not in text.replace("sig=<signature>", "")
