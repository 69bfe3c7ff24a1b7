"""The likeliest of a quarter of a million next tokens, without sorting them or writing their probabilities down."""

from __future__ import annotations

import numpy as np

from signet_runtime.generation.search import Candidates

# Columns that stand for one another in the first pass. The second looks at this many a candidate.
_GROUP = 64


def likeliest(logits: np.ndarray, count: int) -> Candidates:
    """Return the ``count`` largest of each row, falling, as log-probabilities.

    Args:
        logits: float32 (R, V).
        count: all of V where that is less.
    """
    columns = _largest_columns(logits, min(count, logits.shape[1]))
    # In this order, as PyTorch's log_softmax: the largest and the sum together would lose the small difference.
    largest = logits.max(axis=1, keepdims=True)
    log_probs = (np.take_along_axis(logits, columns, axis=1) - largest) - _log_sums(logits, largest)
    return Candidates(columns, log_probs)


def _largest_columns(logits: np.ndarray, count: int) -> np.ndarray:
    """Find them by groups of columns, w + i * width in group w: a row's largest are in those of the largest maxima."""
    rows, vocabulary = logits.shape
    width = vocabulary // _GROUP
    if width <= count:
        return np.argsort(-logits, axis=1, kind="stable")[:, :count]
    maxima = logits[:, : width * _GROUP].reshape(rows, _GROUP, width).max(axis=1)
    groups = np.argpartition(maxima, width - count, axis=1)[:, width - count :]
    columns = np.concatenate(
        [
            (groups[:, None, :] + np.arange(_GROUP)[:, None] * width).reshape(rows, -1),
            np.arange(width * _GROUP, vocabulary)[None].repeat(rows, axis=0),  # what is left over
        ],
        axis=1,
    )
    columns.sort(axis=1)  # so that of equals the first comes first
    order = np.argsort(-np.take_along_axis(logits, columns, axis=1), axis=1, kind="stable")[:, :count]
    return np.take_along_axis(columns, order, axis=1)


def _log_sums(logits: np.ndarray, largest: np.ndarray) -> np.ndarray:
    """Return the logarithm of each row's sum of exp(logit - largest), (R, 1); a row at a time stays in the cache."""
    buffer = np.empty_like(logits[0])
    sums = np.empty_like(largest)
    for row, (values, maximum) in enumerate(zip(logits, largest, strict=True)):
        np.subtract(values, maximum, out=buffer)
        np.exp(buffer, out=buffer)
        sums[row] = buffer.sum()
    return np.log(sums)
