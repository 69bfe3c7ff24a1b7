"""A manifest's rows, which stay in Arrow and become a `Row` when somebody looks at one.

A million of them as Python objects take 700 MB and 6 s, in every process that loads data.
"""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

from signet_runtime.errors import InputError, first_line
from signet_runtime.string_hashes import hash_strings

BATCH = 8192  # rows at a time, where all are gone through


@dataclass(frozen=True, slots=True, kw_only=True, config=ConfigDict(extra="forbid"))
class Row:
    """One sample.

    Attributes:
        id: unique in its manifest, and safe as a file name.
        split: ``train``, ``dev``, ``test``, or a name of one's own.
        poses: where the keypoints lie: a file that `signet_runtime.pose.files.read_keypoints` reads, or a clip of a
            pose store (``poses.arrow#ID``), relative to the manifest's directory or absolute; or ``spell://…`` (see
            `signet_train.data.spelled.corpus`).
        text: the sentence, the target of translation.
        language: of the text, BCP 47 (``de``, ``zh``).
        sign_language: ISO 639-3 (``gsg``, ``csl``, ``ase``, ``bfi``).
        video: the recording, or a directory of its frames; relative to the manifest's directory or absolute.
        fps: frames a second of a directory of frames; a video file knows its own.
        start, end: seconds in ``video`` that the sample takes; None for all of it. ``poses`` holds no more than that.
        signer: who signs, where the corpus says.
        gloss: the signs' labels, the target of recognition.
        corpus: the published corpus that the row is from (``csl-daily``, ``how2sign``, ``wlasl``); an expert that was
            trained on it is refused as an expert for it. None: nobody published it, or nothing is said.
    """

    id: str
    split: str
    poses: str
    text: str
    language: str
    sign_language: str
    video: str | None = None
    fps: float | None = None
    start: float | None = None
    end: float | None = None
    signer: str | None = None
    gloss: str | None = None
    corpus: str | None = None


NAMES = tuple(field.name for field in dataclasses.fields(Row))
REQUIRED = tuple(field.name for field in dataclasses.fields(Row) if field.default is dataclasses.MISSING)
NUMBERS = ("fps", "start", "end")
SCHEMA = pa.schema([(name, pa.float64() if name in NUMBERS else pa.string()) for name in NAMES])


class Rows(Sequence[Row]):
    """Rows of an Arrow table, all or chosen ones, as a sequence of `Row`.

    Args:
        table: in `SCHEMA`.
        chosen: uint32, their numbers in the table; None for all.
        mapped: the Arrow file that the table is mapped from, which another process maps too; None: it is in memory.
    """

    def __init__(self, table: pa.Table, chosen: np.ndarray | None = None, mapped: Path | None = None) -> None:
        self._table, self._chosen, self._mapped = table, chosen, mapped
        self._batches = table.to_batches()
        self._starts = np.cumsum([0, *(len(batch) for batch in self._batches)])

    @classmethod
    def of(cls, rows: Iterable[Row]) -> Rows:
        """Return rows as these, unless they are."""
        return rows if isinstance(rows, Rows) else cls(pa.Table.from_batches(batches_of(rows), SCHEMA))

    def __len__(self) -> int:
        return len(self._table) if self._chosen is None else len(self._chosen)

    @overload
    def __getitem__(self, index: int) -> Row: ...
    @overload
    def __getitem__(self, index: slice) -> Rows: ...
    def __getitem__(self, index: int | slice) -> Row | Rows:
        if isinstance(index, slice):
            chosen = np.arange(len(self._table), dtype=np.uint32) if self._chosen is None else self._chosen
            return Rows(self._table, chosen[index], self._mapped)
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        number = index % len(self)
        if self._chosen is not None:
            number = int(self._chosen[number])
        part = int(np.searchsorted(self._starts, number, "right")) - 1
        batch, place = self._batches[part], number - int(self._starts[part])
        return Row(**{name: column[place].as_py() for name, column in zip(NAMES, batch.columns, strict=True)})

    def __iter__(self) -> Iterator[Row]:
        for batch in self.batches():
            for record in batch.to_pylist():
                yield Row(**record)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence):
            return NotImplemented
        return len(self) == len(other) and all(a == b for a, b in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"<{len(self)} rows>"

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        if self._mapped is not None:
            return _map_again, (self._mapped, self._chosen)
        sink = io.BytesIO()
        with pa.ipc.new_stream(sink, SCHEMA) as stream:
            for batch in self.batches():
                stream.write_batch(batch)
        return _unpack, (sink.getvalue(),)

    def batches(self, *names: str) -> Iterator[pa.RecordBatch]:
        """Yield the rows' columns, all or these, in batches of a few thousand."""
        columns = list(names or NAMES)
        if self._chosen is None:
            for batch in self._batches:
                for start in range(0, len(batch), BATCH):
                    yield batch.select(columns).slice(start, BATCH)
            return
        for start in range(0, len(self._chosen), BATCH):
            chosen = self._chosen[start : start + BATCH]
            parts = np.searchsorted(self._starts, chosen, "right") - 1
            ends = [*(np.flatnonzero(np.diff(parts)) + 1).tolist(), len(chosen)]
            # Arrow's take of a whole table may copy all of its text.
            for first, end in zip([0, *ends], ends, strict=False):
                part = int(parts[first])
                yield self._batches[part].select(columns).take(pa.array(chosen[first:end] - self._starts[part]))

    def where(self, name: str, values: Iterable[str]) -> Rows:
        """Return the rows that have one of these values in a column, in their order."""
        wanted = pa.array(sorted(set(values)), pa.string())
        found, start = [np.zeros(0, np.uint32)], 0
        for batch in self.batches(name):
            places = np.flatnonzero(pc.is_in(batch.column(0), value_set=wanted).to_numpy(zero_copy_only=False))
            found.append((places + start).astype(np.uint32))
            start += len(batch)
        chosen = np.concatenate(found)
        return Rows(self._table, chosen if self._chosen is None else self._chosen[chosen], self._mapped)

    def distinct(self, name: str) -> set[Any]:
        """Return the values of a column, None among them where it is."""
        return {value for batch in self.batches(name) for value in pc.unique(batch.column(0)).to_pylist()}

    def characters(self, name: str) -> set[str]:
        """Return all characters of a column of text."""
        found: set[str] = set()
        for batch in self.batches(name):
            column = batch.column(0)
            start, end = np.frombuffer(column.buffers()[1], np.int32)[[column.offset, column.offset + len(column)]]
            data = column.buffers()[2]
            found.update("" if data is None else str(data.slice(int(start), int(end - start)), "utf-8"))
        return found


def batches_of(rows: Iterable[Row]) -> Iterator[pa.RecordBatch]:
    """Yield rows as Arrow, some thousands at a time.

    Raises:
        UnicodeError: a text with lone surrogates.
    """
    pending = iter(rows)
    while some := list(islice(pending, BATCH)):
        yield pa.RecordBatch.from_pylist([{name: getattr(row, name) for name in NAMES} for row in some], SCHEMA)


def repeated(parts: Sequence[Rows], name: str) -> Iterator[tuple[int, int]]:
    """Yield the rows whose value in a column an earlier row has, each with the first such row.

    Both are numbers over all parts, from 0, in the order of the rows; nulls are as empty strings.
    """
    hashes = [hash_strings(batch.column(0)) for rows in parts for batch in rows.batches(name)]
    if not hashes:
        return
    every = np.concatenate(hashes)
    in_order = np.sort(every)
    met = np.unique(in_order[1:][in_order[1:] == in_order[:-1]])
    if not len(met):
        return
    first: dict[str, int] = {}
    starts = np.cumsum([0, *map(len, parts)])
    for number in np.flatnonzero(np.isin(every, met)).tolist():
        part = int(np.searchsorted(starts, number, "right")) - 1
        value = getattr(parts[part][number - int(starts[part])], name)
        earlier = first.setdefault(value, number)
        if earlier != number:
            yield number, earlier


def open_mapped(path: Path) -> pa.Table:
    """Map an Arrow file of rows: its pages are the file's, shared by all processes, and read when they are looked at.

    Raises:
        InputError: it is not there, or has been replaced or damaged.
    """
    try:
        # Threads of Arrow's own would not survive the fork of a DataLoader.
        options = pa.ipc.IpcReadOptions(use_threads=False)
        table = pa.ipc.open_file(pa.memory_map(str(path)), options=options).read_all()
        if not table.schema.equals(SCHEMA):
            raise ValueError("other columns")
        table.validate(full=True)
    except (OSError, ValueError, pa.ArrowException) as error:
        raise InputError(f"{path}: the manifest's rows are not there any more ({first_line(error)})") from error
    return table


def _map_again(path: Path, chosen: np.ndarray | None) -> Rows:
    return Rows(open_mapped(path), chosen, path)


def _unpack(stream: bytes) -> Rows:
    return Rows(pa.ipc.open_stream(stream).read_all())
