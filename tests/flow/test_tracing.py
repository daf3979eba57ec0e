"""Spans are made when asked for, say how it went, and hold no word of what was said."""

import pytest
from asking import ask, sign_in, stream, tracing
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from tests.flow.conftest import END, chunk

ASKED = [{"role": "user", "content": "My secret is 4711."}]


@pytest.fixture
def spans(monkeypatch, endpoint):
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "get_tracer", provider.get_tracer)
    monkeypatch.setattr(sign_in, "token", lambda: "a-token")
    monkeypatch.setenv("ENDPOINT_SCORING_URI", endpoint.uri)
    return exporter.get_finished_spans


def test_off_unless_asked(spans, monkeypatch):
    monkeypatch.delenv("FLOW_TRACING", raising=False)
    ask(ASKED)
    assert spans() == ()


def test_a_span_says_how_it_went_and_no_word(spans, monkeypatch, endpoint):
    monkeypatch.setenv("FLOW_TRACING", "on")
    ask(ASKED)
    endpoint.replies = [(200, {"azureml-model-deployment": "blue"}, [chunk("4711"), END])]
    list(stream(ASKED))
    abandoned = stream(ASKED)
    next(abandoned)
    abandoned.close()
    endpoint.replies = [(400, {}, "4711")]
    ask(ASKED)
    told = [(span.name, span.attributes["asking.status"], span.attributes.get("asking.deployment")) for span in spans()]
    assert told == [
        ("ask", "ok", ""),
        ("stream", "ok", "blue"),
        ("stream", "abandoned", None),
        ("ask", "model_error", ""),
    ]
    assert "4711" not in "".join(span.to_json() for span in spans())
    assert [span.status.is_ok for span in spans()] == [True, True, True, False]


def test_a_wrong_setting_is_said(spans, monkeypatch):
    monkeypatch.setenv("FLOW_TRACING", "yes")
    with pytest.raises(ValueError, match="FLOW_TRACING"):
        tracing.begin("x")
    assert spans() == ()
