"""What a model said next to what it should have said: files to score, ours and other people's."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from signet_runtime.boundary import parse_json, read_text
from signet_runtime.errors import InputError, OutputError
from signet_runtime.files import reporting, whole_file
from signet_runtime.printable import printable


@dataclass(frozen=True, slots=True, config=ConfigDict(extra="ignore", coerce_numbers_to_str=True))
class Prediction:
    """One sentence: whose, what it should be, and what the model made of it (which may be nothing).

    ``candidates`` are what the search found, the best first, each with the mean log-probability of its pieces; there
    are some in recognition.
    """

    id: str
    reference: str
    hypothesis: str
    candidates: tuple[tuple[str, float], ...] = ()


_COLUMNS = ("id", "reference", "hypothesis")
_DELIMITERS = {".csv": ",", ".tsv": "\t"}
_ROW = TypeAdapter(Prediction)


def write_predictions(path: Path, predictions: Iterable[Prediction]) -> None:
    """Write JSON lines, whole or not at all.

    Raises:
        OutputError: the name does not end in ``.jsonl``, or the file cannot be written.
    """
    if path.suffix != ".jsonl":
        raise OutputError(f"{path}: predictions are written as JSON lines: name the file ….jsonl")
    failure = "cannot be written ({})"
    with reporting(path, failure):
        path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path, failure) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as file:
        for prediction in predictions:
            row = dataclasses.asdict(prediction)
            if not prediction.candidates:
                del row["candidates"]
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


def read_predictions(path: Path, references: Path | None = None) -> list[Prediction]:
    """Read predictions that exist.

    Args:
        path: ``.jsonl`` (an object a line), ``.json`` (a list of objects), ``.csv`` or ``.tsv`` (with a header), each
            with id, reference and hypothesis; what else they hold is left aside. Any other file is plain text, a
            hypothesis a line, and needs ``references``.
        references: plain text, a reference a line. Ids are then the numbers of the lines.

    Raises:
        InputError: a file is missing, damaged or empty, lacks a column, has an empty reference, or the two plain texts
            differ in length; the line (of ``.json``, the row) is named.
    """
    tabular = path.suffix in (".jsonl", ".json", *_DELIMITERS)
    if tabular and references is not None:
        raise InputError(f"{path}: {path.suffix} files hold the references too: leave {references} out")
    if not tabular and references is None:
        raise InputError(f"{path}: plain text holds no references: give their file with --references")
    records = _plain_text(path, references) if references else _READERS[path.suffix](path)
    predictions = []
    for where, record in records:
        try:
            prediction = _ROW.validate_python(record)
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(map(str, first["loc"]))
            raise InputError(f"{where}: {printable(field) + ': ' if field else ''}{first['msg']}") from None
        if not prediction.reference.strip():
            raise InputError(f"{where}: the reference is empty: leave the sentence out")
        predictions.append(prediction)
    if not predictions:
        raise InputError(f"{path}: holds no predictions")
    return predictions


def _lines(path: Path) -> list[str]:
    # Not `splitlines`: it also splits at the separators U+2028 and U+0085, which JSON and plain text may hold.
    return [line.removesuffix("\n") for line in _text(path)]


def _text(path: Path) -> Iterator[str]:
    if not os.path.exists(path):  # noqa: PTH110 - Path's raises where the name is too long
        raise InputError(f"{path}: no such file; `signet-train evaluate` writes predictions")
    yield from io.StringIO(read_text(path, "json_bytes", encoding="utf-8-sig"), newline=None)


def _jsonl(path: Path) -> Iterator[tuple[str, Any]]:
    for number, line in enumerate(_lines(path), 1):
        if line.strip():
            where = f"{path}: line {number}"
            yield where, parse_json(line, where)


def _json(path: Path) -> Iterator[tuple[str, Any]]:
    rows = parse_json("".join(_text(path)), path)
    if not isinstance(rows, list):
        raise InputError(f"{path}: must be a list of objects with {', '.join(_COLUMNS)}")
    yield from ((f"{path}: row {number}", row) for number, row in enumerate(rows, 1))


def _table(path: Path) -> Iterator[tuple[str, Any]]:
    reader = csv.DictReader(_text(path), delimiter=_DELIMITERS[path.suffix], strict=True)
    try:
        if missing := [name for name in _COLUMNS if name not in (reader.fieldnames or ())]:
            raise InputError(f"{path}: line 1: no column {missing[0]!r}; the header must name {', '.join(_COLUMNS)}")
        for row in reader:
            where = f"{path}: line {reader.line_num}"
            if None in row or None in row.values():
                raise InputError(f"{where}: more or fewer fields than the header; texts that hold one need quotes")
            yield where, row
    except csv.Error as error:
        raise InputError(f"{path}: the row that starts in line {reader.line_num + 1}: {error}") from None


def _plain_text(path: Path, references: Path) -> Iterator[tuple[str, Any]]:
    ours, theirs = _lines(path), _lines(references)
    if len(ours) != len(theirs):
        raise InputError(f"{path} has {len(ours)} lines and {references} has {len(theirs)}: each needs one a sentence")
    for number, (hypothesis, reference) in enumerate(zip(ours, theirs, strict=True), 1):
        record = {"id": str(number), "reference": reference, "hypothesis": hypothesis}
        yield f"{references}: line {number}", record


_READERS = {".jsonl": _jsonl, ".json": _json, ".csv": _table, ".tsv": _table}
