"""The single-shot detectors for people and faces: anchors, decoding, and the merging of overlapping finds."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import NamedTuple

import numpy as np

from signet_runtime.pose.holistic.landmarks import sigmoid

_MIN_SCORE = 0.5
_SAME = 0.3  # intersection over union above which two finds are one


class Detections(NamedTuple):
    """What was found, surest first.

    Attributes:
        scores: (N,).
        boxes: (N, 4), left, top, right, bottom.
        points: (N, K, 2).
    """

    scores: np.ndarray
    boxes: np.ndarray
    points: np.ndarray


def anchors(side: int, strides: Sequence[int]) -> np.ndarray:
    """Return the middles (N, 2) of the cells that a detector's outputs belong to, in fractions of its input.

    Two for each layer and cell, row by row; layers of one stride share their cells (SsdAnchorsCalculator with
    fixed_anchor_size).
    """
    found = []
    for stride, layers in groupby(strides):
        cells = -(-side // stride)
        middles = (np.arange(cells) + 0.5) / cells
        grid = np.stack(np.meshgrid(middles, middles), axis=-1).reshape(-1, 2)
        found.append(np.repeat(grid, 2 * len(list(layers)), axis=0))
    return np.concatenate(found)


def decoded(values: np.ndarray, logits: np.ndarray, cells: np.ndarray, side: int) -> Detections:
    """Return every find of score 0.5 or more, in fractions of the input (TensorsToDetectionsCalculator).

    Args:
        values: (N, 4 + 2 K): middle and size of a box, then K points, in pixels from the cell's middle.
        logits: (N,).
        cells: from `anchors`.
    """
    scores = sigmoid(logits.astype(np.float64).clip(-100, 100))
    sure = np.flatnonzero(scores >= _MIN_SCORE)
    sure = sure[np.argsort(-scores[sure], kind="stable")]
    pairs = values[sure].reshape(len(sure), values.shape[1] // 2, 2).astype(np.float64) / side
    middle, size, points = pairs[:, 0] + cells[sure], pairs[:, 1], pairs[:, 2:] + cells[sure][:, None]
    boxes = np.concatenate([middle - size / 2, middle + size / 2], axis=1)
    proper = (size >= 0).all(axis=1)
    return Detections(scores[sure][proper], boxes[proper], points[proper])


def merged(found: Detections) -> Detections:
    """Return one find for all that overlap: their mean, weighted by score (NonMaxSuppressionCalculator, WEIGHTED)."""
    scores, boxes, points = [], [], []
    rest = np.arange(len(found.scores))
    while len(rest):
        same = overlaps(found.boxes[rest[0]], found.boxes[rest]) > _SAME
        same[0] = True  # a box of no area does not overlap even itself
        group, rest = rest[same], rest[~same]
        weights = found.scores[group] / found.scores[group].sum()
        scores.append(found.scores[group[0]])
        boxes.append(weights @ found.boxes[group])
        points.append(np.tensordot(weights, found.points[group], 1))
    if not scores:
        return Detections(found.scores[:0], found.boxes[:0], found.points[:0])
    return Detections(np.array(scores), np.array(boxes), np.array(points))


def overlaps(box: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Return the intersection over union (N,) of one box (4,) with each of (N, 4)."""
    shared = np.prod((np.minimum(box[2:], boxes[:, 2:]) - np.maximum(box[:2], boxes[:, :2])).clip(0), axis=1)
    both = np.prod(box[2:] - box[:2]) + np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) - shared
    return shared / np.where(both > 0, both, 1)
