"""Output directories that exist whole or not at all."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from signet_runtime.leftovers import OLD, OWNER, owner_line, sweep, temporary_name
from signet_runtime.locks import owned

_DRAFT = ".draft"
_TAKEN = (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR)
_NO_EXCHANGE = (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EPERM)
_ATTEMPTS = 100


@contextlib.contextmanager
def whole_directory(path: Path, *, replace: bool = True) -> Iterator[Path]:
    """Yield an empty directory that takes the name ``path`` when the block ends without an exception.

    What was there before is replaced, and stays if anything fails. Both change places in one step where the system has
    an exchange; elsewhere it takes two renames, and `recover_directory` brings the older one back if the process is
    killed between them. What killed processes of this machine left in that directory is removed first. The draft's
    parent is nobody else's, and may hold what must not be in the result.

    Args:
        replace: False: what has taken the name in the meantime stays.

    Raises:
        FileExistsError: ``replace`` is False, and there is something.
        OSError: it cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    sweep(path.parent)
    with _scratch(path) as scratch:
        draft = scratch / "new"
        draft.mkdir()
        yield draft
        _to_disk(draft)
        _put(draft, path, scratch / OLD, replace)
        _sync(path.parent)  # what was there must not go before the new one is there for good


def recover_directory(path: Path) -> None:
    """Bring back the older directory of a process that was killed between the two renames of `whole_directory`."""
    if not os.path.lexists(path):
        sweep(path.parent)


@contextlib.contextmanager
def _scratch(path: Path) -> Iterator[Path]:
    with contextlib.ExitStack() as stack:
        while True:
            scratch = path.with_name(temporary_name(path.name, _DRAFT))
            scratch.mkdir()
            try:
                if stack.enter_context(owned(scratch / OWNER)):
                    (scratch / OWNER).write_text(owner_line(), encoding="utf-8")
                    break
            except FileNotFoundError:
                continue  # somebody who tidies took it for left behind
            except BaseException:
                shutil.rmtree(scratch, ignore_errors=True)
                raise
        try:
            yield scratch
        finally:
            shutil.rmtree(scratch, ignore_errors=True)


def _put(draft: Path, path: Path, old: Path, replace: bool) -> None:
    for attempt in range(_ATTEMPTS):
        try:
            if sys.platform != "win32" or not path.exists():
                draft.rename(path)  # refused by the system where there is something in it
                return
        except OSError as error:
            if error.errno not in _TAKEN:
                raise
        if not replace:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
        try:
            if _exchange(draft, path):
                return
            path.rename(old)
        except FileNotFoundError:
            if not draft.exists() or attempt == _ATTEMPTS - 1:
                raise
            continue  # another process took it away a moment ago
        try:
            draft.rename(path)
            return
        except OSError as error:
            # Another process put something there, or the new one cannot be.
            if not os.path.lexists(path):
                old.rename(path)
            if error.errno not in _TAKEN:
                raise
            shutil.rmtree(old, ignore_errors=True)
        except BaseException:
            old.rename(path)
            raise
    raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), str(path))


def _exchange(one: Path, other: Path) -> bool:
    """Let two names change places in one step; False where the system, or the file system, has no such step."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2  # glibc since 2.28; not every other C library
    except (OSError, AttributeError):
        return False
    here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    if renameat2(here, os.fsencode(one), here, os.fsencode(other), exchange) == 0:
        return True
    code = ctypes.get_errno()
    if code in _NO_EXCHANGE:
        return False
    raise OSError(code, os.strerror(code), str(other))


def _to_disk(directory: Path) -> None:
    """Have everything below a directory on the disk: a power cut after the rename must not leave empty files."""
    for parent, _, names in os.walk(directory):
        for name in names:
            path = Path(parent, name)
            if not path.is_symlink():
                _sync(path)


def _sync(path: Path) -> None:
    try:
        descriptor = os.open(path, os.O_RDONLY if path.is_dir() or sys.platform != "win32" else os.O_RDWR)
    except PermissionError:
        return  # Windows opens no directories, and what others may not read is not ours to sync
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
