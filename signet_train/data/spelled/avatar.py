"""Draws a signer from MediaPipe landmarks, so that pose estimators find the same landmarks again.

Recorded landmarks become a video without anybody's likeness in it. Hands carry the meaning and are the hardest to
find, so they are a lit relief of capsules with occlusion; the rest of the signer is plain shapes in painter's order.
"""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np

from signet_train.data.spelled.hand import SKIN, WRIST, draw_hand, hand_scale

NUM_LANDMARKS = 33 + 478 + 21 + 21
FACE, LEFT_HAND, RIGHT_HAND = 33, 33 + 478, 33 + 478 + 21

# Sub-pixel bits of OpenCV's drawing functions.
_SHIFT = 4

_HAIR = (52, 38, 32)
_SHIRT = np.array([38, 46, 62], np.float32)

# Face-mesh vertices, each a closed outline.
_LEFT_CONTOUR = [10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377]
_RIGHT_CONTOUR = [152, 148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109]
_FACE_OVAL = _LEFT_CONTOUR + _RIGHT_CONTOUR  # from the forehead down to the chin, and up again
_HAIRLINE = [127, 162, 21, 54, 103, 67, 109, 10, 338, 297, 332, 284, 251, 389, 356]
_EYES = [
    [33, 7, 163, 144, 145, 153, 154, 155, 133, 173, 157, 158, 159, 160, 161, 246],
    [263, 249, 390, 373, 374, 380, 381, 382, 362, 398, 384, 385, 386, 387, 388, 466],
]
_BROWS = [[70, 63, 105, 66, 107, 55, 65, 52, 53, 46], [300, 293, 334, 296, 336, 285, 295, 282, 283, 276]]
_OUTER_LIPS = [61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 409, 270, 269, 267, 0, 37, 39, 40, 185]
_INNER_LIPS = [78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308, 415, 310, 311, 312, 13, 82, 81, 80, 191]
_NOSE_BASE = [98, 97, 2, 326, 327]
_NOSE_SIDE = [168, 193, 122, 196, 236, 198, 209, 49, 48, 64, 98, 97, 2, 4, 5, 195, 197, 6]
_IRISES = [(468, 469), (473, 474)]

# How far sleeves reach past the elbow, in shoulder widths.
_SLEEVE = 0.15


def draw_frame(landmarks: np.ndarray, scores: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Draw one frame of the signer. The same input always gives the same pixels.

    Args:
        landmarks: float32 (553, 3), MediaPipe holistic's order: 33 body, 478 face, 21 left hand, 21 right hand.
            x, y in fractions of the frame's width and height; z in the unit of x, smaller is nearer (a hand's own
            proportions decide how much depth its z is worth: `.pose` files keep z in another unit).
        scores: (553,), 0 where a landmark is missing.
        size: width and height in pixels.

    Returns:
        uint8 RGB (H, W, 3).

    Raises:
        ValueError: arrays of another shape.
    """
    if landmarks.shape != (NUM_LANDMARKS, 3) or scores.shape != (NUM_LANDMARKS,):
        raise ValueError(
            f"expected landmarks ({NUM_LANDMARKS}, 3) and scores ({NUM_LANDMARKS},), "
            f"got {landmarks.shape} and {scores.shape}"
        )
    points = landmarks.astype(np.float32) * np.array([size[0], size[1], size[0]], np.float32)
    seen = scores > 0
    image = _background(size).copy()
    has_body = bool(seen[[11, 12]].all())
    if has_body:
        _draw_torso(image, points, seen)
    if seen[FACE : FACE + 468].all():
        _draw_head(image, points, seen)
    for hand, shoulder in ((LEFT_HAND, 11), (RIGHT_HAND, 12)):
        if has_body:
            _draw_arm(image, points, seen, hand, shoulder)
    for hand, shoulder in ((LEFT_HAND, 11), (RIGHT_HAND, 12)):
        if seen[hand : hand + 21].all():
            elbow = points[shoulder + 2, :2] if seen[shoulder + 2] else None
            draw_hand(image, points[hand : hand + 21], elbow)
    return cv2.add(image, _grain(size), dtype=cv2.CV_8U)


@lru_cache(maxsize=4)
def _background(size: tuple[int, int]) -> np.ndarray:
    """Draw a wall lit from the upper left."""
    width, height = size
    x, y = np.meshgrid(np.linspace(-1, 1, width, dtype=np.float32), np.linspace(-1, 1, height, dtype=np.float32))
    light = 1 - 0.12 * np.hypot(x + 0.4, y + 0.5)
    wall = light[..., None] * np.array([176, 188, 196], np.float32)
    return wall.clip(0, 255).astype(np.uint8)


@lru_cache(maxsize=4)
def _grain(size: tuple[int, int]) -> np.ndarray:
    """Make fixed sensor noise, centred on 0: flat areas of a drawing are unlike any photograph."""
    noise = np.random.default_rng(0).normal(0, 4, (size[1], size[0]))
    return cv2.merge([cv2.GaussianBlur(noise, (0, 0), 0.6).astype(np.int16)] * 3)


def _fixed(points: np.ndarray) -> np.ndarray:
    return np.round(points[..., :2] * (1 << _SHIFT)).astype(np.int32)


def _fill(image: np.ndarray, points: np.ndarray, color: np.ndarray | tuple[int, ...]) -> None:
    cv2.fillPoly(image, [_fixed(points)], [float(channel) for channel in color], cv2.LINE_AA, _SHIFT)


def _limb(
    image: np.ndarray, a: np.ndarray, b: np.ndarray, ra: float, rb: float, color: np.ndarray, contrast: float
) -> None:
    """Draw a tapering capsule, darker at the rim and lighter along a core shifted towards the light."""
    angle = float(np.arctan2(b[1] - a[1], b[0] - a[0]))
    turn = np.linspace(np.pi / 2, 3 * np.pi / 2, 10) + angle
    turn = np.concatenate([turn, turn + np.pi])
    rim = np.stack([np.cos(turn), np.sin(turn)], 1)
    center = np.repeat([a[:2], b[:2]], 10, axis=0)
    radius = np.repeat([ra, rb], 10)[:, None]
    for scale, shade in ((1.0, -0.28), (0.9, -0.18), (0.78, -0.1), (0.62, -0.03), (0.4, 0.03)):
        outline = center + radius * (scale * rim - 0.12 * (1 - scale))
        _fill(image, outline, (color * (1 + contrast * shade)).clip(0, 255))


def _draw_torso(image: np.ndarray, points: np.ndarray, seen: np.ndarray) -> None:
    left, right = points[11, :2], points[12, :2]
    middle, side = (left + right) / 2, (left - right) / 2
    # Across the shoulders turned by a quarter, downwards in the picture.
    down = 2 * np.array([-side[1], side[0]])
    down = down if down[1] >= 0 else -down
    hips = (points[23, :2] + points[24, :2]) / 2 if seen[[23, 24]].all() else middle + 1.4 * down

    def outline(side: np.ndarray) -> list[np.ndarray]:
        return [
            middle - 0.15 * down + 0.36 * side,
            middle - 0.14 * down + 0.62 * side,
            middle - 0.125 * down + 0.9 * side,
            middle - 0.08 * down + 1.12 * side,
            middle + 0.4 * down + 1.02 * side,
            hips + 0.86 * side,
            hips + 0.95 * side + down,
        ]

    _fill(image, np.stack(outline(side) + outline(-side)[::-1]), _SHIRT)


def _draw_head(image: np.ndarray, points: np.ndarray, seen: np.ndarray) -> None:
    face = points[FACE : FACE + 478, :2]
    oval = face[_FACE_OVAL]
    center = oval.mean(0)
    up = face[10] - face[152]
    across = (face[454] - face[234]) / 2
    height = float(np.linalg.norm(up))
    turn = np.linspace(0, 2 * np.pi, 40)[:, None]
    if seen[[11, 12]].all():
        middle = (points[11, :2] + points[12, :2]) / 2
        chin = face[152]
        jaw, base = chin + up * 0.25, chin + (middle - chin) * 0.8
        neck = np.stack([jaw - across * 0.68, chin - across * 0.64, base - across * 0.74, base - across * 0.9])
        mirrored = np.stack([jaw + across * 0.68, chin + across * 0.64, base + across * 0.74, base + across * 0.9])
        _fill(image, np.concatenate([neck, mirrored[::-1]]), SKIN * 0.8)
        _fill(image, chin + np.cos(turn) * across * 0.62 + np.sin(turn) * up * 0.14, SKIN * 0.66)
        # The neckline: skin, bordered by a collar.
        _fill(image, base + np.cos(turn) * across * 0.98 + np.sin(turn) * up * 0.13, _SHIRT * 0.75)
        _fill(image, base + up * 0.035 + np.cos(turn) * across * 0.9 + np.sin(turn) * up * 0.12, SKIN * 0.82)
    # Hair behind the face, then ears, then the face.
    crown = center + up * 0.27
    _fill(image, crown + np.cos(turn) * across * 1.18 + np.sin(turn) * up * 0.52, _HAIR)
    for ear in (face[234], face[454]):
        _fill(image, ear + np.cos(turn) * across * 0.14 + np.sin(turn) * up * 0.14, SKIN * 0.8)
    for scale, shade in ((1.0, 0.82), (0.96, 0.88), (0.91, 0.92), (0.85, 0.96), (0.78, 1.0)):
        _fill(image, center + (oval - center) * scale, (SKIN * shade).clip(0, 255))
    hairline = face[_HAIRLINE] - center
    _fill(image, center + np.concatenate([hairline * 0.95, hairline[::-1] * 1.12]), _HAIR)
    # Cheeks, forehead and the nose's shadow side.
    for cheek in (50, 280):
        _fill(image, face[cheek] + np.cos(turn) * across * 0.24 + np.sin(turn) * up * 0.09, SKIN * [1.0, 0.96, 0.95])
    _fill(image, face[151] + np.cos(turn) * across * 0.4 + np.sin(turn) * up * 0.08, (SKIN * 1.05).clip(0, 255))
    _fill(image, face[_NOSE_SIDE], SKIN * 0.9)
    _fill(image, face[1] + np.cos(turn) * across * 0.09 + np.sin(turn) * up * 0.035, (SKIN * 1.06).clip(0, 255))
    thick = max(1, round(height / 90))
    cv2.polylines(image, [_fixed(face[_NOSE_BASE])], False, tuple(map(float, SKIN * 0.5)), thick, cv2.LINE_AA, _SHIFT)
    iris_seen = bool(seen[FACE + 468 : FACE + 478].all())
    for outline, iris in zip(_EYES, _IRISES, strict=True):
        eye = face[outline]
        middle = eye.mean(0)
        _fill(image, middle + (eye - middle) * 1.35, SKIN * 0.72)
        _fill(image, eye, (240, 238, 235))
        gap = float(np.ptp(eye[:, 1]))
        focus = face[iris[0]] if iris_seen else middle
        radius = min(0.55 * gap, float(np.linalg.norm(face[454] - face[234])) * 0.045)
        _fill(image, focus + radius * np.concatenate([np.cos(turn), np.sin(turn)], 1), (52, 36, 28))
        cv2.polylines(image, [_fixed(eye[8:])], False, (40, 28, 24), thick, cv2.LINE_AA, _SHIFT)
    for outline in _BROWS:
        _fill(image, face[outline], _HAIR)
    _fill(image, face[_OUTER_LIPS], (184, 96, 92))
    _fill(image, face[_INNER_LIPS], (92, 36, 36))


def _draw_arm(image: np.ndarray, points: np.ndarray, seen: np.ndarray, hand: int, shoulder: int) -> None:
    elbow, wrist = shoulder + 2, shoulder + 4
    if not seen[elbow]:
        return
    unit = float(np.linalg.norm(points[11, :2] - points[12, :2]))
    a, b = points[shoulder, :2], points[elbow, :2]
    a = a + (b - a) * 0.04
    _limb(image, a, b, unit * 0.13, unit * 0.11, _SHIRT, 0.6)
    has_hand = bool(seen[hand : hand + 21].all())
    if has_hand:
        c, thickness = points[hand, :2], WRIST * hand_scale(points[hand : hand + 21])[0]
    else:
        # A wrist out of view is most often below the frame: let the arm hang.
        c = points[wrist, :2] if seen[wrist] else b + np.array([0, 0.8 * unit], np.float32)
        thickness = 0.075 * unit
    _limb(image, b, c, unit * 0.1, thickness, SKIN * 0.92, 1.0)
    cuff = min(_SLEEVE * unit / max(float(np.linalg.norm(c - b)), 1e-3), 0.5)
    _limb(image, b, b + (c - b) * cuff, unit * 0.112, unit * 0.115, _SHIRT, 0.6)
