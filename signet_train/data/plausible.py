"""What no row of a manifest can be: names that no file can have, times that no recording has."""

from __future__ import annotations

import os
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from signet_runtime.errors import InputError
from signet_runtime.limits import limits

_NAMES = ("id", "split", "language", "sign_language", "signer", "corpus")
_PLACES = ("poses", "video")
_TEXTS = ("text", "gloss")
_TIMES = ("start", "end")
_NAME, _PATH = 255, 4000  # bytes of a file's name, and of a path, with room for the folder that it is relative to


def refuse_implausible(rows: pa.RecordBatch | pa.Table, path: Path, before: int = 0) -> None:
    """See that rows can be worked with, all of a column at once.

    Args:
        rows: with the columns of a manifest; others are not looked at.
        before: how many rows of the manifest are before these.

    Raises:
        InputError: one cannot; its number, its column, and why.
    """
    most = limits()

    def refuse(column: str, wrong: pa.Array | pa.ChunkedArray, why: str) -> None:
        first = pc.index(pc.fill_null(wrong, False), True).as_py()
        if first >= 0:
            raise InputError(f"{path}: row {before + first + 1}: {column}: {why}")

    there = set(rows.schema.names)
    for name in _NAMES:
        if name in there:
            length = f"more than {most.name_length} characters (SIGNET_LIMITS=name_length=… changes that)"
            refuse(name, pc.greater(pc.utf8_length(rows[name]), most.name_length), length)
            control = pc.match_substring_regex(rows[name], r"[\x00-\x1f\x7f]")
            refuse(name, control, "a control character, which no name has")
    for name in _TEXTS:
        if name in there:
            length = f"more than {most.text_length} characters (SIGNET_LIMITS=text_length=… changes that)"
            refuse(name, pc.greater(pc.utf8_length(rows[name]), most.text_length), length)
    for name in _PLACES:
        if name in there:
            refuse(name, pc.match_substring(rows[name], "\0"), "a byte 0, which no path has")
            _refuse_long(rows, name, path, before)
    for name in _TIMES:
        if name in there:
            sane = pc.and_(pc.is_finite(rows[name]), pc.less_equal(pc.abs(rows[name]), most.seconds))
            refuse(name, pc.invert(sane), f"no time in a recording of up to {most.seconds:g} seconds")
    if "fps" in there:
        sane = pc.and_(pc.greater_equal(rows["fps"], most.rate_low), pc.less_equal(rows["fps"], most.rate_high))
        refuse("fps", pc.invert(sane), f"not {most.rate_low:g} to {most.rate_high:g} frames a second")


def _refuse_long(rows: pa.RecordBatch | pa.Table, column: str, path: Path, before: int) -> None:
    lengths = pc.fill_null(pc.binary_length(rows[column]), 0)
    for number in pc.indices_nonzero(pc.greater(lengths, _NAME)).to_pylist():  # a name can be too long in these alone
        place = rows[column][number].as_py()
        names = place.partition("?")[0].partition("#")[0].split("/")
        if len(place.encode()) > _PATH or any(len(os.fsencode(name)) > _NAME for name in names):
            raise InputError(f"{path}: row {before + number + 1}: {column}: a name of more than {_NAME} bytes")
