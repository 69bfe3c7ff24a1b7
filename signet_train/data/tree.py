"""Where a data set's files lie is its owner's choice: looking below a directory, as people's machines keep it."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterator
from pathlib import Path, PurePath

_SUFFIXES = """
    3g2 3gp apng asf avi divx dv f4v flv gif h264 hevc ivf m2t m2ts m2v m4v mjpeg mjpg mkv mod mov mp4 mpe mpeg mpg mts
    mxf nut ogg ogm ogv qt rm tod ts vob webm wmv y4m
"""

# Of files that FFmpeg reads, those that hold a recording.
VIDEO_SUFFIXES = frozenset(f".{name}" for name in _SUFFIXES.split())


def is_kept(name: str) -> bool:
    """Whether a file or directory is its owner's: not what a system puts beside it (``._a.mp4``, ``.DS_Store``)."""
    return not name.startswith(".") and name != "__MACOSX"


def files_below(root: Path) -> Iterator[Path]:
    """Yield every file below a directory, in the same order on every machine; hidden ones are left out.

    Links to directories are followed, as videos often lie on another disk; each directory is visited once.
    """
    visited: set[Path] = set()
    for directory, subdirectories, names in os.walk(root, followlinks=True):
        real = Path(directory).resolve()
        if real in visited:
            subdirectories.clear()
            continue
        visited.add(real)
        subdirectories[:] = sorted(filter(is_kept, subdirectories))
        yield from (Path(directory, name) for name in sorted(filter(is_kept, names)))


def find_below(root: Path, name: PurePath) -> Path:
    """Return the file of that name below ``root``, also where it is written in another way there.

    A Mac may write "é" in two characters where a table has one, and the other way round; cameras write suffixes in
    capitals. A file that is not there is where it was looked for.
    """
    if (root / name).exists():
        return root / name
    suffix = name.suffix
    for form in ("NFC", "NFD"):
        for spelled in (suffix, suffix.lower(), suffix.upper()):
            candidate = root / unicodedata.normalize(form, str(name.with_suffix(spelled)))
            if candidate.exists():
                return candidate
    return root / name
