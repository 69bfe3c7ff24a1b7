"""Output files that exist whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, TextIO

from signet_runtime.errors import OutputError, SignetError
from signet_runtime.leftovers import sweep, temporary_name
from signet_runtime.locks import is_still, lock, owned

_UNWRITABLE = "cannot be written ({}); free space or choose another place"


def check_writable(path: Path) -> None:
    """Know before minutes of work that nothing can be written at ``path``.

    Raises:
        OutputError
    """
    with reporting(path):  # as of a name that is too long
        if path.is_dir():
            raise OutputError(f"{path}: is a directory; give the name of a file")
        if not path.parent.is_dir():
            raise OutputError(f"{path}: there is no directory {path.parent}; create it first")
        if not os.access(_target(path).parent if _is_replaceable(path) else path, os.W_OK):
            raise OutputError(f"{path}: no permission to write there; choose another place")


@contextlib.contextmanager
def whole_file(path: Path, failure: str = _UNWRITABLE) -> Iterator[Path]:
    """Yield an empty file to write to, so that ``path`` changes only when the block ends without an exception.

    Devices and pipes cannot be replaced: they are yielded as they are. What killed processes of this machine left in
    the directory is removed by the first file that a process writes there.

    Args:
        failure: see `reporting`.

    Raises:
        OutputError: the block or the move to ``path`` raised OSError.
    """
    with reporting(path, failure):
        if not _is_replaceable(path):
            yield path
            return
        path = _target(path)
        if path.parent not in _swept:
            _swept.add(path.parent)
            sweep(path.parent)
        with _temporary(path) as temporary:
            yield temporary
            with temporary.open("rb") as file:
                os.fsync(file.fileno())  # some file systems report a full disk only now
            temporary.replace(path)


_swept: set[Path] = set()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_swept.clear)  # a fork is a process of its own


@contextlib.contextmanager
def _temporary(path: Path) -> Iterator[Path]:
    with contextlib.ExitStack() as stack:
        while True:
            temporary = path.with_name(temporary_name(path.stem, path.suffix))
            if stack.enter_context(owned(temporary)):
                break
        try:
            yield temporary
        finally:
            temporary.unlink(missing_ok=True)


def _target(path: Path) -> Path:
    """Return the file that a link names, which stays a link."""
    target = Path(os.path.realpath(path))
    if target.is_symlink():
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
    return target


class GrowingFile:
    """Results that are written as they come, to ``path``.part, which becomes ``path`` when they are finished.

    Whatever ends the process, what was written until then is there, in whole lines. Devices and pipes are written to
    as they are.

    Raises:
        OutputError: it cannot be written, or another process is writing it. What was before stays in the .part file.
    """

    def __init__(self, path: Path) -> None:
        with reporting(path):
            self._path = _target(path) if _is_replaceable(path) else path
            self.part = self._path.with_name(f"{path.name}.part") if _is_replaceable(path) else self._path
            self._file = _open_alone(self.part) if self.part != self._path else _open(path, "w")
        self._name = path
        self._used = False
        self._written = 0  # bytes

    def write(self, text: str) -> None:
        """Add what is written as a whole."""
        self._used = True
        try:
            self._file.write(text)
            self._file.flush()
            self._written += len(text.encode("utf-8", "backslashreplace"))
        except OSError as error:
            raise self._stopped(error) from error

    def finish(self) -> bool:
        """Put the file where it belongs; False when nothing ever was, and there is none."""
        if self._file.closed:  # after an error, which has been reported
            return False
        try:
            if self.part != self._path:
                os.fsync(self._file.fileno())  # some file systems report a full disk only now
                if sys.platform == "win32":
                    self._file.close()  # what is open has to keep its name there; here it stays locked for as long
                if not self._used:
                    self.part.unlink()
                else:
                    self.part.replace(self._path)
            self._file.close()
        except OSError as error:
            raise self._stopped(error) from error
        return self._used

    def _stopped(self, error: OSError) -> SignetError:
        kept = ""
        if self.part != self._path:
            with contextlib.suppress(OSError):
                self._file.close()
            with contextlib.suppress(OSError):
                os.truncate(self.part, self._written)
                kept = f"; what was done before is in {self.part.name}"
        return _unwritable(self._name, error, kept=kept)


def _open(path: Path, mode: Literal["w", "a"]) -> TextIO:
    return path.open(mode, encoding="utf-8", errors="backslashreplace")


def _open_alone(path: Path) -> TextIO:
    """Open and empty a file that no other process writes; what is in it was a killed run's."""
    while True:
        file = _open(path, "a")
        try:
            lock(file.fileno())
            alone = is_still(file.fileno(), path)  # else it has just become what it was written for
        except BlockingIOError:
            file.close()
            raise OutputError(
                f"{path}: another process is writing it; wait until it is done, or give another name"
            ) from None
        except OSError:
            alone = True  # there are no locks
        if alone:
            file.truncate(0)
            return file
        file.close()


@contextlib.contextmanager
def reporting(path: Path | str, failure: str = _UNWRITABLE) -> Iterator[None]:
    """Turn an OSError of the block into one line about ``path``.

    Args:
        failure: what the line says of it, {} for the reason.

    Raises:
        OutputError
    """
    try:
        yield
    except BrokenPipeError:
        raise  # the reader has gone: nothing to report, and no one to report it to
    except OSError as error:
        raise _unwritable(path, error, failure) from error


def _unwritable(path: Path | str, error: OSError, failure: str = _UNWRITABLE, kept: str = "") -> OutputError:
    return OutputError(f"{path}: {failure.format(error.strerror or error)}{kept}")


def _is_replaceable(path: Path) -> bool:
    return path.is_file() or not path.exists()
