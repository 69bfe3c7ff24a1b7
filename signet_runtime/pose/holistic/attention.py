"""The face mesh with attention: after the mesh as a whole, its model looks at the lips and at either eye again.

The model (face_landmark_with_attention.tflite) cuts each of them out of its own features by where the mesh has them,
finds them anew there and puts them back. These three steps are operations of MediaPipe's own, which LiteRT does not
have: the pieces of the model around them run in LiteRT, and the steps are here. The irises are left out. The eyes are
no joints of ours, but their corners say how the next frame's square is turned.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from signet_runtime.pose.holistic.landmarks import points_in_crop, sigmoid
from signet_runtime.pose.holistic.model import Model, Network
from signet_runtime.pose.holistic.rois import Roi

_SCALE = 1.5  # of what is cut out, by the box around the vertices
_CELL = 4  # pixels in a cell of the features; and what a second look finds is in quarters of its own cells


class _Look(NamedTuple):
    """A second look at a part of the face.

    Attributes:
        corners: the vertices left and right that are level in it.
        begin: the tensor that holds what is cut out.
        end: the tensor with what is found there.
        vertices: in the order in which they are found (tensors_to_face_landmarks_with_attention.pbtxt).
    """

    corners: tuple[int, int]
    begin: str
    end: str
    vertices: tuple[int, ...]


_LIPS = _Look(
    corners=(61, 291),
    begin="transform_tensor_bilinear_v2",
    end="conv_lips",
    vertices=(
        *(61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 185, 40, 39, 37, 0, 267, 269, 270, 409),
        *(78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308, 191, 80, 81, 82, 13, 312, 311, 310, 415),
        *(76, 77, 90, 180, 85, 16, 315, 404, 320, 307, 306, 184, 74, 73, 72, 11, 302, 303, 304, 408),
        *(62, 96, 89, 179, 86, 15, 316, 403, 319, 325, 292, 183, 42, 41, 38, 12, 268, 271, 272, 407),
    ),
)
_LEFT_EYE = _Look(
    corners=(33, 133),
    begin="transform_tensor_bilinear_v2_1",
    end="conv_left_eye",
    vertices=(
        *(33, 7, 163, 144, 145, 153, 154, 155, 133, 246, 161, 160, 159, 158, 157, 173),
        *(130, 25, 110, 24, 23, 22, 26, 112, 243, 247, 30, 29, 27, 28, 56, 190),
        *(226, 31, 228, 229, 230, 231, 232, 233, 244, 113, 225, 224, 223, 222, 221, 189, 35, 124, 46, 53, 52, 65),
        *(143, 111, 117, 118, 119, 120, 121, 128, 245, 156, 70, 63, 105, 66, 107, 55, 193),
    ),
)
_RIGHT_EYE = _Look(
    corners=(362, 263),
    begin="transform_tensor_bilinear_v2_2",
    end="conv_right_eye",
    vertices=(
        *(263, 249, 390, 373, 374, 380, 381, 382, 362, 466, 388, 387, 386, 385, 384, 398),
        *(359, 255, 339, 254, 253, 252, 256, 341, 463, 467, 260, 259, 257, 258, 286, 414),
        *(446, 261, 448, 449, 450, 451, 452, 453, 464, 342, 445, 444, 443, 442, 441, 413, 265, 353, 276, 283, 282, 295),
        *(372, 340, 346, 347, 348, 349, 350, 357, 465, 383, 300, 293, 334, 296, 336, 285, 417),
    ),
)


class AttentionMesh:
    """The face's 468 vertices in a square of a picture; one thread, and not to be shared by several.

    Args:
        path: face_landmark_with_attention.tflite.

    Raises:
        EngineError: see `Network`.
    """

    def __init__(self, path: Path) -> None:
        self._mesh = Model(path, ("output_mesh", "conv_faceflag", "p_re_lu_3"))
        self._looks = [(look, Network(path, (look.end,), (look.begin,))) for look in (_LIPS, _LEFT_EYE, _RIGHT_EYE)]

    def __call__(self, picture: np.ndarray, roi: Roi) -> tuple[np.ndarray, float]:
        """Return the vertices (468, 2) in fractions of the square, and how sure it is that there is a face at all."""
        mesh, presence, features = self._mesh(picture, roi)
        cells = self._mesh.side / _CELL
        points = points_in_crop(mesh, 468, self._mesh.side) * cells
        for look, network in self._looks:
            vertices, side = list(look.vertices), network.shape[1]
            place = around_level(points[vertices], points[list(look.corners)], side)
            (found,) = network(sampled(features, place, side)[None])
            points[vertices] = moved(found.reshape(-1, 2) / _CELL, place)
        return points / cells, float(sigmoid(presence).ravel()[0])


def around_level(points: np.ndarray, corners: np.ndarray, side: int) -> np.ndarray:
    """Return the matrix (2, 3) from the pixels of a crop around points to where the points are.

    As Landmarks2TransformMatrix, version 2: the crop is the box of the points when turned so that the corners are
    level, half as large again in width and height.

    Args:
        points: (N, 2).
        corners: (2, 2), left and right.
        side: pixels of the crop's width and of its height.
    """
    along, down = corners[1] - corners[0]
    angle = np.arctan2(down, along)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    level = points @ turn
    low, high = level.min(axis=0), level.max(axis=0)
    linear = turn * (_SCALE * (high - low) / side)
    return np.column_stack([linear, turn @ ((low + high) / 2) - linear.sum(axis=1) * (side / 2)])


def sampled(features: np.ndarray, place: np.ndarray, side: int) -> np.ndarray:
    """Return a square crop (S, S, C) of features (TransformTensorBilinear, version 2).

    Bilinear samples at the middles of the crop's pixels; 0 beyond the middles of the features' outermost pixels.

    Args:
        features: (H, W, C).
        place: (2, 3), from pixels of the crop to pixels of the features, 0 at the corner of the first pixel.
        side: pixels of the crop's width and of its height.
    """
    height, width = features.shape[:2]
    rows, columns = np.indices((side, side)) + 0.5
    x, y = (row[0] * columns + row[1] * rows + row[2] - 0.5 for row in place)
    outside = (x < 0) | (y < 0) | (x > width - 1) | (y > height - 1)
    x, y = x.clip(0, width - 1), y.clip(0, height - 1)
    left, top = np.floor(x).astype(np.int64), np.floor(y).astype(np.int64)
    right, bottom = np.minimum(left + 1, width - 1), np.minimum(top + 1, height - 1)
    across, under = ((value % 1).astype(features.dtype)[:, :, None] for value in (x, y))
    above = (1 - across) * features[top, left] + across * features[top, right]
    below = (1 - across) * features[bottom, left] + across * features[bottom, right]
    samples: np.ndarray = (1 - under) * above + under * below
    samples[outside] = 0
    return samples


def moved(points: np.ndarray, place: np.ndarray) -> np.ndarray:
    """Return points (N, 2) where a matrix (2, 3) takes them (TransformLandmarks, version 2)."""
    return points @ place[:, :2].T + place[:, 2]
