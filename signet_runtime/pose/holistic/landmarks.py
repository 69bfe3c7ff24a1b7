"""From a landmark model's output to points in its crop."""

from __future__ import annotations

import numpy as np

# Of the heatmap refinement: how many cells around a landmark count, and how sure the surest of them must be.
_KERNEL = 9
_MIN_CONFIDENCE = 0.5


def sigmoid(values: np.ndarray) -> np.ndarray:
    """Return 1 / (1 + exp(-x))."""
    return 1 / (1 + np.exp(-values))


def points_in_crop(values: np.ndarray, count: int, side: int) -> np.ndarray:
    """Return (count, 2) fractions of the crop, of a model's output in pixels (TensorsToLandmarksCalculator)."""
    return values.reshape(count, -1)[:, :2].astype(np.float64) / side


def refined(points: np.ndarray, heatmap: np.ndarray) -> np.ndarray:
    """Return points moved to the centre of the heatmap around them (RefineLandmarksFromHeatmapCalculator).

    Args:
        points: (N, 2), fractions of the crop.
        heatmap: (H, W, N) logits; a point outside of it, or where it has nothing to say, stays.
    """
    height, width, count = heatmap.shape
    size = np.array([width, height])
    centre = np.trunc(points * size).astype(np.int64)
    reach = np.arange(_KERNEL) - (_KERNEL - 1) // 2
    columns, rows = centre[:, :1] + reach, centre[:, 1:] + reach
    inside = ((rows >= 0) & (rows < height))[:, :, None] & ((columns >= 0) & (columns < width))[:, None, :]
    window = heatmap[
        rows.clip(0, height - 1)[:, :, None], columns.clip(0, width - 1)[:, None, :], np.arange(count)[:, None, None]
    ]
    weights = sigmoid(window.astype(np.float64)) * inside
    total = weights.sum(axis=(1, 2))
    known = ((centre >= 0) & (centre < size)).all(axis=1) & (weights.max(axis=(1, 2)) >= _MIN_CONFIDENCE)
    mean = np.stack([(weights.sum(axis=1) * columns).sum(axis=1), (weights.sum(axis=2) * rows).sum(axis=1)], axis=1)
    moved = mean / size / np.where(known, total, 1)[:, None]
    return np.where(known[:, None], moved, points)
