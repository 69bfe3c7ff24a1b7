"""What a fuzz target is: a parser as a function of bytes, valid inputs to start from, changes that keep its form."""

from __future__ import annotations

import atexit
import os
import random
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

Edit = Callable[[random.Random, bytes], bytes]


@dataclass(frozen=True)
class Target:
    """A parser of outside data.

    Attributes:
        name: as `--target` takes it, and the folder of its findings in `corpus`.
        parse: takes an input. It returns, or raises the project's error; anything else is a finding.
        seeds: valid inputs, small ones.
        edit: a change that the container's checksums and lengths survive; None where bytes have none.
        share: inputs of it in the slice that continuous integration runs.
    """

    name: str
    parse: Callable[[bytes], object]
    seeds: Callable[[], list[bytes]]
    edit: Edit | None = None
    share: int = 400


_scratch: tuple[int, Path] | None = None


def scratch() -> Path:
    """Return a directory of this process, which goes when it ends."""
    global _scratch
    if _scratch is None or _scratch[0] != os.getpid():
        memory = Path("/dev/shm")
        where = memory if os.access(memory, os.W_OK) else None
        _scratch = (os.getpid(), Path(tempfile.mkdtemp(prefix="signet-fuzz-", dir=where)))
        atexit.register(discard_scratch)
    return _scratch[1]


def discard_scratch() -> None:
    """Remove this process' directory."""
    if _scratch is not None and _scratch[0] == os.getpid():
        shutil.rmtree(_scratch[1], ignore_errors=True)


def as_file(data: bytes, name: str) -> Path:
    """Write an input where a parser that takes a path finds it; the next one of that name takes its place."""
    path = scratch() / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path
