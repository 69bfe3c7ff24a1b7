"""Annotation files as corpora publish them, read with errors that name the file and the line."""

from __future__ import annotations

import csv
import gzip
import io
import json
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from signet_runtime.errors import InputError
from signet_runtime.pose.pickles import load_pickle

_GZIP = b"\x1f\x8b"
_MOST_BYTES = 1 << 30  # of a pickle, unpacked: a gzipped one of a megabyte can claim a thousand


def find_file(root: Path, candidates: Sequence[str], published: str) -> Path:
    """Return the first of the ``candidates`` (relative to ``root``) that is a file.

    Raises:
        InputError: there is none; ``published`` completes the sentence, saying where it is published.
    """
    for candidate in candidates:
        if (root / candidate).is_file():
            return root / candidate
    raise InputError(f"{root}: no {' or '.join(candidates)} there; {published}")


def read_table(
    path: Path, columns: Sequence[str], delimiter: str, quoted: bool = False
) -> Iterator[tuple[str, dict[str, str]]]:
    """Read the lines of a delimited text file with a header, in UTF-8 with or without BOM.

    Args:
        columns: those that must be there; others may be.
        quoted: whether ``"`` quotes fields, doubled inside of them, or is a character like any other.

    Yields:
        Where the line is (``file: line 7``), and its fields by column.

    Raises:
        InputError: not readable, a column is missing, or a line has not as many fields as the header.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            quoting: Literal[0, 3] = csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE
            reader = csv.reader(file, delimiter=delimiter, quoting=quoting, strict=True)
            header = next(reader, [])
            missing = [column for column in columns if column not in header]
            if missing:
                raise InputError(f"{path}: line 1: no column {missing[0]} (needs {delimiter.join(columns)!r})")
            try:
                for fields in reader:
                    where = f"{path}: line {reader.line_num}"
                    if not fields:
                        continue
                    if len(fields) != len(header):
                        raise InputError(f"{where}: {len(fields)} fields where the header has {len(header)}")
                    if any("\n" in field for field in fields):
                        raise InputError(f"{where}: a quoted field runs over several lines")
                    yield where, dict(zip(header, fields, strict=True))
            except csv.Error as error:
                raise InputError(f"{path}: line {reader.line_num}: {error}") from error
    except (OSError, csv.Error, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({error})") from error


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        InputError: not readable, or not JSON (with line and column).
    """
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not JSON, or damaged ({error})") from error


def read_pickle(path: Path) -> Any:
    """Read a pickle of plain data, gzipped or not, without running anything that is in it (see `load_pickle`).

    Raises:
        InputError: not readable, not a pickle, damaged, or one that asks for anything else.
    """
    try:
        data = path.read_bytes()
        if data[: len(_GZIP)] == _GZIP:
            with gzip.open(io.BytesIO(data)) as file:
                data = file.read(_MOST_BYTES + 1)
    except (EOFError, zlib.error):
        raise InputError(f"{path}: not a pickle, or a damaged one") from None
    except gzip.BadGzipFile as error:
        raise InputError(f"{path}: damaged ({error})") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from error
    if len(data) > _MOST_BYTES:
        raise InputError(f"{path}: larger than 1 GiB, which no corpus' annotations are")
    try:
        return load_pickle(data)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def clip_id(name: str, where: str) -> str:
    """Return ``name``, if it can name a file beside others.

    Raises:
        InputError: it is empty, or a path.
    """
    if name in ("", ".", "..") or not name.isprintable() or "/" in name or "\\" in name:
        raise InputError(f"{where}: {name!r} cannot name a clip's file")
    return name
