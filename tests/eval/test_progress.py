"""What a long run says of itself, on a terminal and off it."""

import io
import sys

import pytest

from eval.progress import Reporter, duration


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr("eval.progress.time.monotonic", lambda: now[0])
    return now


def test_a_line_every_ten_seconds_with_rate_and_time_left(monkeypatch, clock):
    out = io.StringIO()
    monkeypatch.setattr(sys, "stderr", out)
    report = Reporter("Asking green", 100, 20)
    for done in range(20, 101):
        report(done)
        clock[0] += 0.5
    lines = out.getvalue().splitlines()
    assert lines[0] == "Asking green 40/100, 2/s, 30 s left", "those that were there before are not of the rate"
    assert lines[-1] == "Asking green 100/100, 2/s" and len(lines) == 4


def test_a_bar_on_a_terminal(monkeypatch, clock):
    out = Terminal()
    monkeypatch.setattr(sys, "stderr", out)
    report = Reporter("Asking", 4)
    report(0)
    clock[0] += 2
    report(1)
    assert out.getvalue().split("\r")[-1].startswith("Asking ━━━━━━━━╌") and "1/4, 0.5/s, 6 s left" in out.getvalue()
    report(4)
    assert out.getvalue().endswith("4/4, 2/s\x1b[K\n")


def test_quiet_is_silent(monkeypatch):
    monkeypatch.setattr(sys, "stderr", out := io.StringIO())
    report = Reporter("Asking", 1, quiet=True)
    report(1)
    report.say("something")
    assert out.getvalue() == ""


@pytest.mark.parametrize(("seconds", "said"), [(9.4, "9 s"), (65, "1:05"), (3725, "1:02:05"), (0, "0 s")])
def test_duration(seconds, said):
    assert duration(seconds) == said
