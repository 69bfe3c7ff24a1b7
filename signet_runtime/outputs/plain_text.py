"""Translations as plain text: a line a sentence."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from signet_runtime.translation import Translation


class PlainText:
    """A line a sentence, in order; an empty one keeps texts beside their inputs where one of several failed."""

    one_input = False

    def add(self, source: str, translation: Translation) -> str | None:
        """Return the line of a sentence; there is none before it is complete."""
        return " ".join(translation.text.split()) + "\n" if translation.complete else None

    def fail(self, source: str, message: str, *, alone: bool) -> str | None:
        """Return an empty line, unless the input is alone."""
        return None if alone else "\n"

    def end(self) -> str | None:
        """Return None: everything was written when it came."""
        return None
