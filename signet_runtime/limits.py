"""What a file or an option may ask for: one table, checked before anything is allocated.

Whoever has more raises a limit by the environment: ``SIGNET_LIMITS=frames=2000000,beams=200``.
"""

from __future__ import annotations

import functools
import math
import os
from dataclasses import dataclass, field, fields
from typing import Any

from signet_runtime.errors import ConfigError, SignetError
from signet_runtime.printable import printable

VARIABLE = "SIGNET_LIMITS"

_MIB = 1 << 20
_GIB = 1 << 30


def _most(value: float, why: str) -> Any:
    return field(default=value, metadata={"why": why})


@dataclass(frozen=True)
class Limits:
    """The largest (of `rate_low`, the smallest) that is taken; each with the reason, which the documentation shows."""

    # Files that are read whole.
    settings_bytes: int = _most(4 * _MIB, "manifests of bundles, settings and catalogues are kilobytes")
    tokenizer_bytes: int = _most(64 * _MIB, "mT5's SentencePiece model is 4 MB")
    json_bytes: int = _most(256 * _MIB, "keypoints in JSON: an hour of one person; Python takes ten times as much")
    text_bytes: int = _most(64 * _MIB, "captions, labels and scores: a corpus' are a few MB")
    table_bytes: int = _most(4 * _GIB, "manifests and corpus tables: a million rows are 0.5 GB")
    line_bytes: int = _most(4 * _MIB, "one row of a manifest or table is a few hundred bytes")
    keypoint_bytes: int = _most(2 * _GIB, "a keypoint file, or what it unpacks to")
    # What is in them.
    nesting: int = _most(64, "no format here nests deeper than 10")
    digits: int = _most(300, "a longer number is beyond what a float can hold")
    name_length: int = _most(200, "ids become names of files, which may have 255 bytes")
    text_length: int = _most(100_000, "characters of one sentence, notice or caption")
    frames: int = _most(250_000, "one recording of keypoints: nearly three hours at 25 a second, 0.4 GB")
    persons: int = _most(100, "people in one frame of a keypoint file, each of whom is tracked")
    people: int = _most(250_000, "people in all frames of a keypoint file, as if each had as many as the fullest")
    pixels: int = _most(1 << 27, "one picture: 16384 x 8192; as RGB 0.4 GB")
    rate_low: float = _most(0.01, "frames a second: a picture in 100 s is no video")
    rate_high: float = _most(1000.0, "frames a second: high-speed cameras have 1000")
    seconds: float = _most(1e6, "a time within a recording: 11 days")
    # Videos that are decoded in a process of their own.
    decode_bytes: int = _most(6 * _GIB, "its address space: 8K takes 2 GB with the pictures that decoders keep")
    decode_seconds: float = _most(60.0, "for which it says nothing: opening hours of video takes 10")
    # Archives.
    members: int = _most(4_000_000, "files in an archive: CSL-News has 0.7 million clips")
    member_bytes: int = _most(_GIB, "one file of an archive that is read into memory")
    unpacked_bytes: int = _most(64 * _GIB, "a bundle unpacked: of paper size 5 GB")
    # What is asked of the machine.
    beams: int = _most(100, "width of the search: at paper size 8 MB each; past 10 texts rarely change")
    tokens: int = _most(2000, "pieces of one text: a sentence has 10 to 100")
    jobs: int = _most(256, "processes side by side, each with a model of its own")


def describe() -> list[tuple[str, float, str]]:
    """Return name, value and reason of every limit, as they are now."""
    now = limits()
    return [(row.name, getattr(now, row.name), row.metadata["why"]) for row in fields(Limits)]


def limits() -> Limits:
    """Return the limits that hold: the table, and what the environment says.

    Raises:
        ConfigError: ``SIGNET_LIMITS`` names no limit, or gives it no positive number.
    """
    return _parsed(os.environ.get(VARIABLE, ""))


@functools.lru_cache(maxsize=8)
def _parsed(text: str) -> Limits:
    known: dict[str, type] = {row.name: int if isinstance(row.default, int) else float for row in fields(Limits)}
    chosen: dict[str, Any] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, _, value = (side.strip() for side in part.partition("="))
        if name not in known:
            raise ConfigError(f"{VARIABLE}: {printable(name)!r} is no limit; there are {', '.join(known)}")
        try:
            chosen[name] = known[name](value)
        except ValueError:
            chosen[name] = 0
        if not 0 < chosen[name] < math.inf:
            raise ConfigError(f"{VARIABLE}: {name} is {printable(value)!r}, and must be a positive number")
    return Limits(**chosen)


def check_limit(name: str, value: float, where: str, error: type[SignetError]) -> None:
    """Refuse what is above a limit (of `rate_low`, below it).

    Args:
        name: of the limit; also what is counted, for the message.
        value: what a file declares, or an option asks for.
        where: the file, or the place in it; empty where the caller puts it before.

    Raises:
        SignetError: of the class ``error``.
    """
    limit = getattr(limits(), name)
    least = name == "rate_low"
    if not (value >= limit if least else value <= limit):
        asked = f"{where}{': ' if where else ''}{name.replace('_', ' ')} {_shown(value)}"
        bound = f"at {'least' if least else 'most'} {_shown(limit)}"
        raise error(f"{asked}, and {bound} is taken; {VARIABLE}={name}={_shown(value)} changes that")


def _shown(value: float) -> str:
    try:
        return str(value) if isinstance(value, int) and abs(value) < 10**15 else f"{value:.6g}"
    except OverflowError:  # an integer that is beyond a float
        return "…"
