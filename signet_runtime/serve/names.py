"""The name of an upload, as far as a stranger's may be trusted: what it is called in answers, and its suffix here."""

from __future__ import annotations

import re
import unicodedata
from urllib.parse import quote

from signet_runtime.pose.files import KEYPOINT_SUFFIXES

_LONGEST = 120
_SUFFIX = re.compile(r"\.[a-z0-9]{1,8}")

# Keypoints that one file holds; the other kinds are of folders, or corpora.
KEYPOINTS = frozenset(KEYPOINT_SUFFIXES | {".json", ".npy"})


def shown_name(given: str | None) -> str:
    """Return the last part of a name without what could not be shown in a line: no folders, no control characters."""
    last = re.split(r"[/\\]", given or "")[-1]
    # Cc, Cf (which turns the direction of writing), Cs, Co, Cn; and the separators of lines and paragraphs.
    shown = "".join(
        c for c in last if unicodedata.category(c)[0] != "C" and unicodedata.category(c) not in ("Zl", "Zp")
    )
    shown = " ".join(shown.split()).strip(". ")
    if len(shown) > _LONGEST:
        stem, dot, suffix = shown.rpartition(".")
        shown = f"{stem[: _LONGEST - 9]}{dot}{suffix}" if dot and len(suffix) <= 8 else shown[:_LONGEST]
    return shown or "recording"


def suffix_of(name: str) -> str:
    """Return the suffix of a shown name, in lower case; "" where it is none that a file of ours may have."""
    _, dot, suffix = name.lower().rpartition(".")
    found = dot + suffix
    return found if _SUFFIX.fullmatch(found) else ""


def attachment(name: str, suffix: str) -> str:
    """Return the Content-Disposition of what is made of an upload (RFC 6266)."""
    stem = name.rpartition(".")[0] or name
    plain = re.sub(r"[^A-Za-z0-9 ._-]", "_", stem)
    return f"attachment; filename=\"{plain}{suffix}\"; filename*=UTF-8''{quote(stem + suffix, safe='')}"
