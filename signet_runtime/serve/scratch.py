"""Where uploads lie while they are read: a private directory, which is gone when its server is, however that ended."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

from signet_runtime.errors import OutputError
from signet_runtime.locks import owned, ownerless

_PREFIX = "signet-serve."
_LOCK = "owner.lock"


@contextlib.contextmanager
def scratch_directory(parent: Path | None = None) -> Iterator[Path]:
    """Yield a new directory that nobody else may read, and remove it when the block ends.

    A lock of the operating system says whose it is, and is gone with its process, also after ``kill -9``: what such
    servers left in ``parent`` is removed first. Where there are no locks, nothing is.

    Raises:
        OutputError: it cannot be made.
    """
    parent = Path(tempfile.gettempdir()) if parent is None else parent
    remove_orphans(parent)
    with contextlib.ExitStack() as stack:
        try:
            directory = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))  # mode 0700
            stack.callback(shutil.rmtree, directory, ignore_errors=True)
            stack.enter_context(owned(directory / _LOCK))
        except OSError as error:
            raise OutputError(
                f"{parent}: uploads cannot be kept there ({error.strerror}); give another --temp"
            ) from error
        yield directory


def remove_orphans(parent: Path) -> int:
    """Remove the directories of servers that are no more; return how many there were."""
    removed = 0
    for directory in parent.glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):
            removed += _remove_orphan(directory)
    return removed


def _remove_orphan(directory: Path) -> bool:
    status = directory.lstat()
    mine = not hasattr(os, "getuid") or status.st_uid == os.getuid()
    if not stat.S_ISDIR(status.st_mode) or not mine:  # a link, or somebody else's, is not ours to follow
        return False
    with ownerless(directory / _LOCK) as orphan:
        if orphan:
            shutil.rmtree(directory, ignore_errors=True)
        return orphan


@contextlib.contextmanager
def upload_directory(scratch: Path) -> Iterator[Path]:
    """Yield a directory of one request in a server's own, and remove it when the block ends."""
    directory = Path(tempfile.mkdtemp(prefix="upload.", dir=scratch))
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)
