"""Regions of interest: where in a picture a model looks, as MediaPipe derives it from points found before.

Points are pixels of the picture, x to the right and y down, at the picture's top left corner (0, 0). MediaPipe keeps
rectangles in fractions of width and height; all that reach a model are squares in pixels, so pixels they are here.
Angles are clockwise on the screen, in radians.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np


class Roi(NamedTuple):
    """A square: its middle, its side, and by how much it is turned clockwise."""

    x: float
    y: float
    side: float
    angle: float

    def exists(self) -> bool:
        """Whether there is anything in it: points that coincide, or lie nowhere, make a square of no size."""
        return math.isfinite(self.x + self.y + self.side + self.angle) and self.side > 0

    def matrix(self, side: int) -> np.ndarray:
        """Return the (2, 3) matrix from pixels of a crop with this many pixels a side to pixels of the picture.

        A crop's corner is the square's corner, without the half pixel between a pixel's corner and its middle, as in
        ImageToTensorCalculator.
        """
        along, across = self.axes()
        origin = np.array([self.x, self.y]) - (along + across) / 2
        return np.column_stack([along / side, across / side, origin])

    def axes(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the upper and the left edge as vectors of the picture."""
        cos, sin = self.side * math.cos(self.angle), self.side * math.sin(self.angle)
        return np.array([cos, sin]), np.array([-sin, cos])

    def to_picture(self, points: np.ndarray) -> np.ndarray:
        """Return points (..., 2) of the square's own fractions, in pixels (LandmarkProjectionCalculator)."""
        return (points - 0.5) @ np.stack(self.axes()) + (self.x, self.y)


def _turned(points: np.ndarray, angle: float) -> np.ndarray:
    """Turn points (..., 2) clockwise around the origin."""
    cos, sin = math.cos(angle), math.sin(angle)
    return points @ np.array([[cos, sin], [-sin, cos]])


def _wrapped(angle: float) -> float:
    """Return the same angle within [-pi, pi)."""
    return angle - 2 * math.pi * math.floor((angle + math.pi) / (2 * math.pi))


def heading(start: np.ndarray, end: np.ndarray, target: float) -> float:
    """Return by how much a crop is turned so that from ``start`` to ``end`` it goes in the ``target`` direction.

    The target is counter-clockwise from the right, as in MediaPipe's graphs: pi / 2 is up.
    """
    dx, dy = end - start
    return _wrapped(target - math.atan2(-dy, dx))


def _transformed(middle: np.ndarray, size: np.ndarray, angle: float, scale: float, shift_y: float = 0.0) -> Roi:
    """Return the square around a turned box, moved along the box's own height (RectTransformationCalculator)."""
    middle = middle + _turned(np.array([0.0, size[1] * shift_y]), angle)
    return Roi(float(middle[0]), float(middle[1]), float(max(size)) * scale, angle)


def aligned(middle: np.ndarray, rim: np.ndarray, target: float, scale: float, shift_y: float = 0.0) -> Roi:
    """Return the square around the circle that has this middle and goes through ``rim``.

    As AlignmentPointsRectsCalculator; the point on the rim is turned to the target direction.
    """
    diameter = 2 * float(np.linalg.norm(rim - middle))
    return _transformed(middle, np.full(2, diameter), heading(middle, rim, target), scale, shift_y)


def around(points: np.ndarray, start: int, end: int, scale: float, shift_y: float = 0.0) -> Roi:
    """Return the square around all points (N, 2), turned so that ``start`` to ``end`` is level.

    As DetectionsToRectsCalculator: the box is taken before it is turned.
    """
    low, high = points.min(axis=0), points.max(axis=0)
    return _transformed((low + high) / 2, high - low, heading(points[start], points[end], 0.0), scale, shift_y)


def hand_from_body(wrist: np.ndarray, pinky: np.ndarray, index: np.ndarray) -> Roi:
    """Return where a hand may be by the body's own landmarks of it (HandDetectionsFromPoseToRectsCalculator)."""
    return aligned((2 * index + pinky) / 3, wrist, -math.pi / 2, 2.7, -0.1)


# Wrist, thumb without its tip, and the lower two joints of every finger: a box of these does not change when
# fingers are stretched.
_PALM = [0, 1, 2, 3, 5, 6, 9, 10, 13, 14, 17, 18]


def hand_from_hand(points: np.ndarray) -> Roi:
    """Return where a hand with these landmarks (21, 2) is looked for next (HandLandmarksToRectCalculator)."""
    palm = points[_PALM]
    wrist, index, middle, ring = points[0], points[5], points[9], points[13]
    angle = heading(wrist, ((index + ring) / 2 + middle) / 2, math.pi / 2)
    centre = (palm.min(axis=0) + palm.max(axis=0)) / 2
    upright = _turned(palm - centre, -angle)
    low, high = upright.min(axis=0), upright.max(axis=0)
    return _transformed(centre + _turned((low + high) / 2, angle), high - low, angle, 2.0, -0.1)


class Drift(NamedTuple):
    """How far a region from the last frame may be from this frame's own: RoiTrackingCalculator's requirements.

    Angle in radians, shift and scale in sides of this frame's region; all of the last frame's landmarks must be in
    this frame's region with its side changed by the share ``margin``.
    """

    angle: float
    shift: float
    scale: float
    margin: float


def still_there(points: np.ndarray, last: Roi, now: Roi, drift: Drift) -> bool:
    """Whether what was at ``points`` (N, 2) in the last frame may be looked for at ``last`` in this one.

    Args:
        last: the region made from those points.
        now: the region found in this frame without them.
    """
    turn = abs(last.angle - now.angle)
    turn = min(turn, 2 * math.pi - turn)
    moved = np.abs(_turned(np.array([last.x - now.x, last.y - now.y]), -now.angle))
    inside = np.abs(_turned(points - (now.x, now.y), -now.angle)) < now.side * (1 + drift.margin) / 2
    return bool(
        turn <= drift.angle
        and (moved <= now.side * drift.shift).all()
        and abs(last.side - now.side) <= now.side * drift.scale
        and inside.all()
    )
