"""A span of OpenTelemetry for each call of the endpoint, without a word of what was said. Off unless FLOW_TRACING=on.

Spans go to the tracer provider that the application, `opentelemetry-instrument` or prompt flow has set up; without one
nowhere. (Prompt flow's own tracing, which is another switch, records every input and output: ../README.md.)
"""

import os
from collections.abc import Callable

from .result import Result

End = Callable[[Result | None], None]


def _nothing(_result: Result | None) -> None:
    pass


def begin(name: str) -> End:
    """Start a span; call what comes back at its end, with None where nobody waited for it. Raises ValueError."""
    wanted = os.environ.get("FLOW_TRACING", "") or "off"
    if wanted == "off":
        return _nothing
    if wanted != "on":
        raise ValueError(f"FLOW_TRACING must be on or off, not {wanted[:40]!r}.")
    try:
        from opentelemetry import trace
    except ImportError:
        raise ValueError("FLOW_TRACING is on, but opentelemetry-api is not installed.") from None
    # Not made the current one: a stream's span outlives the frame that began it.
    span = trace.get_tracer("asking").start_span(name)

    def end(result: Result | None) -> None:
        if result is None:
            span.set_attribute("asking.status", "abandoned")
        else:
            told: dict[str, str | float] = {
                "status": result.status,
                "latency_ms": result.latency_ms,
                "tokens": result.tokens,
            }
            told |= {"deployment": result.deployment, "model": result.model, "finish_reason": result.finish_reason}
            span.set_attributes({f"asking.{key}": value for key, value in told.items()})
            if result.status in ("model_error", "infra_error"):
                span.set_status(trace.StatusCode.ERROR)
        span.end()

    return end
