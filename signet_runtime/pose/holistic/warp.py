"""Cutting a turned square out of a picture."""

from __future__ import annotations

import cv2
import numpy as np

from signet_runtime.pose.holistic.rois import Roi


def aligned_pixels(picture: np.ndarray) -> np.ndarray:
    """Return the picture with four bytes a pixel, which OpenCV samples in half the time."""
    return cv2.cvtColor(picture, cv2.COLOR_RGB2RGBA)


def crop(picture: np.ndarray, roi: Roi, out: np.ndarray, low: float = 0.0, *, zero_border: bool = False) -> None:
    """Fill ``out`` with what a model sees of a picture, as ImageToTensorCalculator does with OpenCV.

    Args:
        picture: uint8 RGB (H, W, 3), or from `aligned_pixels`.
        roi: must exist.
        out: float32 (1, S, S, 3), written to: bilinear samples rounded to whole grey levels, black ``low`` and
            white 1.
        zero_border: black outside of the picture; otherwise its border pixels go on for ever.
    """
    side = out.shape[1]
    pixels = cv2.warpAffine(
        picture,
        roi.matrix(side),
        (side, side),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_CONSTANT if zero_border else cv2.BORDER_REPLICATE,
    )
    if pixels.shape[2] == 4:
        pixels = cv2.cvtColor(pixels, cv2.COLOR_RGBA2RGB)
    np.multiply(pixels, np.float32((1 - low) / 255), out=out[0])
    if low:
        out += np.float32(low)
