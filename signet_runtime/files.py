"""Output files and directories that exist whole or not at all."""

from __future__ import annotations

import contextlib
import glob
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

from signet_runtime.errors import OutputError, SignetError

_UNWRITABLE = "cannot be written ({}); free space or choose another place"
_TEMPORARY = re.compile(r"\.(.+)\.[0-9a-f]{8}(\.[^.]+)?")


def check_writable(path: Path) -> None:
    """Know before minutes of work that nothing can be written at ``path``.

    Raises:
        OutputError
    """
    if path.is_dir():
        raise OutputError(f"{path}: is a directory; give the name of a file")
    if not path.parent.is_dir():
        raise OutputError(f"{path}: there is no directory {path.parent}; create it first")
    if not os.access(path.parent if _is_replaceable(path) else path, os.W_OK):
        raise OutputError(f"{path}: no permission to write there; choose another place")


@contextlib.contextmanager
def whole_file(path: Path, failure: str = _UNWRITABLE) -> Iterator[Path]:
    """Yield where to write so that ``path`` appears only when the block ends without an exception.

    Devices and pipes cannot be replaced: they are yielded as they are.

    Args:
        failure: see `reporting`.

    Raises:
        OutputError: the block or the move to ``path`` raised OSError.
    """
    with reporting(path, failure):
        if not _is_replaceable(path):
            yield path
            return
        path = path.resolve()  # a link keeps pointing at what it names
        temporary = path.with_name(f".{path.stem}.{secrets.token_hex(4)}{path.suffix}")  # writers look at the suffix
        try:
            yield temporary
            with temporary.open("rb") as file:
                os.fsync(file.fileno())  # some file systems report a full disk only now
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


def unfinished(name: str) -> str | None:
    """Return the name of the file that a temporary one of `whole_file` was to become; None of any other's.

    One stays behind where a process is killed while it writes.
    """
    found = _TEMPORARY.fullmatch(name)
    return found and found[1] + (found[2] or "")


@contextlib.contextmanager
def whole_directory(path: Path) -> Iterator[Path]:
    """Yield an empty directory that takes the name ``path`` when the block ends without an exception.

    What was there before is replaced, and stays if anything fails; where a process is killed between the two renames
    that this takes, `recover_directory` brings it back. The draft's parent is nobody else's, and may hold what must not
    be in the result.

    Raises:
        OSError: it cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.parent / f".{path.name}.{secrets.token_hex(4)}.draft"
    old = _replaced(path)
    try:
        draft = scratch / "new"
        draft.mkdir(parents=True)
        yield draft
        recover_directory(path)
        try:
            if path.exists():
                path.rename(old)
            draft.rename(path)
        except BaseException:
            recover_directory(path)
            raise
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def recover_directory(path: Path) -> None:
    """Bring back the older directory of a process that was killed between the two renames of `whole_directory`."""
    old = _replaced(path)
    if not path.exists() and old.exists():
        old.rename(path)
    shutil.rmtree(old, ignore_errors=True)


def discard_drafts(path: Path) -> None:
    """Remove what processes left that were killed while they wrote in `whole_directory`; none may be writing now."""
    for draft in path.parent.glob(f".{glob.escape(path.name)}.*.draft"):
        shutil.rmtree(draft, ignore_errors=True)


def _replaced(path: Path) -> Path:
    return path.parent / f".{path.name}.old"


class GrowingFile:
    """Results that are written as they come, to ``path``.part, which becomes ``path`` when they are finished.

    Whatever ends the process, what was written until then is there, in whole lines. Devices and pipes are written to
    as they are.

    Raises:
        OutputError: it cannot be written. What was before stays in the .part file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path.resolve() if _is_replaceable(path) else path  # a link keeps pointing at what it names
        self.part = self._path.with_name(f"{path.name}.part") if _is_replaceable(path) else self._path
        with reporting(path):
            self._file = self.part.open("w", encoding="utf-8", errors="backslashreplace")
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
            self._file.close()
            if self.part != self._path:
                if not self._used:
                    self.part.unlink()
                else:
                    self.part.replace(self._path)
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
