"""What a piece of work takes in a process of its own: seconds, and memory that nobody shares."""

from __future__ import annotations

import multiprocessing
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import psutil


def anonymous_mb(pid: int | str = "self") -> float:
    """Return the MB of a process that no file has (RssAnon): its own, whatever others do."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("RssAnon"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("no RssAnon: this is not Linux")


@dataclass
class Taken:
    """Seconds; and MB more than before, at most meanwhile and when it was done, in the process or any it forked."""

    seconds: float = 0.0
    peak: float = 0.0
    after: float = 0.0


@contextmanager
def taken() -> Iterator[Taken]:
    """Measure the block."""
    found, done = Taken(), threading.Event()
    before = anonymous_mb()

    def now() -> float:
        own = [anonymous_mb()]
        for child in psutil.Process().children():
            try:
                own.append(anonymous_mb(child.pid))
            except (OSError, RuntimeError):  # it has ended
                continue
        return max(own) - before

    def watch() -> None:
        while not done.wait(0.01):
            found.peak = max(found.peak, now())

    watcher = threading.Thread(target=watch)
    watcher.start()
    began = time.perf_counter()
    try:
        yield found
    finally:
        found.seconds = time.perf_counter() - began
        found.after = now()
        done.set()
        watcher.join()
        found.peak = max(found.peak, found.after)


def apart(work: Callable[[], Taken]) -> Taken:
    """Do picklable work in a fresh process, and return what it took."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_send, args=(theirs, work))
    process.start()
    theirs.close()
    found: Taken = ours.recv()
    process.join()
    return found


def _send(pipe: Connection, work: Callable[[], Taken]) -> None:
    multiprocessing.set_start_method("fork", force=True)  # as in any other process: it is not inherited
    pipe.send(work())
