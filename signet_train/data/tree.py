"""Where a data set's files lie is its owner's choice: looking below a directory."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path


def files_below(root: Path) -> Iterator[Path]:
    """Yield every file below a directory, in the same order on every machine.

    Links to directories are followed, as videos often lie on another disk; each directory is visited once.
    """
    visited: set[Path] = set()
    for directory, subdirectories, names in os.walk(root, followlinks=True):
        real = Path(directory).resolve()
        if real in visited:
            subdirectories.clear()
            continue
        visited.add(real)
        subdirectories.sort()
        yield from (Path(directory, name) for name in sorted(names))
