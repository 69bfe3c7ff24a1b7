"""Splits for corpora that publish none."""

from __future__ import annotations

import zlib
from pathlib import PurePosixPath

_NAMES = {"train": "train", "training": "train", "dev": "dev", "val": "dev", "valid": "dev", "validation": "dev"}
_NAMES |= {"test": "test", "testing": "test"}


def hash_split(key: str, percent: int = 1) -> str:
    """Return ``dev`` and ``test`` for ``percent`` of all keys each, by the key's CRC-32; ``train`` for the others.

    What must not be torn apart (a video's sentences, a signer's videos) shares a key. The split of a key never
    depends on what else there is: a corpus may be downloaded in parts.
    """
    bucket = zlib.crc32(key.encode()) % 100
    return "dev" if bucket < percent else "test" if bucket < 2 * percent else "train"


def own_split(given: str, name: PurePosixPath, signer: str | None) -> str:
    """Return the split of one's own recording: what a table gives, or its first directory says, else by a hash.

    Args:
        given: empty where no table says it.
        name: of the recording, relative to the folder of all.
        signer: whose recordings are not torn apart, where that is known.
    """
    if given:
        return _NAMES.get(given.lower(), given)
    return _of_directory(name) or hash_split(signer or name.as_posix(), percent=10)


def is_hashed(split: str, name: PurePosixPath, signer: str | None) -> bool:
    """Whether a split is what `own_split` gives where nobody said any."""
    return _of_directory(name) is None and split == own_split("", name, signer)


def _of_directory(name: PurePosixPath) -> str | None:
    return _NAMES.get(name.parts[0].lower()) if len(name.parts) > 1 else None
