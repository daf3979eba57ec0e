"""Who is let in, who is told to come back, and when."""

import contextlib
import threading

import pytest
from admission import LONGEST_SECONDS, Admission, Full
from hypothesis import given
from hypothesis import strategies as st


@given(st.integers(1, 8), st.integers(0, 8), st.lists(st.integers(1, 5), max_size=20))
def test_never_more_than_one_request_over_the_limit(rows: int, queued: int, requests: list[int]) -> None:
    admission, inside = Admission(rows, queued), 0
    with contextlib.ExitStack() as held:
        for answers in requests:
            try:
                held.enter_context(admission.place(answers))
            except Full as full:
                assert inside >= rows + queued
                assert not full.closing
            else:
                assert inside < rows + queued
                inside += answers
        assert admission.inside == inside
    assert admission.inside == 0


def test_a_place_is_given_back_when_a_request_fails() -> None:
    admission = Admission(1, 0)
    with pytest.raises(KeyError), admission.place(1):
        raise KeyError
    assert admission.inside == 0


@given(st.integers(1, 16), st.integers(0, 64), st.lists(st.floats(0.001, 500), min_size=1, max_size=20))
def test_the_wait_is_whole_seconds_and_grows_with_the_queue(rows: int, waiting: int, took: list[float]) -> None:
    admission = Admission(rows, 64)
    for seconds in took:
        admission.measured(seconds)
    assert min(took) * 0.999 <= admission.seconds <= max(took) * 1.001
    admission.inside = rows + waiting
    wait = admission.wait()
    assert wait == int(wait) and 1 <= wait <= LONGEST_SECONDS
    admission.inside += rows
    assert admission.wait() >= wait


def test_the_wait_is_what_the_queue_takes() -> None:
    admission = Admission(rows=4, queued=16, seconds=10.0)
    admission.inside = 4 + 7  # with the one that asks eight wait, and four go every ten seconds
    assert admission.wait() == 20


def test_a_closed_server_takes_nobody_and_keeps_whom_it_has() -> None:
    admission = Admission(4, 4)
    with admission.place(1):
        admission.closed = True
        with pytest.raises(Full) as caught, admission.place(1):
            pass
        assert caught.value.closing
        assert admission.inside == 1


def test_many_threads_leave_it_empty() -> None:
    admission = Admission(2, 2)

    def ask() -> None:
        for _ in range(300):
            with contextlib.suppress(Full), admission.place(1):
                assert admission.inside <= 4

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert admission.inside == 0
