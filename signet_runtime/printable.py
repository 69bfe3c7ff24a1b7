"""Texts of files and file names, as they may reach a terminal, a log, or a line of results."""

from __future__ import annotations

import re

# Control characters, which move a terminal's cursor or colour what follows; lone surrogates, which cannot be written;
# and what turns the direction of text, by which a line can be made to read as another.
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str) -> str:
    r"""Return a text that stays one line on a terminal, and cannot do anything to it.

    Line breaks and tabs become spaces; other control characters, marks that turn the direction of text, and lone
    surrogates become their escapes (``\x1b``).
    """
    return _UNSAFE.sub(_escaped, text)


def is_printable(text: str) -> bool:
    """Whether `printable` would change nothing of a text."""
    return _UNSAFE.search(text) is None


def _escaped(found: re.Match[str]) -> str:
    character = found[0]
    if character in "\t\n\v\f\r\x85\u2028\u2029":
        return " "
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
