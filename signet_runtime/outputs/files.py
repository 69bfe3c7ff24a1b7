"""Output files that exist whole or not at all."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from signet_runtime.errors import SignetError


class OutputError(SignetError):
    """The output cannot be written: no such directory, no permission, or the disk is full."""

    exit_code = 3


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
def whole_file(path: Path) -> Iterator[Path]:
    """Where to write so that ``path`` appears only when the block ends without an exception.

    Devices and pipes cannot be replaced: they are yielded as they are.

    Raises:
        OutputError: the block or the move to ``path`` raised OSError.
    """
    with reporting(path):
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


@contextlib.contextmanager
def reporting(path: Path | str) -> Iterator[None]:
    """Turn an OSError of the block into one line about ``path``.

    Raises:
        OutputError
    """
    try:
        yield
    except BrokenPipeError:
        raise  # the reader has gone: nothing to report, and no one to report it to
    except OSError as error:
        reason = error.strerror or str(error)
        raise OutputError(f"{path}: cannot be written ({reason}); free space or choose another place") from error


def _is_replaceable(path: Path) -> bool:
    return path.is_file() or not path.exists()
