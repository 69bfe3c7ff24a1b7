"""Pieces put together to words, with their times."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from signet_runtime.translation import Piece


class Word(NamedTuple):
    """A word and when it was read (s), from the first of its pieces to the last."""

    text: str
    start: float
    end: float


def words(pieces: Sequence[Piece]) -> list[Word]:
    """Return the words of a text in its order; none where pieces have no times.

    A script without spaces is one word to its next space: no guess is made.
    """
    found: list[Word] = []
    begins = True
    for piece in pieces:
        begins = begins or piece.text.startswith(" ")
        text = piece.text.strip()
        if not text:  # the space that begins a word may be a piece of its own, and is read nowhere
            continue
        if piece.start is None or piece.end is None:
            return []
        if begins or not found:
            found.append(Word(text, piece.start, piece.end))
        else:
            before = found[-1]
            found[-1] = Word(before.text + text, min(before.start, piece.start), max(before.end, piece.end))
        begins = piece.text.endswith(" ")
    return found
