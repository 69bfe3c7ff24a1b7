"""The formats that translations are written in, one file and one row of `FORMATS` each."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Protocol

from signet_runtime.outputs.elan import Elan
from signet_runtime.outputs.json_lines import JsonLines
from signet_runtime.outputs.plain_text import PlainText
from signet_runtime.outputs.subtitles import Subtitles
from signet_runtime.outputs.table import Table

if TYPE_CHECKING:
    from signet_runtime.translation import Translation


class Format(Protocol):
    """What one output holds, piece by piece; a new one for every output.

    Attributes:
        one_input: whether an output can hold what one input says, and no more.
    """

    one_input: bool

    def add(self, source: str, translation: Translation) -> str | None:
        """Return what a sentence of ``source`` adds, also one that still goes on (not ``complete``), or None."""
        ...

    def fail(self, source: str, message: str, *, alone: bool) -> str | None:
        """Return what it adds that ``source``, ``alone`` or one of several, cannot be translated, or None."""
        ...

    def end(self) -> str | None:
        """Return what comes after everything else, or None."""
        ...


FORMATS: dict[str, Callable[[], Format]] = {
    "text": PlainText,
    "json": JsonLines,
    "jsonl": JsonLines,
    "srt": partial(Subtitles, "srt"),
    "vtt": partial(Subtitles, "vtt"),
    "tsv": Table,
    "eaf": Elan,
}

# By what files of a format are known where they are named after their inputs, if not by the format's name.
SUFFIXES = {"text": ".txt", "json": ".jsonl"}
