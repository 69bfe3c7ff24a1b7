"""Arrow's strings as numbers: a million ids are compared, or looked up, without a Python object each."""

from __future__ import annotations

from typing import Any

import numpy as np

# A random odd factor a position (multilinear hashing: two strings meet with a chance of about 2^-57). They are part of
# no file: whoever compares hashes has made both.
_FACTORS = np.random.default_rng(0x516E).integers(0, 2**64, 4096, dtype=np.uint64) | np.uint64(1)


def hash_strings(array: Any) -> np.ndarray:
    """Return the 64-bit hashes of an Arrow array of strings, uint64 (N,); nulls are as empty strings.

    Equal strings have equal hashes; that unequal ones differ is all but certain, and to be confirmed where it counts.
    """
    _, offsets_buffer, data = array.buffers()
    offsets = np.frombuffer(offsets_buffer, np.int32)[array.offset : array.offset + len(array) + 1]
    lengths = np.diff(offsets)
    hashes = _FACTORS[lengths % len(_FACTORS)] >> np.uint64(1)
    filled = np.flatnonzero(lengths)
    if not len(filled):
        return hashes
    # Nulls may have bytes of nobody between others' strings, so each one's are named.
    starts = np.concatenate([[0], np.cumsum(lengths[filled], dtype=np.int64)[:-1]])
    place = np.arange(int(lengths.sum(dtype=np.int64))) - np.repeat(starts, lengths[filled])
    at = place + np.repeat(offsets[:-1][filled], lengths[filled])
    # + 1: a zero byte counts; the quotient: strings may be longer than there are factors
    values = (np.frombuffer(data, np.uint8)[at].astype(np.uint64) + np.uint64(1)) * (
        _FACTORS[place % len(_FACTORS)] + (place // len(_FACTORS)).astype(np.uint64)
    )
    hashes[filled] ^= np.add.reduceat(values, starts)
    return hashes


def hash_string(text: str) -> np.uint64:
    """Return the hash that `hash_strings` gives this string.

    Raises:
        UnicodeEncodeError: it has lone surrogates, which no Arrow string has.
    """
    data = np.frombuffer(text.encode(), np.uint8)
    place = np.arange(len(data))
    values = (data.astype(np.uint64) + np.uint64(1)) * (
        _FACTORS[place % len(_FACTORS)] + (place // len(_FACTORS)).astype(np.uint64)
    )
    return (_FACTORS[len(data) % len(_FACTORS)] >> np.uint64(1)) ^ values.sum(dtype=np.uint64)
