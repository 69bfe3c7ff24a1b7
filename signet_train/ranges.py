"""Which values a setting may have, and why: pydantic checks it, an error says it, and `config --explain` tells it."""

from __future__ import annotations

import math
import numbers
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from signet_runtime.printable import is_printable, printable

_NAME, _PATH = 255, 4096  # bytes that a file system takes in a name, and the system in a path


@dataclass(frozen=True, slots=True)
class Whole:
    """A whole number from ``low`` to ``high``, odd where ``odd``; ``why`` is the reason, in a few words."""

    low: int
    high: int
    why: str
    odd: bool = False

    def __str__(self) -> str:
        return f"{'an odd' if self.odd else 'a whole'} number from {self.low:,} to {self.high:,}"

    def check(self, value: Any) -> Any:
        """Return the value.

        Raises:
            PydanticCustomError: it is another, or no whole number; true is none.
        """
        if isinstance(value, bool) or not isinstance(value, numbers.Integral):
            raise _refusal(self)
        number = int(value)
        if not self.low <= number <= self.high or (self.odd and number % 2 == 0):
            raise _refusal(self)
        return number

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_before_validator_function(self.check, handler(source))


@dataclass(frozen=True, slots=True)
class Real:
    """A number from ``low`` to ``high``.

    Attributes:
        why: the reason for these ends, in a few words.
        above, below: ``low`` is not among the numbers; ``high`` is not.
    """

    low: float
    high: float
    why: str
    above: bool = False
    below: bool = False

    def __str__(self) -> str:
        low = f"above {self.low:,g}" if self.above else f"from {self.low:,g}"
        high = f"below {self.high:,g}" if self.below else f"{self.high:,g}"
        return (
            f"a number {low} {'and' if self.above else 'to'} {'up to ' if self.above and not self.below else ''}{high}"
        )

    def check(self, value: Any) -> float:
        """Return the value.

        Raises:
            PydanticCustomError: it is another, infinite, or no number; true is none.
        """
        try:
            number = math.nan if isinstance(value, bool) or not isinstance(value, numbers.Real) else float(value)
        except OverflowError:
            number = math.inf
        low = number > self.low if self.above else number >= self.low
        high = number < self.high if self.below else number <= self.high
        if not (low and high):  # of no number neither is true
            raise _refusal(self)
        return number

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_before_validator_function(self.check, handler(source))


@dataclass(frozen=True, slots=True)
class Text:
    """A text of up to ``most`` characters, without those that control a terminal; line breaks where ``lines``."""

    most: int
    why: str
    lines: bool = False

    def __str__(self) -> str:
        return f"a text of up to {self.most:,} characters that can be shown"

    def check(self, value: str) -> str:
        """Return the value.

        Raises:
            PydanticCustomError: it is longer, or has control characters.
        """
        shown = value.replace("\n", "").replace("\t", "") if self.lines else value
        if len(value) > self.most or not is_printable(shown):
            raise _refusal(self)
        return value

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self.check, handler(source))


@dataclass(frozen=True, slots=True)
class Place:
    """A path that a system can look up: no byte 0, no name of more than 255 bytes."""

    why: str = "no file system has others"

    def __str__(self) -> str:
        return f"a path of names of up to {_NAME} bytes, none of them 0"

    def check(self, value: Path) -> Path:
        """Return the value.

        Raises:
            PydanticCustomError: no file can be called so.
        """
        try:
            whole = os.fsencode(value)
        except UnicodeEncodeError:
            raise _refusal(self) from None
        if b"\0" in whole or len(whole) > _PATH or any(len(name) > _NAME for name in whole.split(b"/")):
            raise _refusal(self)
        return value

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self.check, handler(source))


Range = Whole | Real | Text | Place


def name_of(path: Path) -> str:
    """Return a directory's name as a `Text` of a card: without what cannot be shown, and no longer than 200."""
    return printable(path.name)[:200]


def _refusal(allowed: Range) -> PydanticCustomError:
    return PydanticCustomError("range", "has to be {allowed} ({why})", {"allowed": str(allowed), "why": allowed.why})
