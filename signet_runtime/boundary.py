"""The one way of outside data into the program: opened, measured, parsed, and whatever goes wrong is one line.

Everything that comes in a file was written by somebody else. Only regular files are opened; how long one is is known
before it is read, and held against the table of `signet_runtime.limits`; and whatever a parser raises becomes the
project's error with the file's name. `reading` goes around parsing only: what our own algorithms raise is a defect of
ours, and says so (see `signet_runtime.commands.console`).
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import stat
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from pydantic import ValidationError

from signet_runtime.errors import InputError, SignetError, one_line
from signet_runtime.limits import check_limit, limits

# Where the machine is at its end, no file is to blame; the command says what it lacks.
_MACHINE = {errno.EMFILE, errno.ENFILE, errno.ENOMEM}
# Whatever the data, these are mistakes in code, or in what is installed.
_DEFECTS = (AssertionError, ImportError, NameError)

_KINDS = {
    stat.S_IFDIR: "a directory",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}


@contextlib.contextmanager
def reading(
    name: str | Path, error: type[SignetError] = InputError, what: str = "file", advice: str = ""
) -> Iterator[None]:
    """Turn whatever a parser raises in the block into one line about outside data.

    The project's own errors pass unchanged, as do those that are not the data's: no memory, no file descriptors, an
    interruption, a package that is missing.

    Args:
        name: the file, or the place in it; empty where the caller puts it before.
        error: what is raised.
        what: what it should have been, for "not … or a damaged one"; with its article.
        advice: what to do about it.

    Raises:
        SignetError: of the class ``error``.
    """
    try:
        yield
    except (SignetError, MemoryError, *_DEFECTS):
        raise
    except OSError as problem:
        if problem.errno in _MACHINE:
            raise
        if isinstance(problem, BrokenPipeError):
            raise
        told = problem.strerror or one_line(problem)
        said = f"cannot be read ({told})" if problem.errno else f"not {what}, or a damaged one ({told})"
        raise error(f"{_before(name)}{said}{_after(advice)}") from problem
    except RecursionError as problem:
        raise error(f"{_before(name)}not {what}: nested too deep{_after(advice)}") from problem
    except Exception as problem:  # libraries raise what they please, and share no class
        if isinstance(problem, ValidationError):
            raise error(f"{_before(name)}{_first_problem(problem)}{_after(advice)}") from problem
        reason = one_line(problem)
        reason = reason if len(reason) <= 200 else f"{reason[:200]}…"
        raise error(f"{_before(name)}not {what}, or a damaged one ({reason}){_after(advice)}") from problem


def _before(name: str | Path) -> str:
    return f"{name}: " if str(name) else ""


def _first_problem(problem: ValidationError) -> str:
    """Return what is wrong first with what pydantic was given, and where in it; never all of what it was given."""
    first = problem.errors(include_url=False, include_context=False, include_input=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    return f"{where[:200]}: {first['msg'][:300]}" if where else first["msg"][:300]


def _after(advice: str) -> str:
    return f"; {advice}" if advice else ""


def look(path: str | Path, error: type[SignetError] = InputError) -> os.stat_result:
    """Return what a path leads to, following links.

    Raises:
        SignetError: of the class ``error``: there is nothing, or it may not be looked at.
    """
    with reading(path, error, "the name of a file"):
        try:
            return Path(path).stat()
        except (FileNotFoundError, NotADirectoryError):
            raise error(f"{path}: no such file") from None


@contextlib.contextmanager
def open_regular(
    path: str | Path, error: type[SignetError] = InputError, what: str = "file", advice: str = ""
) -> Iterator[BinaryIO]:
    """Open a regular file to be read, following links; never waits, as a pipe without a writer would make it.

    Parsing may go on in the block: it is a `reading`.

    Raises:
        SignetError: of the class ``error``: it is not there, no regular file, or may not be read.
    """
    with reading(path, error, what, advice):
        flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
        descriptor = os.open(path, flags)
        try:
            kind = stat.S_IFMT(os.fstat(descriptor).st_mode)
            if kind != stat.S_IFREG:
                raise error(f"{path}: is {_KINDS.get(kind, 'no file')}, and must be a file")
            file = os.fdopen(descriptor, "rb")
        except BaseException:
            os.close(descriptor)
            raise
        with file:
            yield file


def read_bounded(
    path: str | Path, limit: str, error: type[SignetError] = InputError, what: str = "file", advice: str = ""
) -> bytes:
    """Return the contents of a regular file that is no longer than a limit.

    Args:
        limit: the name of one of `signet_runtime.limits.Limits`, in bytes.

    Raises:
        SignetError: of the class ``error``: see `open_regular`; or it is longer.
    """
    with open_regular(path, error, what, advice) as file:
        return read_open(file, limit, str(path), error)


def read_open(file: BinaryIO, limit: str, name: str, error: type[SignetError] = InputError) -> bytes:
    """Return what is left of an open file, which may be inside of an archive, if it is no longer than a limit.

    Raises:
        SignetError: of the class ``error``: it is longer.
    """
    with contextlib.suppress(OSError, AttributeError):  # a stream in memory has no descriptor
        check_limit(limit, os.fstat(file.fileno()).st_size, name, error)
    most = getattr(limits(), limit)
    parts, left = [], most + 1  # a file may grow, and some have no size
    while left > 0 and (part := file.read(min(left, _PART))):  # whose memory is taken before it is known to be needed
        parts.append(part)
        left -= len(part)
    check_limit(limit, most + 1 - left, name, error)
    return b"".join(parts)


def read_text(
    path: str | Path,
    limit: str,
    error: type[SignetError] = InputError,
    what: str = "UTF-8 text",
    advice: str = "",
    encoding: str = "utf-8",
) -> str:
    """Return the text of a regular file that is no longer than a limit.

    Raises:
        SignetError: of the class ``error``: see `read_bounded`; or it is not in that encoding.
    """
    content = read_bounded(path, limit, error, what, advice)
    with reading(path, error, what, advice):
        return content.decode(encoding)


def read_json(
    path: str | Path,
    limit: str,
    error: type[SignetError] = InputError,
    what: str = "JSON",
    advice: str = "",
    encoding: str = "utf-8",
) -> Any:
    """Return what is in a JSON file that is no longer than a limit, see `parse_json`.

    Raises:
        SignetError: of the class ``error``.
    """
    return parse_json(read_text(path, limit, error, what, advice, encoding), path, error, what, advice)


def parse_json(
    text: str, name: str | Path, error: type[SignetError] = InputError, what: str = "JSON", advice: str = ""
) -> Any:
    """Return what a JSON text stands for; within limits of nesting and digits, and its strings can be written.

    Raises:
        SignetError: of the class ``error``.
    """
    with reading(name, error, what, advice):
        _check_digits(text)
        content = json.loads(text)
        if _may_be_deep(text) or _SURROGATE.search(text):
            _check_content(content)
        return content


def parse_toml(
    text: str, name: str | Path, error: type[SignetError] = InputError, what: str = "TOML", advice: str = ""
) -> dict[str, Any]:
    """Return what a TOML text stands for; within limits of nesting and digits, and its strings can be written.

    Raises:
        SignetError: of the class ``error``.
    """
    with reading(name, error, what, advice):
        _check_digits(text)
        if re.search(rf"(?<![\w\"'-])(?:[\w\"'-]+[ \t]*\.[ \t]*){{{limits().nesting + 1}}}", text):
            raise ValueError(f"a key of more than {limits().nesting} parts")  # tomllib's memory grows by their square
        content = tomllib.loads(text)
        _check_content(content)
        return content


def _check_digits(text: str) -> None:
    if re.search(rf"(?<![0-9])[0-9]{{{limits().digits + 1}}}", text):
        raise ValueError(f"a number of more than {limits().digits} digits")


_SURROGATE = re.compile(r"\\[uU][dD][89a-fA-F]|[\ud800-\udfff]")
_PART = 1 << 24  # bytes that are read at once
_BRACKETS = b"[]{}"
_NOT_BRACKETS = bytes(set(range(256)) - set(_BRACKETS))
_STEP = np.zeros(256, np.int8)
_STEP[list(b"[{")], _STEP[list(b"]}")] = 1, -1


def _may_be_deep(text: str) -> bool:
    """Whether brackets nest deeper than the limit; where they stand in strings, they may not."""
    brackets = text.encode("utf-8", "surrogatepass").translate(None, _NOT_BRACKETS)
    steps = _STEP[np.frombuffer(brackets, np.uint8)]
    return bool(len(steps) and np.cumsum(steps, dtype=np.int64).max() > limits().nesting)


def _check_content(content: object) -> None:
    """Walk what was parsed, without recursion; refuse deep nesting, and strings that cannot be written."""
    deepest = limits().nesting
    waiting: list[tuple[object, int]] = [(content, 0)]
    while waiting:
        found, depth = waiting.pop()
        if depth > deepest:
            raise ValueError(f"nested deeper than {deepest}")
        if isinstance(found, str):
            found.encode()
        elif isinstance(found, dict):
            waiting += [(part, depth + 1) for pair in found.items() for part in pair]
        elif isinstance(found, list):
            waiting += [(part, depth + 1) for part in found]
