"""The one table that every stage reads: a row a sample, as Parquet or JSON lines."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import TypeAdapter, ValidationError

from signet_runtime.errors import InputError, OutputError, first_line
from signet_runtime.files import reporting, whole_file
from signet_train.data.mapped_rows import identity_of, mapped_rows
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
    try:
        if path.suffix == ".parquet":
            with open(path, "rb") as source:  # by its path, a directory would be a data set without rows
                file = pq.ParquetFile(source, pre_buffer=False, buffer_size=1 << 16)
                rows = _rows(path, _parquet_batches(path, file), large=file.metadata.num_rows > _LARGE)
        elif path.suffix == ".jsonl":
            rows = _rows(path, _line_batches(path), large=path.stat().st_size > _LARGE_LINES)
        else:
            raise InputError(f"{path}: a manifest is a .parquet or .jsonl file")
        return Manifest(rows, path.resolve().parent)
    except FileNotFoundError:
        raise InputError(f"{path}: no such manifest; `signet-train manifest` makes one") from None
    except (OSError, ValueError, pa.ArrowException) as error:
        raise InputError(f"{path}: not a manifest, or a damaged one ({first_line(error)})") from error


def _rows(path: Path, batches: Iterator[pa.RecordBatch], large: bool) -> Rows:
    if large:
        return mapped_rows(path, identity_of(path), batches)
    return Rows(pa.Table.from_batches(batches, SCHEMA))


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
        where = f"{path}: row {before + int(number) + 1}"
        raise InputError(f"{where}: {'.'.join(map(str, field))}: {first['msg']}") from None
    return next(batches_of(rows))


def _line_batches(path: Path) -> Iterator[pa.RecordBatch]:
    lines, number = _read_lines(path), 0
    while records := list(islice(lines, BATCH)):
        yield _checked(path, records, number)
        number += len(records)


def _read_lines(path: Path) -> Iterator[object]:
    with open(path, encoding="utf-8") as file:  # str.splitlines would also split at U+2028
        for number, line in enumerate(file, 1):
            try:
                if line.strip():
                    yield json.loads(line)
            except ValueError as error:
                raise InputError(f"{path}: line {number}: not JSON ({error})") from None


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
