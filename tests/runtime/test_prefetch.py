"""Items made ahead come in order and in bounded number, with their errors, and nothing outlives the reader."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from signet_runtime.sources.prefetch import prefetch

SOON = 5.0  # s; whatever is waited for happens within milliseconds


def wait_for(condition: Callable[[], bool]) -> bool:
    end = time.monotonic() + SOON
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.002)
    return True


class Source:
    """Numbers, up to an error if one is given, that says how far it got, in which thread, and where it was closed."""

    def __init__(self, count: int = 10**9, error: BaseException | None = None) -> None:
        self.count, self.error = count, error
        self.made = 0
        self.ran_in: threading.Thread | None = None
        self.closed_in: threading.Thread | None = None

    def __iter__(self) -> Iterator[int]:
        self.ran_in = threading.current_thread()
        try:
            for n in range(self.count):
                self.made = n + 1
                yield n
            if self.error is not None:
                raise self.error
        finally:
            self.closed_in = threading.current_thread()

    def ended(self) -> bool:
        return self.closed_in is not None and not self.closed_in.is_alive()


@given(st.lists(st.integers()), st.integers(1, 7))
@settings(max_examples=50, deadline=None)
def test_the_same_items_in_the_same_order(items, depth):
    assert list(prefetch(items, depth)) == items


@given(st.integers(0, 12), st.integers(1, 5))
@settings(max_examples=30, deadline=None)
def test_an_error_comes_after_the_items_before_it(count, depth):
    source = Source(count, OSError("unplugged"))
    seen = []
    with pytest.raises(OSError, match="unplugged") as error:
        for item in prefetch(source, depth):
            seen.append(item)
    assert seen == list(range(count))
    assert "__iter__" in [entry.name for entry in error.traceback]  # where in the source, not only where it was read


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3), GeneratorExit()])
def test_errors_that_are_no_exceptions_are_the_readers_too(error):
    with pytest.raises(type(error)):
        list(prefetch(Source(1, error), 1))


@pytest.mark.parametrize("depth", [1, 2, 5])
def test_never_more_than_so_many_ahead(depth):
    source = Source()
    items = prefetch(source, depth)
    for read in range(1, 5):
        next(items)
        assert wait_for(lambda read=read: source.made == read + depth)
        time.sleep(0.02)
        assert source.made == read + depth
    items.close()
    with pytest.raises(ValueError, match="depth 0"):
        next(prefetch(source, 0))


def test_nothing_runs_before_the_first_item_is_asked_for():
    source = Source()
    items = prefetch(source, 3)
    time.sleep(0.02)
    assert source.made == 0
    next(items)
    assert source.ran_in is not threading.current_thread()
    items.close()


def test_making_and_reading_overlap():
    barrier = threading.Barrier(2, timeout=SOON)  # passed only by both at once

    def source() -> Iterator[int]:
        yield 0
        for n in range(1, 5):
            barrier.wait()
            yield n

    for n in prefetch(source(), 1):
        if n < 4:
            barrier.wait()


@pytest.mark.parametrize("read", [1, 4])
def test_closing_ends_the_thread_at_once_and_the_source_in_it(read):
    source = Source()
    items = prefetch(source, 2)
    for _ in range(read):
        next(items)
    assert wait_for(lambda: source.made == read + 2)  # and it waits for room
    started = time.perf_counter()
    items.close()
    assert time.perf_counter() - started < 0.5
    assert source.ended() and source.closed_in is source.ran_in


def test_a_reader_that_fails_or_forgets_ends_the_thread():
    source = Source()

    def fail() -> None:
        for _ in prefetch(source, 2):
            raise RuntimeError("the reader's own")

    with pytest.raises(RuntimeError, match="the reader's own"):
        fail()
    assert wait_for(source.ended)

    source = Source()
    cycle = [prefetch(source, 2)]
    next(cycle[0])
    cycle.append(cycle)  # only a garbage collection finds it
    del cycle
    gc.collect()
    assert wait_for(source.ended)


def test_items_are_let_go():
    class Item:
        pass

    alive: weakref.WeakSet[Item] = weakref.WeakSet()

    def source() -> Iterator[Item]:
        for _ in range(20):
            item = Item()
            alive.add(item)
            yield item
            del item

    for _item in prefetch(source(), 2):
        assert len(alive) <= 4  # the reader's last one until it has the next, and two ahead


def test_a_stuck_source_does_not_hold_up_the_reader_for_long():
    stuck = threading.Event()

    def source() -> Iterator[int]:
        yield 1
        stuck.wait()

    items = prefetch(source(), 1)
    next(items)
    started = time.perf_counter()
    items.close()
    assert time.perf_counter() - started < 2
    stuck.set()


def test_interrupting_a_process_that_reads_ends_it():
    code = """
import itertools, os, signal, threading, time
from signet_runtime.sources.prefetch import prefetch
def slow():
    for n in itertools.count():
        yield n
        time.sleep(0.01 if n < 3 else 60)
threading.Timer(0.3, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
for n in prefetch(slow(), 2):  # blocked in the fourth item when the signal comes
    pass
"""
    started = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == -2 and done.stderr.rstrip().endswith("KeyboardInterrupt")
    assert time.monotonic() - started < 10
