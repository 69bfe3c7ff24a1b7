"""Annotation files as corpora publish them, read with errors that name the file and the line."""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Literal, TypeVar, cast

from signet_runtime.boundary import parse_json, read_bounded, read_open, reading
from signet_runtime.errors import InputError
from signet_runtime.limits import check_limit
from signet_runtime.pose.pickles import load_pickle

_GZIP = b"\x1f\x8b"
_MARKS = {  # UTF-32's little-endian one begins with UTF-16's
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}

logger = logging.getLogger("signet_runtime")

T = TypeVar("T")


def readable(paths: Iterable[Path], read: Callable[[Path], T]) -> Iterator[tuple[Path, T]]:
    """Yield every file with what ``read`` makes of it; one that is damaged stops nobody, and is said.

    Raises:
        InputError: of the first, where nothing is in any other.
    """
    problem: InputError | None = None
    found = False
    for path in paths:
        try:
            content = read(path)
        except InputError as error:
            problem = problem or error
            logger.warning("left out: %s", error)
        else:
            found = found or bool(content)
            yield path, content
    if problem is not None and not found:
        raise problem


def find_file(root: Path, candidates: Sequence[str], published: str) -> Path:
    """Return the first of the ``candidates`` (relative to ``root``) that is a file.

    Raises:
        InputError: there is none; ``published`` completes the sentence, saying where it is published.
    """
    for candidate in candidates:
        if (root / candidate).is_file():
            return root / candidate
    raise InputError(f"{root}: no {' or '.join(candidates)} there; {published}")


def read_text(path: Path, limit: str = "text_bytes") -> str:
    """Return a text file in UTF-8, or in UTF-16 or UTF-32, which Windows' programs mark, or tell by their zeros.

    Args:
        limit: of `signet_runtime.limits`, for its length.

    Raises:
        UnicodeDecodeError: in none of them.
        InputError: not readable, or longer.
    """
    content = read_bounded(path, limit, InputError, "a text")
    return content.decode(_encoding(content[:1024]))


def _encoding(begin: bytes) -> str:
    for mark, name in _MARKS.items():
        if begin.startswith(mark):
            return name
    # Most letters of a table or of captions, its header or the times, are ASCII: half of UTF-16 is zeros.
    even, odd = begin[::2].count(0), begin[1::2].count(0)
    if max(even, odd) > len(begin) / 5:
        return "utf-16-be" if even > odd else "utf-16-le"
    return "utf-8-sig"


def read_table(
    path: Path,
    columns: Sequence[str],
    delimiter: str,
    quoted: bool = False,
    strict: bool = True,
    text_of: Callable[[Path], str] | None = None,
    names: Callable[[Sequence[str]], Mapping[str, str]] = lambda header: {},
) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield the lines of a delimited text file with a header, in UTF-8 with or without BOM, or in UTF-16.

    A table as a spreadsheet saves it is understood: with commas, semicolons or tabs for ``delimiter`` where the header
    has the columns only so; with column names in other cases; with rows and last columns that are empty.

    Args:
        columns: those that must be there; others may be.
        quoted: whether ``"`` quotes fields, doubled inside of them, or is a character like any other.
        strict: whether text after a closing quote is an error, or belongs to the field.
        text_of: reads the file; by default `read_text`.
        names: gives other names to columns of a header, by their names there.

    Yields:
        Where the line is (``file: line 7``), and its fields by column.

    Raises:
        InputError: not readable, a column is missing, or a line has not as many fields as the header.
    """
    try:
        text = read_text(path, "table_bytes") if text_of is None else text_of(path)
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: cannot be read as UTF-8 text ({error}); save it as UTF-8") from error
    lines = io.StringIO(text, newline="")
    number = 0
    if text[:4].lower() == "sep=":  # for Excel alone
        number, delimiter, quoted = 1, lines.readline().strip()[4:5] or delimiter, True
    try:
        begin = lines.tell()
        delimiter, quoted, header = _header(path, lines, columns, delimiter, quoted, names)
        lines.seek(begin)
        reader = csv.reader(lines, delimiter=delimiter, quoting=_quoting(quoted), strict=strict)
        next(reader, [])
        try:
            for fields in reader:
                where = f"{path}: line {number + reader.line_num}"
                if not any(field.strip() for field in fields):
                    continue
                if not any(field.strip() for field in fields[len(header) :]):
                    del fields[len(header) :]
                if len(fields) != len(header):
                    raise InputError(f"{where}: {len(fields)} fields where the header has {len(header)}")
                if any("\n" in field for field in fields):
                    raise InputError(f"{where}: a quoted field runs over several lines")
                yield where, dict(zip(header, fields, strict=True))
        except csv.Error as error:
            raise InputError(f"{path}: line {number + reader.line_num}: {error}") from error
    except csv.Error as error:
        raise InputError(f"{path}: cannot be read ({error})") from error


def _quoting(quoted: bool) -> Literal[0, 3]:
    return csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE


def _header(
    path: Path,
    lines: io.StringIO,
    columns: Sequence[str],
    delimiter: str,
    quoted: bool,
    names: Callable[[Sequence[str]], Mapping[str, str]],
) -> tuple[str, bool, list[str]]:
    """Return the delimiter with which the first line has the columns, whether fields are quoted, and the columns."""
    begin = lines.tell()
    missing, there = list(columns), ""
    for mark, in_quotes in ((delimiter, quoted), *((other, True) for other in ",;\t|" if other != delimiter)):
        lines.seek(begin)
        try:
            header = next(csv.reader(lines, delimiter=mark, quoting=_quoting(in_quotes), strict=True), [])
        except csv.Error:
            if mark == delimiter:
                raise
            continue
        known = {column.casefold(): column for column in columns}
        header = [known.get(name.strip().casefold(), name) if name not in columns else name for name in header]
        while header and not header[-1].strip():
            header.pop()
        if len(header) > len(columns) or mark == delimiter:
            there = there or ", ".join(header)
        called = names(header) if len(header) > 1 or len(columns) == 1 else {}
        header = [called.get(name, name) for name in header]
        absent = [column for column in columns if column not in header]
        if not absent:
            return mark, in_quotes, header
        missing = min(missing, absent, key=len)
    has = f"; it has {there}" if there else ""
    raise InputError(f"{path}: line 1: no column {missing[0]} (needs {delimiter.join(columns)!r}{has})")


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        InputError: not readable, or not JSON (with line and column).
    """
    with reading(path, InputError, "JSON"):
        text = read_text(path, "json_bytes")
    return parse_json(text, path, InputError)


def read_pickle(path: Path) -> Any:
    """Read a pickle of plain data, gzipped or not, without running anything that is in it (see `load_pickle`).

    Raises:
        InputError: not readable, not a pickle, damaged, or one that asks for anything else.
    """
    data = read_bounded(path, "text_bytes", InputError, "a pickle")
    if data[: len(_GZIP)] == _GZIP:
        with reading(path, InputError, "a pickle"), gzip.open(io.BytesIO(data)) as file:
            data = read_open(
                cast(BinaryIO, file), "text_bytes", str(path), InputError
            )  # a megabyte can claim a thousand
    try:
        return load_pickle(data)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def clip_id(name: str, where: str) -> str:
    """Return ``name``, if it can name a file beside others.

    Raises:
        InputError: it is empty, a path, or longer than names of files are.
    """
    check_limit("name_length", len(name.encode("utf-8", "surrogatepass")), f"{where}: {name[:20]!a}…", InputError)
    if name in ("", ".", "..") or not name.isprintable() or "/" in name or "\\" in name:
        raise InputError(f"{where}: {name!r} cannot name a clip's file")
    return name
