"""The proxy fails closed: only emulated hosts, only CONNECT to port 443, only loopback behind it."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from emulator import proxy
from emulator.proxy import Table, decide

TABLE = Table(account="acct", region="eastus2", blob_port=1001, server_port=1002)
SERVED = {
    "management.azure.com": 1002,
    "login.microsoftonline.com": 1002,
    "eastus2.api.azureml.ms": 1002,
    "eastus2.metrics.monitor.azure.com": 1002,
    "api.loganalytics.io": 1002,
    "api.loganalytics.azure.com": 1002,
    "my-endpoint.eastus2.inference.ml.azure.com": 1002,
    "acct.blob.core.windows.net": 1001,
}
SUFFIXES = (".azure.com", ".azureml.ms", ".microsoftonline.com", ".blob.core.windows.net", ".inference.ml.azure.com")


@pytest.mark.parametrize(("host", "port"), SERVED.items())
def test_emulated_hosts_go_to_their_loopback_port(host: str, port: int) -> None:
    assert decide(f"CONNECT {host}:443 HTTP/1.1", TABLE).port == port
    assert decide(f"CONNECT {host.upper()}:443 HTTP/1.1", TABLE).port == port


@pytest.mark.parametrize(
    "line",
    [
        "CONNECT example.com:443 HTTP/1.1",
        "CONNECT management.azure.com:80 HTTP/1.1",
        "CONNECT management.azure.com HTTP/1.1",
        "CONNECT management.azure.com.example.com:443 HTTP/1.1",
        "CONNECT evil-management.azure.com:443 HTTP/1.1",
        "CONNECT managementxazure.com:443 HTTP/1.1",
        "CONNECT other.blob.core.windows.net:443 HTTP/1.1",
        "CONNECT ep.westus.inference.ml.azure.com:443 HTTP/1.1",
        "CONNECT a.b.api.azureml.ms:443 HTTP/1.1",
        "CONNECT westus.metrics.monitor.azure.com:443 HTTP/1.1",
        "CONNECT metrics.monitor.azure.com:443 HTTP/1.1",
        "CONNECT x.api.loganalytics.io:443 HTTP/1.1",
        "CONNECT api.loganalytics.com:443 HTTP/1.1",
        "CONNECT graph.microsoft.com:443 HTTP/1.1",
        "CONNECT 127.0.0.1:443 HTTP/1.1",
        "CONNECT dc.services.visualstudio.com:443 HTTP/1.1",
        "GET http://management.azure.com/ HTTP/1.1",
        "GET http://169.254.169.254/metadata/identity HTTP/1.1",
        "POST http://eastus2.api.azureml.ms/x HTTP/1.1",
        "connect management.azure.com:443 HTTP/1.1",
        "",
    ],
)
def test_everything_else_is_refused(line: str) -> None:
    decision = decide(line, TABLE)
    assert decision.port is None
    assert decision.reason


HOSTISH = st.text("abc.-:/@%0123456789[]", max_size=20)


@given(st.builds(lambda left, right: left + right, HOSTISH, st.sampled_from(("", *SUFFIXES))), st.integers(0, 70000))
@example("management.azure.com@example.com", 443)
def test_whatever_is_asked_only_the_two_ports_are_ever_reached(host: str, port: int) -> None:
    decision = decide(f"CONNECT {host}:{port} HTTP/1.1", TABLE)
    assert decision.port in (None, 1001, 1002)
    assert (decision.port is None) == (decision.reason is not None)
    if port != 443:
        assert decision.port is None


@given(st.text(max_size=60))
def test_no_line_breaks_it(line: str) -> None:
    decision = decide(line, TABLE)
    assert decision.port is None or line.startswith("CONNECT ")


def exchange(tmp_path: Path, sent: bytes, monkeypatch: pytest.MonkeyPatch) -> tuple[bytes, list[tuple[str, int]], Path]:
    """Send bytes through a real proxy before an upper-casing server: (answer, connections made, refused.jsonl)."""
    reached: list[tuple[str, int]] = []
    real = asyncio.open_connection
    refused = tmp_path / "refused.jsonl"

    async def watched(host: str, port: int, **options: int) -> object:
        reached.append((host, port))
        return await real(host, port, **options)

    async def upper(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write((await reader.read(100)).upper())
        writer.close()

    async def talk() -> bytes:
        behind = await asyncio.start_server(upper, "127.0.0.1", 0)
        port = behind.sockets[0].getsockname()[1]
        front = await asyncio.start_server(
            proxy.make_handler(Table("acct", "eastus2", port, port), refused), "127.0.0.1", 0
        )
        reader, writer = await real("127.0.0.1", front.sockets[0].getsockname()[1])
        monkeypatch.setattr(asyncio, "open_connection", watched)
        writer.write(sent)
        answer = b""
        if sent.startswith(b"CONNECT acct"):
            answer = await reader.readuntil(b"\r\n\r\n")
            writer.write(b"hello")
        answer += await asyncio.wait_for(reader.read(), 5)
        writer.close()
        front.close()
        behind.close()
        return answer

    return asyncio.run(talk()), reached, refused


def test_bytes_pass_both_ways(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    request = b"CONNECT acct.blob.core.windows.net:443 HTTP/1.1\r\nHost: x\r\n\r\n"
    answer, reached, refused = exchange(tmp_path, request, monkeypatch)
    assert answer == b"HTTP/1.1 200 Connection established\r\n\r\nHELLO"
    assert [host for host, _ in reached] == ["127.0.0.1"]
    assert not refused.exists()


@pytest.mark.parametrize(
    "request_line", [b"CONNECT pypi.example:443 HTTP/1.1", b"GET http://management.azure.com/?sig=s3cret HTTP/1.1"]
)
def test_a_refusal_connects_to_nothing_and_is_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request_line: bytes
) -> None:
    answer, reached, refused = exchange(tmp_path, request_line + b"\r\nHost: x\r\n\r\n", monkeypatch)
    assert answer.startswith(b"HTTP/1.1 403 ")
    assert reached == []
    record = json.loads(refused.read_text())
    assert record["reason"]
    assert record["request"].split(" ")[0] == request_line.decode().split(" ")[0]
    assert "s3cret" not in refused.read_text()
