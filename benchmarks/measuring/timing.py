"""Clocks and memory: alternatives in turns, round after round, so that a machine that drifts drifts for all of them."""

from __future__ import annotations

import contextlib
import ctypes
import re
import resource
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from benchmarks.measuring.report import Size, Timing
from signet_export.bundle import available_memory
from signet_runtime.errors import first_line

# ONNX Runtime's threads spin for up to 0.11 s after their last work, on the cores that the next way needs (s).
_SETTLE = 0.15

# Memory that is left to the rest of the machine (bytes).
_SPARE = 2**30

_RESET_PEAK = "5"  # for /proc/PID/clear_refs, see proc(5)


@dataclass
class Way:
    """One way of doing something.

    Attributes:
        run: does it once.
        owned: bytes of the weights that it reads, which lie in memory before it runs.
        after: puts things back, outside of the clock.
        memory: what it takes while it runs, its weights included.
    """

    name: str
    run: Callable[[], object]
    owned: int = 0
    after: Callable[[], object] = lambda: None
    timing: Timing = field(default_factory=Timing)
    memory: Size = field(default_factory=Size)


def in_turns(
    ways: Sequence[Way], rounds: int, device: torch.device, tell: Callable[[str], None] = lambda line: None
) -> None:
    """Run every way once to warm up, which shows its memory, and then all of them in every round.

    A way that cannot run says why in its timing, and the others go on.
    """
    for way in ways:
        tell(f"{way.name}: warming up")
        try:
            with _within_memory(), peak_memory(way.memory, way.owned, device):
                way.run()
        except (RuntimeError, MemoryError) as error:  # no memory, or a type that a kernel lacks
            reason = first_line(error)
            way.timing.problem = "takes more memory than is free" if "alloc" in reason else reason
        way.after()
    for number in range(rounds):
        for way in ways:
            if way.timing.problem:
                continue
            tell(f"{way.name}: round {number + 1} of {rounds}")
            way.timing.seconds.append(seconds(way.run, device))
            way.after()


@contextlib.contextmanager
def _within_memory() -> Iterator[None]:
    """While the block is open, more memory than is free cannot be had: an error, where the system would kill us."""
    free, used = available_memory(), _status("VmData")
    if free is None or used is None:
        yield
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    limit = used + max(0, free - _SPARE)
    resource.setrlimit(resource.RLIMIT_DATA, (limit if soft == resource.RLIM_INFINITY else min(limit, soft), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def seconds(run: Callable[[], object], device: torch.device) -> float:
    """Of one run: between two events on a GPU, else by the clock."""
    time.sleep(_SETTLE)
    if device.type == "cuda":
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize(device)
        start.record()
        run()
        end.record()
        torch.cuda.synchronize(device)
        return start.elapsed_time(end) / 1000
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


@contextlib.contextmanager
def peak_memory(size: Size, owned: int, device: torch.device) -> Iterator[None]:
    """Measure the most that the block adds to what the process holds, and ``owned``; on a GPU to what that holds.

    One process holds the weights of everything that is compared, so what a way adds tells more than the process' size.
    """
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        yield
        size.bytes = owned + torch.cuda.max_memory_allocated(device) - before
        return
    _give_back()
    resting = _reset_peak()
    yield
    most = _status("VmHWM")
    if resting is not None and most is not None:
        size.bytes = owned + max(0, most - resting)


def _give_back() -> None:
    """Freed memory that the C library keeps would hide what is allocated next."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def _reset_peak() -> int | None:
    """Bytes that the process holds now, from where its peak is counted anew; None where only Linux would tell."""
    try:
        Path("/proc/self/clear_refs").write_text(_RESET_PEAK)
    except OSError:
        return None
    return _status("VmRSS")


def _status(name: str) -> int | None:
    try:
        found = re.search(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    except OSError:
        return None
    return int(found[1]) * 1024 if found else None
