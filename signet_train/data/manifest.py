"""The one table that every stage reads: a row a sample, as Parquet or JSON lines."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import TypeAdapter, ValidationError

from signet_runtime.boundary import open_regular, parse_json, reading
from signet_runtime.errors import InputError, OutputError
from signet_runtime.files import reporting, whole_file
from signet_runtime.limits import check_limit, limits
from signet_runtime.printable import printable
from signet_train.data.mapped_rows import identity_of, mapped_rows
from signet_train.data.plausible import refuse_implausible
from signet_train.data.rows import BATCH, NUMBERS, REQUIRED, SCHEMA, Row, Rows, batches_of, repeated

__all__ = ["Manifest", "Row", "Rows", "read_manifest", "read_manifests", "write_manifest"]

_LARGE = 50_000  # rows from which on they are mapped from a file; fewer are a few MB of memory
_LARGE_LINES = 16 << 20  # bytes of JSON lines that are as many
_ROW_GROUP = 1 << 16


@dataclass(frozen=True, slots=True)
class Manifest:
    """Rows, and the directory that their relative paths start from."""

    rows: Sequence[Row]
    root: Path

    def split(self, name: str) -> Rows:
        """Return the rows of one split, in the manifest's order."""
        return Rows.of(self.rows).where("split", [name])


_ROWS = TypeAdapter(list[Row])


def read_manifest(path: Path) -> Manifest:
    """Read ``.parquet`` or ``.jsonl``.

    The rows of a large one are mapped from an Arrow file that is made once (see `mapped_rows`).

    Raises:
        InputError: no such file, another suffix, damaged, or a row that is not a `Row` (named by its number).
    """
    if path.suffix not in (".parquet", ".jsonl"):
        raise InputError(f"{path}: a manifest is a .parquet or .jsonl file")
    if not os.path.exists(path):  # noqa: PTH110 - Path's raises where the name is too long
        raise InputError(f"{path}: no such manifest; `signet-train manifest` makes one")
    with open_regular(path, InputError, "a manifest") as source:
        size = os.fstat(source.fileno()).st_size
        check_limit("table_bytes", size, str(path), InputError)
        if path.suffix == ".parquet":
            file = pq.ParquetFile(source, pre_buffer=False, buffer_size=1 << 16)
            rows = _rows(path, _parquet_batches(path, file), large=file.metadata.num_rows > _LARGE)
        else:
            rows = _rows(path, _line_batches(path, source), large=size > _LARGE_LINES)
        return Manifest(rows, path.resolve().parent)


def _rows(path: Path, batches: Iterator[pa.RecordBatch], large: bool) -> Rows:
    sane = _plausible(path, batches)
    if large:
        return mapped_rows(path, identity_of(path), sane)
    return Rows(pa.Table.from_batches(sane, SCHEMA))


def _plausible(path: Path, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    before = 0
    for batch in batches:
        refuse_implausible(batch, path, before)
        before += len(batch)
        yield batch


def check_rows(rows: Sequence[Row], source: Path) -> None:
    """See that rows that were read from ``source`` can be worked with (see `refuse_implausible`).

    Raises:
        InputError: one cannot.
    """
    for _ in _plausible(source, Rows.of(rows).batches()):
        pass


def _parquet_batches(path: Path, file: pq.ParquetFile) -> Iterator[pa.RecordBatch]:
    number = 0
    for batch in file.iter_batches(BATCH, use_threads=False):
        columns = _as_rows_have_them(batch)
        yield columns or _checked(path, batch.to_pylist(), number)
        number += len(batch)


def _as_rows_have_them(batch: pa.RecordBatch) -> pa.RecordBatch | None:
    """Return a batch in `SCHEMA`; None where its columns need a look at every value."""
    names = batch.schema.names
    if not set(REQUIRED) <= set(names) <= set(SCHEMA.names) or len(set(names)) < len(names):
        return None
    columns = []
    for field in SCHEMA:
        if field.name not in names:
            columns.append(pa.nulls(len(batch), field.type))
            continue
        column = batch.column(field.name)
        kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
        fits = pa.types.is_string(kind) or pa.types.is_large_string(kind)
        if field.name in NUMBERS:
            fits = pa.types.is_floating(kind) or pa.types.is_integer(kind)
        if not (fits or pa.types.is_null(kind)) or (field.name in REQUIRED and column.null_count):
            return None
        columns.append(column.cast(field.type))
    rows = pa.RecordBatch.from_arrays(columns, schema=SCHEMA)
    rows.validate(full=True)  # that text is UTF-8
    return rows


def _checked(path: Path, records: list[object], before: int) -> pa.RecordBatch:
    """Return records as rows; ``before`` are the rows before them."""
    try:
        rows = _ROWS.validate_python(records)
    except ValidationError as error:
        first = error.errors()[0]
        number, *field = first["loc"]
        where = f"{path}: row {before + int(number) + 1}" + (f": {'.'.join(map(str, field))}" if field else "")
        raise InputError(f"{printable(where)}: {first['msg']}") from None
    return next(batches_of(rows))


def _line_batches(path: Path, file: BinaryIO) -> Iterator[pa.RecordBatch]:
    lines, number = _read_lines(path, file), 0
    while records := list(islice(lines, BATCH)):
        yield _checked(path, records, number)
        number += len(records)


def _read_lines(path: Path, file: BinaryIO) -> Iterator[object]:
    most, number = limits().line_bytes, 0
    while line := file.readline(most + 1):  # str.splitlines would also split at U+2028
        number += 1
        where = f"{path}: line {number}"
        check_limit("line_bytes", len(line), where, InputError)
        if line.strip():
            with reading(where, InputError, "JSON"):
                text = line.decode()
            yield parse_json(text, where, InputError)


def write_manifest(path: Path, rows: Iterable[Row]) -> None:
    """Write ``.parquet`` or ``.jsonl``, whole or not at all.

    Raises:
        OutputError: another suffix, or the file cannot be written.
    """
    if path.suffix not in (".parquet", ".jsonl"):
        raise OutputError(f"{path}: a manifest is a .parquet or .jsonl file")
    batches = rows.batches() if isinstance(rows, Rows) else batches_of(rows)
    failure = "cannot be written ({})"
    with reporting(path, failure):
        path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path, failure) as temporary:
        if path.suffix == ".parquet":
            _write_parquet(temporary, batches)
            return
        with temporary.open("w", encoding="utf-8") as file:
            for batch in batches:
                for record in batch.to_pylist():
                    known = {name: value for name, value in record.items() if value is not None}
                    file.write(json.dumps(known, ensure_ascii=False) + "\n")


def _write_parquet(path: Path, batches: Iterator[pa.RecordBatch]) -> None:
    with pq.ParquetWriter(path, SCHEMA, compression="zstd") as writer:
        while some := list(islice(batches, _ROW_GROUP // BATCH)):
            writer.write_table(pa.Table.from_batches(some))


def read_manifests(paths: Sequence[Path]) -> list[Manifest]:
    """Read several manifests as one corpus (the paper's BSL expert combines three).

    Raises:
        InputError: as `read_manifest`; or an id that occurs twice, in one manifest or in two.
    """
    manifests = [read_manifest(path) for path in paths]
    parts = [Rows.of(manifest.rows) for manifest in manifests]
    for twice in repeated(parts, "id"):
        starts = np.cumsum([0, *map(len, parts)])
        again, first = (int(np.searchsorted(starts, number, "right")) - 1 for number in twice)
        row = parts[again][twice[0] - int(starts[again])]
        raise InputError(f"{paths[again]}: the id {row.id!r} occurs twice ({paths[first]} has it already)")
    return manifests
