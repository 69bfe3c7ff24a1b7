"""Who is at a file: locks that end with their process, however that ends, and what is told of it by name.

A lock is the kernel's (`flock`), so a killed process leaves none behind. Some shared disks keep locks to one machine;
names of temporary files therefore carry the machine, and nobody decides about another machine's.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import platform
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from signet_runtime.errors import OutputError

# A lock counts as long as any process has its descriptor: a loader's workers would keep it when their parent is killed.
_held: set[int] = set()


def _let_go() -> None:
    for descriptor in _held:
        with contextlib.suppress(OSError):
            os.close(descriptor)
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go)


@cache
def machine() -> str:
    """Return eight digits that stand for this machine, by its name in the network."""
    return hashlib.sha256(platform.node().encode(errors="surrogateescape")).hexdigest()[:8]


def lock(descriptor: int) -> None:
    """Lock an open file until it is closed or the process ends, and never wait.

    Raises:
        BlockingIOError: another process, or another descriptor of this one, has it.
        OSError: there are no locks there: Windows, or a file system without.
    """
    if sys.platform == "win32":
        raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))
    import fcntl

    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


@contextlib.contextmanager
def owned(path: Path) -> Iterator[bool]:
    """Make a new empty file, which is this process's while the block runs: see `ownerless`.

    Yields False where somebody who tidies took it for left behind, in the moment before it was locked: take another
    name. Who rewrites the file must not put another in its place before the block ends.

    Raises:
        OSError: it is there already, or cannot be made.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        mine = True
        try:
            lock(descriptor)
            _held.add(descriptor)
            mine = is_still(descriptor, path)
        except BlockingIOError:
            mine = False
        except OSError:
            os.close(descriptor)  # on Windows nobody could rename a file that is open
            descriptor = -1
        yield mine
    finally:
        if descriptor >= 0:
            _held.discard(descriptor)
            os.close(descriptor)


@contextlib.contextmanager
def ownerless(path: Path) -> Iterator[bool]:
    """Yield whether no living process has a file `owned`, and keep it so while the block runs.

    False, too, where that cannot be known.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
    except OSError:
        yield False
        return
    try:
        try:
            lock(descriptor)
            free = is_still(descriptor, path)
        except OSError:
            free = False
        yield free
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def alone_in(directory: Path, advice: str) -> Iterator[None]:
    """Keep other processes out of a directory while the block runs.

    It is made where it is not there, and goes again if nothing comes into it. Its file ``.lock`` is removed at the end;
    what a killed process left is taken over. Where there are no locks, nobody is kept out.

    Args:
        advice: what to do when another process is at it; for the error.

    Raises:
        OutputError: another process is at it, or nothing can be written there.
    """
    path = directory / ".lock"
    made = not directory.exists()
    try:
        directory.mkdir(parents=True, exist_ok=True)
        descriptor = _claim(path)
    except BlockingIOError:
        raise OutputError(f"{directory}: another process is writing there{_who(path)}; {advice}") from None
    except OSError as error:
        raise OutputError(
            f"{directory}: cannot be written ({error.strerror or error}); free space or choose another place"
        ) from error
    try:
        yield
    finally:
        if descriptor is not None:
            with contextlib.suppress(OSError):
                path.unlink()
            _held.discard(descriptor)
            os.close(descriptor)
        if made:
            with contextlib.suppress(OSError):
                directory.rmdir()  # refused where there is something in it


def _claim(path: Path) -> int | None:
    """Return the descriptor of the locked file; None where there are no locks, and no file then."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            lock(descriptor)
            if is_still(descriptor, path):  # else its owner has just ended, and removed it
                _held.add(descriptor)
                os.ftruncate(descriptor, 0)
                os.write(descriptor, f"{os.getpid()} {platform.node()}\n".encode(errors="replace"))
                return descriptor
        except BlockingIOError:
            os.close(descriptor)
            raise
        except OSError as error:
            _held.discard(descriptor)
            os.close(descriptor)
            with contextlib.suppress(OSError):
                path.unlink()
            if error.errno == errno.ENOSPC:
                raise
            return None
        os.close(descriptor)


def _who(path: Path) -> str:
    with contextlib.suppress(OSError, ValueError):
        process, _, host = path.read_text(encoding="utf-8", errors="replace").strip().partition(" ")
        return f" (process {int(process)}{'' if host == platform.node() else f' on {host}'})"
    return ""


def is_still(descriptor: int, path: Path) -> bool:
    """Return whether a path still names the file that a descriptor is of."""
    try:
        there, mine = path.lstat(), os.fstat(descriptor)
    except OSError:
        return False
    return (there.st_dev, there.st_ino) == (mine.st_dev, mine.st_ino)
