"""What makes two installations one: they would find the same keypoints."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from importlib import metadata
from pathlib import Path

import signet_runtime
import signet_train

# What a clip passes through on its way to keypoints, and what workers and client say to each other.
_RUNTIME = ("pose", "sources", "sentences", "skeleton.py")
_TRAIN = ("cluster", "data/extraction_work.py", "data/recordings.py", "data/store", "data/workers.py")


@lru_cache(maxsize=1)
def code_version() -> str:
    """Return the package's version, and a digest of the code that extraction runs: a clone's version stays the same."""
    try:
        stated = metadata.version("signet-slt")
    except metadata.PackageNotFoundError:  # a clone that is not installed
        stated = "a clone"
    found = hashlib.blake2b(digest_size=6)
    for package, parts in ((signet_runtime, _RUNTIME), (signet_train, _TRAIN)):
        root = Path(str(package.__path__[0]))
        for part in parts:
            files = sorted((root / part).rglob("*.py")) if (root / part).is_dir() else [root / part]
            for file in files:
                found.update(file.relative_to(root).as_posix().encode() + b"\0" + file.read_bytes())
    return f"{stated} ({found.hexdigest()})"
