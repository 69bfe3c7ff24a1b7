"""Rows of several manifests as one sequence, each with the directory that its paths start from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import numpy as np

from signet_train.data.rows import Row, Rows


@dataclass(frozen=True, slots=True)
class LocatedRow:
    """A row and the directory that its relative paths start from."""

    row: Row
    root: Path


class LocatedRows(Sequence[LocatedRow]):
    """Parts of manifests, one after another; they stay in Arrow, see `Rows`."""

    def __init__(self, parts: Sequence[tuple[Rows, Path]]) -> None:
        self.parts = [(rows, root) for rows, root in parts if len(rows)]
        self._starts = np.cumsum([0, *(len(rows) for rows, _ in self.parts)])

    def __len__(self) -> int:
        return int(self._starts[-1])

    @overload
    def __getitem__(self, index: int) -> LocatedRow: ...
    @overload
    def __getitem__(self, index: slice) -> list[LocatedRow]: ...
    def __getitem__(self, index: int | slice) -> LocatedRow | list[LocatedRow]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        number = index % len(self)
        part = int(np.searchsorted(self._starts, number, "right")) - 1
        rows, root = self.parts[part]
        return LocatedRow(rows[number - int(self._starts[part])], root)

    def __iter__(self) -> Iterator[LocatedRow]:
        return (LocatedRow(row, root) for rows, root in self.parts for row in rows)

    def __add__(self, other: LocatedRows) -> LocatedRows:
        return LocatedRows([*self.parts, *other.parts])

    def distinct(self, name: str) -> set[Any]:
        """Return the values of a column, None among them where it is."""
        return {value for rows, _ in self.parts for value in rows.distinct(name)}
