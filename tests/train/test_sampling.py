"""The order of data is a matter of seed and step alone, however it is divided and wherever a run is resumed."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from signet_train.data.batches.sampling import BatchOrder, in_order

sizes = st.integers(1, 4)


@given(st.integers(1, 60), sizes, sizes, st.integers(1, 3), st.integers(0, 5))
def test_an_epoch_shows_each_row_once_at_most_and_leaves_out_less_than_a_step(
    rows: int, batch: int, accumulation: int, epochs: int, seed: int
) -> None:
    order = BatchOrder(rows, batch, accumulation, epochs, seed)
    batches = list(order)
    assert len(batches) == len(order) == epochs * order.steps_per_epoch * accumulation
    assert rows - order.steps_per_epoch * batch * accumulation < batch * accumulation
    for epoch in range(epochs):
        seen = [index for keys in batches for e, index in keys if e == epoch]
        assert len(seen) == len(set(seen)) == order.steps_per_epoch * batch * accumulation
        assert set(seen) <= set(range(rows))


@given(st.integers(8, 60), sizes, sizes, st.integers(1, 3), st.data())
def test_resumed_it_goes_on_where_it_was(
    rows: int, batch: int, accumulation: int, epochs: int, data: st.DataObject
) -> None:
    whole = BatchOrder(rows, batch, accumulation, epochs, seed=1)
    first = data.draw(st.integers(0, epochs * whole.steps_per_epoch))
    rest = BatchOrder(rows, batch, accumulation, epochs, seed=1, first=first)
    assert list(rest) == list(whole)[first * accumulation :]


@given(st.integers(8, 60), sizes, sizes, st.integers(2, 4))
def test_processes_side_by_side_are_one_with_wider_batches(
    rows: int, batch: int, accumulation: int, processes: int
) -> None:
    wide = list(BatchOrder(rows, batch * processes, accumulation, 2, seed=3))
    parts = [
        list(BatchOrder(rows, batch, accumulation, 2, seed=3, processes=processes, rank=rank))
        for rank in range(processes)
    ]
    assert [list(itertools.chain(*keys)) for keys in zip(*parts, strict=True)] == wide


def test_epochs_and_seeds_have_orders_of_their_own() -> None:
    one, two = BatchOrder(50, 50, 1, 2, seed=0)
    assert [i for _, i in one] != [i for _, i in two]
    assert [i for _, i in next(iter(BatchOrder(50, 50, 1, 1, seed=1)))] != [i for _, i in one]


@given(st.integers(1, 40), sizes, st.integers(1, 4))
def test_validation_goes_through_every_row_once(rows: int, batch: int, processes: int) -> None:
    shares = [in_order(rows, batch, processes, rank) for rank in range(processes)]
    assert sorted(index for share in shares for keys in share for _, index in keys) == list(range(rows))
