"""Splits for corpora that publish none."""

from __future__ import annotations

import zlib


def hash_split(key: str, percent: int = 1) -> str:
    """Return ``dev`` and ``test`` for ``percent`` of all keys each, by the key's CRC-32; ``train`` for the others.

    What must not be torn apart (a video's sentences, a signer's videos) shares a key. The split of a key never
    depends on what else there is: a corpus may be downloaded in parts.
    """
    bucket = zlib.crc32(key.encode()) % 100
    return "dev" if bucket < percent else "test" if bucket < 2 * percent else "train"
