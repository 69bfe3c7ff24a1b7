"""A recording that breaks off is used up to there."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")


@contextmanager
def deferred_errors(items: Iterable[T]) -> Iterator[Iterator[T]]:
    """Give the items up to where they cannot be read any further; what was raised there is raised at the block's end.

    So an estimator that has several frames in hand still gives the keypoints of all of them, and a sentence that was
    begun is still translated.
    """
    problems: list[Exception] = []

    def until_there_is_one() -> Iterator[T]:
        try:
            yield from items
        except Exception as error:
            problems.append(error)

    yield until_there_is_one()
    if problems:
        raise problems[0]
