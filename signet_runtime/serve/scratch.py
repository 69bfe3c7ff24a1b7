"""Where uploads lie while they are read: a private directory, which is gone when its server is, however that ended."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from signet_runtime.errors import OutputError

_PREFIX = "signet-serve."
_LOCK = "owner.lock"
_YOUNG = 60.0  # seconds for which a directory without a lock may be one that is just being made


@contextlib.contextmanager
def scratch_directory(parent: Path | None = None) -> Iterator[Path]:
    """Yield a new directory that nobody else may read, and remove it when the block ends.

    A lock of the operating system says whose it is, and is gone with its process, also after ``kill -9``: what such
    servers left in ``parent`` is removed first.

    Raises:
        OutputError: it cannot be made.
    """
    from filelock import FileLock

    parent = Path(tempfile.gettempdir()) if parent is None else parent
    remove_orphans(parent)
    try:
        directory = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))  # mode 0700
        lock = FileLock(directory / _LOCK)
        lock.acquire(timeout=0)
    except OSError as error:
        raise OutputError(f"{parent}: uploads cannot be kept there ({error.strerror}); give another --temp") from error
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)
        lock.release(force=True)
        shutil.rmtree(directory, ignore_errors=True)


def remove_orphans(parent: Path) -> int:
    """Remove the directories of servers that are no more; return how many there were."""
    removed = 0
    for directory in parent.glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):
            removed += _remove_orphan(directory)
    return removed


def _remove_orphan(directory: Path) -> bool:
    from filelock import FileLock, Timeout

    status = directory.lstat()
    mine = not hasattr(os, "getuid") or status.st_uid == os.getuid()
    if not stat.S_ISDIR(status.st_mode) or not mine:  # a link, or somebody else's, is not ours to follow
        return False
    if not (directory / _LOCK).exists():
        if time.time() - status.st_mtime < _YOUNG:
            return False
        shutil.rmtree(directory, ignore_errors=True)
        return True
    lock = FileLock(directory / _LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return False
    try:
        shutil.rmtree(directory, ignore_errors=True)
    finally:
        lock.release(force=True)
        shutil.rmtree(directory, ignore_errors=True)
    return True


@contextlib.contextmanager
def upload_directory(scratch: Path) -> Iterator[Path]:
    """Yield a directory of one request in a server's own, and remove it when the block ends."""
    directory = Path(tempfile.mkdtemp(prefix="upload.", dir=scratch))
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)
