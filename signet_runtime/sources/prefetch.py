"""An iterable that works ahead of whoever reads it, in a thread of its own."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from queue import Empty, SimpleQueue
from threading import Thread, current_thread
from typing import Any, TypeVar

T = TypeVar("T")

# How long closing waits for the source to finish the item it is at (s). A source that is stuck, as one that reads
# from a camera that has stalled, is left to its thread, which does not keep the process alive.
_PATIENCE = 1.0

_WATCH = 0.2  # seconds


def prefetch(items: Iterable[T], depth: int) -> Generator[T]:
    """Yield an iterable's items in their order, made in another thread while the reader is busy with earlier ones.

    The thread starts when the first item is asked for. Where the reader stops early, closes this generator or drops
    it, the thread ends after the item it is at, and closes the source, if that can be closed, where it ran.

    Args:
        items: nobody else may read it meanwhile.
        depth: how many items, at least 1, there may be beyond the one that the reader has; then the source rests.

    Raises:
        Exception: of the source, in the place of the item that could not be made.
    """
    worker = _Worker(items, depth)
    worker.thread.start()
    try:
        while True:
            last, item = worker.wait()
            if last:
                break
            worker.room.put(None)
            yield item
            del item  # how long it lives is the reader's to say, not the next one's
        if item is not None:
            raise item
    finally:
        worker.stop()


class _Worker:
    # Both queues are simple ones, which may be used at any time: the reader may be dropped, and so stop this, in a
    # garbage collection within any call of either thread.
    def __init__(self, items: Iterable[Any], depth: int) -> None:
        if depth < 1:
            raise ValueError(f"depth {depth}: at least one item must be made ahead")
        self._items = items
        self._stopped = False
        self.made: SimpleQueue[tuple[bool, Any]] = SimpleQueue()  # not the last, and an item; the last, and its error
        self.room: SimpleQueue[None] = SimpleQueue()  # an entry for every item that may be made, but for the first
        for _ in range(depth - 1):
            self.room.put(None)
        self.thread = Thread(target=self._run, name="prefetch", daemon=True)

    def wait(self) -> tuple[bool, Any]:
        # In short waits: a signal that another thread takes is answered by the main one, which it does not wake.
        while True:
            try:
                return self.made.get(timeout=_WATCH)
            except Empty:
                continue

    def stop(self) -> None:
        self._stopped = True
        self.room.put(None)  # it may be waiting for room
        if self.thread is not current_thread():
            self.thread.join(_PATIENCE)

    def _run(self) -> None:
        try:
            self._make()
        except BaseException as error:  # whatever it is, it is the reader's
            self.made.put((True, error))
        else:
            self.made.put((True, None))

    def _make(self) -> None:
        source = iter(self._items)
        try:
            for item in source:
                self.made.put((False, item))
                del item  # not one more than the reader knows of
                self.room.get()
                if self._stopped:
                    return
        finally:
            close = getattr(source, "close", None)
            if close is not None:
                close()
