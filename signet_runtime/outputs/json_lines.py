"""Translations as JSON Lines: one object an input, in order."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from signet_runtime.translation import Translation


def to_json(source: str, translation: Translation) -> str:
    """Return one line: the input's name and every field of the translation; times in seconds."""
    return json.dumps({"input": source, **asdict(translation)}, ensure_ascii=False)


def error_to_json(source: str, message: str) -> str:
    """Return one line for an input that could not be translated."""
    return json.dumps({"input": source, "error": message}, ensure_ascii=False)


class JsonLines:
    """An object a sentence, also of one that still goes on, and an object for an input that failed."""

    one_input = False

    def add(self, source: str, translation: Translation) -> str | None:
        """Return the line of a sentence."""
        return to_json(source, translation) + "\n"

    def fail(self, source: str, message: str, *, alone: bool) -> str | None:
        """Return the line of an input that cannot be translated."""
        return error_to_json(source, message) + "\n"

    def end(self) -> str | None:
        """Return None: everything was written when it came."""
        return None
