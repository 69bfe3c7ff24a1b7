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
    pixels = np.asarray(imgproc.warp_affine(picture, _inverse(to_picture), (side, side), "bilinear"))
    if not _holds(picture, to_picture, side):
        outside, levels = _beyond_the_border(picture, to_picture, side, zero_border=zero_border)
        pixels.reshape(-1, 3)[outside] = levels
    np.multiply(pixels, np.float32((1 - low) / 255), out=out[0])
    if low:
        out += np.float32(low)


def _inverse(matrix: np.ndarray) -> tuple[float, ...]:
    (a, b, x), (c, d, y) = matrix.tolist()
    area = a * d - b * c
    return d / area, -b / area, (b * y - d * x) / area, -c / area, a / area, (c * x - a * y) / area


def _holds(picture: np.ndarray, to_picture: np.ndarray, side: int) -> bool:
    """Whether all samples lie between pixels of the picture, as those of a parallelogram do if its corners' do."""
    end, (height, width) = side - 1, picture.shape[:2]
    (a, b, x), (c, d, y) = to_picture.tolist()
    return all(
        0 <= x + a * column + b * row <= width - 1 and 0 <= y + c * column + d * row <= height - 1
        for column in (0, end)
        for row in (0, end)
    )


def _beyond_the_border(
    picture: np.ndarray, to_picture: np.ndarray, side: int, *, zero_border: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Sample where a crop leaves the picture: which of its S * S pixels these are, and their grey levels (N, 3)."""
    height, width = picture.shape[:2]
    along = np.arange(side, dtype=np.float32)
    x, y = (row[0] * along + (row[1] * along + row[2])[:, None] for row in to_picture.astype(np.float32))
    on_x, on_y = np.clip(x, 0, width - 1), np.clip(y, 0, height - 1)
    outside = np.flatnonzero((x != on_x) | (y != on_y))
    x, y, on_x, on_y = (values.ravel().take(outside) for values in (x, y, on_x, on_y))
    # The nearest point of the border lies between two of its pixels, beside or above one another.
    left, top = np.floor(on_x), np.floor(on_y)
    across, down = on_x - left, on_y - top
    first = top.astype(np.int64) * width + left.astype(np.int64)
    second = first + np.where(across > 0, 1, np.where(down > 0, width, 0))
    border = picture.reshape(-1, 3)
    levels = border.take(first, axis=0).astype(np.float32)
    levels += (across + down)[:, None] * (border.take(second, axis=0) - levels)
    if zero_border:
        levels *= ((1 - np.abs(x - on_x)).clip(0) * (1 - np.abs(y - on_y)).clip(0))[:, None]
    return outside, np.rint(levels).astype(np.uint8)
