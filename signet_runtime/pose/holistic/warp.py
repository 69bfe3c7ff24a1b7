"""Cutting a turned square out of a picture."""

from __future__ import annotations

import numpy as np

from signet_runtime.pose.holistic.rois import Roi


def crop(picture: np.ndarray, roi: Roi, out: np.ndarray, low: float = 0.0, *, zero_border: bool = False) -> None:
    """Fill ``out`` with what a model sees of a picture, as ImageToTensorCalculator does.

    Args:
        picture: uint8 RGB (H, W, 3).
        roi: must exist.
        out: float32 (1, S, S, 3), written to: bilinear samples rounded to whole grey levels, black ``low`` and
            white 1.
        zero_border: black outside of the picture; otherwise its border pixels go on for ever.
    """
    from kornia_rs import imgproc

    side, picture = out.shape[1], np.ascontiguousarray(picture)
    to_picture = roi.matrix(side)
    pixels = imgproc.warp_affine(picture, _inverse(to_picture), (side, side), "bilinear")
    np.multiply(pixels, np.float32((1 - low) / 255), out=out[0])
    if not _holds(picture, to_picture, side):
        outside, samples = _beyond_the_border(picture, to_picture, side, zero_border=zero_border)
        out[0][outside] = samples * np.float32((1 - low) / 255)
    if low:
        out += np.float32(low)


def _inverse(matrix: np.ndarray) -> tuple[float, ...]:
    linear = np.linalg.inv(matrix[:, :2])
    return tuple(np.column_stack([linear, -linear @ matrix[:, 2]]).ravel().tolist())


def _holds(picture: np.ndarray, to_picture: np.ndarray, side: int) -> bool:
    """Whether all samples lie between pixels of the picture, as those of a parallelogram do if its corners' do."""
    corners = to_picture @ np.array([[0, side - 1, 0, side - 1], [0, 0, side - 1, side - 1], [1, 1, 1, 1]])
    height, width = picture.shape[:2]
    return bool((corners >= 0).all() and (corners[0] <= width - 1).all() and (corners[1] <= height - 1).all())


def _beyond_the_border(
    picture: np.ndarray, to_picture: np.ndarray, side: int, *, zero_border: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Sample where a crop leaves the picture: which pixels (S, S) these are, and their grey levels (N, 3)."""
    height, width = picture.shape[:2]
    along = np.arange(side)
    x, y = (row[0] * along + row[1] * along[:, None] + row[2] for row in to_picture)
    outside = (x < 0) | (y < 0) | (x > width - 1) | (y > height - 1)
    x, y = x[outside], y[outside]
    if zero_border:  # further out than a pixel nothing of the picture is left
        x, y = x.clip(-1, width), y.clip(-1, height)
    else:
        x, y = x.clip(0, width - 1), y.clip(0, height - 1)
    left, top = np.floor(x).astype(int), np.floor(y).astype(int)
    across, down = (x - left)[:, None], (y - top)[:, None]

    def pixels(rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        found = picture[rows.clip(0, height - 1), columns.clip(0, width - 1)]
        if zero_border:
            found[(rows < 0) | (rows >= height) | (columns < 0) | (columns >= width)] = 0
        return found

    above = (1 - across) * pixels(top, left) + across * pixels(top, left + 1)
    below = (1 - across) * pixels(top + 1, left) + across * pixels(top + 1, left + 1)
    return outside, np.rint((1 - down) * above + down * below).astype(np.float32)
