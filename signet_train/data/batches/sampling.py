"""Which samples make a batch: a matter of seed and step alone, so that a resumed run sees what it would have seen."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

import numpy as np
from torch.utils.data import Sampler

Key: TypeAlias = tuple[int, int]  # epoch and index of a row: all that a sample's randomness depends on


class BatchOrder(Sampler[list[Key]]):
    """The batches of one process, from step ``first`` on: every epoch in an order of its own.

    A step takes ``accumulation`` batches of ``batch_size`` from each of ``processes``; what does not fill a step is
    left out of that epoch. The batches of all processes, side by side, are those of a single process with batches
    ``processes`` times as large.
    """

    def __init__(
        self,
        rows: int,
        batch_size: int,
        accumulation: int,
        epochs: int,
        seed: int,
        *,
        processes: int = 1,
        rank: int = 0,
        first: int = 0,
    ) -> None:
        self.rows, self.epochs, self.seed = rows, epochs, seed
        self.batch_size, self.accumulation = batch_size, accumulation
        self.processes, self.rank, self.first = processes, rank, first
        self.steps_per_epoch = rows // (batch_size * accumulation * processes)

    def __len__(self) -> int:
        return (self.epochs * self.steps_per_epoch - self.first) * self.accumulation

    def __iter__(self) -> Iterator[list[Key]]:
        global_batch = self.batch_size * self.processes
        for epoch in range(self.first // max(1, self.steps_per_epoch), self.epochs):
            order = np.random.default_rng([self.seed, epoch]).permutation(self.rows)
            first_batch = max(0, self.first - epoch * self.steps_per_epoch) * self.accumulation
            for batch in range(first_batch, self.steps_per_epoch * self.accumulation):
                start = batch * global_batch + self.rank * self.batch_size
                yield [(epoch, int(index)) for index in order[start : start + self.batch_size]]


def in_order(rows: int, batch_size: int, processes: int = 1, rank: int = 0) -> list[list[Key]]:
    """List every row once, as one process's share of the batches."""
    starts = range(0, rows, batch_size)
    return [[(0, i) for i in range(s, min(s + batch_size, rows))] for s in starts][rank::processes]
