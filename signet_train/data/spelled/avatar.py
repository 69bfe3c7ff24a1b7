"""Draws a signer from MediaPipe landmarks, so that pose estimators find the same landmarks again.

Recorded landmarks become a video without anybody's likeness in it. Hands carry the meaning and are the hardest to
find, so they are a lit relief of capsules with occlusion; the rest of the signer is plain shapes in painter's order.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from fractions import Fraction
from functools import lru_cache
from pathlib import Path

import av
import cv2
import numpy as np

from signet_runtime.files import whole_file

NUM_LANDMARKS = 33 + 478 + 21 + 21
FACE, LEFT_HAND, RIGHT_HAND = 33, 33 + 478, 33 + 478 + 21

# Sub-pixel bits of OpenCV's drawing functions.
_SHIFT = 4
# Hands are drawn at this multiple of the frame's resolution, but with no longer a palm than this many pixels.
_SUPERSAMPLE = 2.0
_PALM_PIXELS = 110

_SKIN = np.array([226, 172, 142], np.float32)
_HAIR = (52, 38, 32)
_SHIRT = np.array([38, 46, 62], np.float32)

# Face-mesh vertices, each a closed outline.
_FACE_OVAL = [
    10,
    338,
    297,
    332,
    284,
    251,
    389,
    356,
    454,
    323,
    361,
    288,
    397,
    365,
    379,
    378,
    400,
    377,
    152,
    148,
    176,
    149,
    150,
    136,
    172,
    58,
    132,
    93,
    234,
    127,
    162,
    21,
    54,
    103,
    67,
    109,
]
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

# The wrist's half width in palm lengths.
_WRIST = 0.25
# How far sleeves reach past the elbow, in shoulder widths.
_SLEEVE = 0.15
# Hand bones as (from, to, radius at from, radius at to), radii in palm lengths (wrist to middle knuckle).
_PALM = [
    (0, 5, 0.17, 0.14),
    (0, 9, 0.17, 0.14),
    (0, 13, 0.17, 0.13),
    (0, 17, 0.17, 0.12),
    (5, 9, 0.14, 0.14),
    (9, 13, 0.14, 0.13),
    (13, 17, 0.13, 0.12),
    (0, 1, 0.18, 0.19),
    (1, 5, 0.13, 0.12),
    (1, 2, 0.19, 0.15),
    (2, 5, 0.09, 0.09),
]
_FINGERS = [
    (2, 3, 0.14, 0.115),
    (3, 4, 0.115, 0.085),
    (5, 6, 0.125, 0.105),
    (6, 7, 0.105, 0.09),
    (7, 8, 0.09, 0.075),
    (9, 10, 0.125, 0.11),
    (10, 11, 0.11, 0.095),
    (11, 12, 0.095, 0.08),
    (13, 14, 0.12, 0.105),
    (14, 15, 0.105, 0.09),
    (15, 16, 0.09, 0.075),
    (17, 18, 0.105, 0.09),
    (18, 19, 0.09, 0.08),
    (19, 20, 0.08, 0.065),
]
_TIPS = {4, 8, 12, 16, 20}
# Lengths of bones that stay rigid, in palm lengths.
_RIGID = [
    (0, 5, 1.0),
    (0, 9, 1.0),
    (0, 13, 0.93),
    (0, 17, 0.87),
    (5, 17, 0.62),
    (5, 6, 0.47),
    (9, 10, 0.52),
    (13, 14, 0.48),
    (17, 18, 0.38),
    (2, 3, 0.4),
    (6, 7, 0.3),
    (10, 11, 0.34),
    (14, 15, 0.32),
]


def draw_frame(landmarks: np.ndarray, scores: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """One frame of the signer. The same input always gives the same pixels.

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
            _draw_hand(image, points[hand : hand + 21], elbow)
    return cv2.add(image, _grain(size), dtype=cv2.CV_8U)


def write_video(path: str | os.PathLike[str], frames: Iterable[np.ndarray], fps: float) -> None:
    """H.264 (yuv420p) in the container that the name's ending says; the file appears whole or not at all.

    Args:
        path: where to write; an existing file is replaced.
        frames: uint8 RGB (H, W, 3), all of one size, height and width even.
        fps: frames per second.

    Raises:
        ValueError: no frames, an odd size, or frames of different sizes.
        OutputError: it cannot be written.
    """
    with whole_file(Path(path)) as temporary:
        _encode(temporary, frames, fps)


def _encode(path: Path, frames: Iterable[np.ndarray], fps: float) -> None:
    rate = Fraction(fps).limit_denominator(1001)
    with av.open(str(path), "w") as container:
        stream = None
        for frame in frames:
            height, width = frame.shape[:2]
            if stream is None:
                if height % 2 or width % 2:
                    raise ValueError(f"H.264 needs an even width and height, got {width}x{height}")
                stream = container.add_stream("libx264", rate=rate, options={"crf": "18", "preset": "veryfast"})
                stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
                stream.thread_count = 1
            elif (stream.width, stream.height) != (width, height):
                raise ValueError(f"frames of one size expected: {stream.width}x{stream.height}, then {width}x{height}")
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")))
        if stream is None:
            raise ValueError("no frames to write")
        container.mux(stream.encode())


@lru_cache(maxsize=4)
def _background(size: tuple[int, int]) -> np.ndarray:
    """A wall lit from the upper left."""
    width, height = size
    x, y = np.meshgrid(np.linspace(-1, 1, width, dtype=np.float32), np.linspace(-1, 1, height, dtype=np.float32))
    light = 1 - 0.12 * np.hypot(x + 0.4, y + 0.5)
    wall = light[..., None] * np.array([176, 188, 196], np.float32)
    return wall.clip(0, 255).astype(np.uint8)


@lru_cache(maxsize=4)
def _grain(size: tuple[int, int]) -> np.ndarray:
    """Fixed sensor noise, centred on 0: flat areas of a drawing are unlike any photograph."""
    noise = np.random.default_rng(0).normal(0, 4, (size[1], size[0]))
    return cv2.merge([cv2.GaussianBlur(noise, (0, 0), 0.6).astype(np.int16)] * 3)


def _fixed(points: np.ndarray) -> np.ndarray:
    return np.round(points[..., :2] * (1 << _SHIFT)).astype(np.int32)


def _fill(image: np.ndarray, points: np.ndarray, color: np.ndarray | tuple[int, ...]) -> None:
    cv2.fillPoly(image, [_fixed(points)], [float(channel) for channel in color], cv2.LINE_AA, _SHIFT)


def _limb(
    image: np.ndarray, a: np.ndarray, b: np.ndarray, ra: float, rb: float, color: np.ndarray, contrast: float
) -> None:
    """A tapering capsule, darker at the rim and lighter along a core shifted towards the light."""
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
        _fill(image, np.concatenate([neck, mirrored[::-1]]), _SKIN * 0.8)
        _fill(image, chin + np.cos(turn) * across * 0.62 + np.sin(turn) * up * 0.14, _SKIN * 0.66)
        # The neckline: skin, bordered by a collar.
        _fill(image, base + np.cos(turn) * across * 0.98 + np.sin(turn) * up * 0.13, _SHIRT * 0.75)
        _fill(image, base + up * 0.035 + np.cos(turn) * across * 0.9 + np.sin(turn) * up * 0.12, _SKIN * 0.82)
    # Hair behind the face, then ears, then the face.
    crown = center + up * 0.27
    _fill(image, crown + np.cos(turn) * across * 1.18 + np.sin(turn) * up * 0.52, _HAIR)
    for ear in (face[234], face[454]):
        _fill(image, ear + np.cos(turn) * across * 0.14 + np.sin(turn) * up * 0.14, _SKIN * 0.8)
    for scale, shade in ((1.0, 0.82), (0.96, 0.88), (0.91, 0.92), (0.85, 0.96), (0.78, 1.0)):
        _fill(image, center + (oval - center) * scale, (_SKIN * shade).clip(0, 255))
    hairline = face[_HAIRLINE] - center
    _fill(image, center + np.concatenate([hairline * 0.95, hairline[::-1] * 1.12]), _HAIR)
    # Cheeks, forehead and the nose's shadow side.
    for cheek in (50, 280):
        _fill(image, face[cheek] + np.cos(turn) * across * 0.24 + np.sin(turn) * up * 0.09, _SKIN * [1.0, 0.96, 0.95])
    _fill(image, face[151] + np.cos(turn) * across * 0.4 + np.sin(turn) * up * 0.08, (_SKIN * 1.05).clip(0, 255))
    _fill(image, face[_NOSE_SIDE], _SKIN * 0.9)
    _fill(image, face[1] + np.cos(turn) * across * 0.09 + np.sin(turn) * up * 0.035, (_SKIN * 1.06).clip(0, 255))
    thick = max(1, round(height / 90))
    cv2.polylines(image, [_fixed(face[_NOSE_BASE])], False, tuple(map(float, _SKIN * 0.5)), thick, cv2.LINE_AA, _SHIFT)
    iris_seen = bool(seen[FACE + 468 : FACE + 478].all())
    for outline, iris in zip(_EYES, _IRISES, strict=True):
        eye = face[outline]
        middle = eye.mean(0)
        _fill(image, middle + (eye - middle) * 1.35, _SKIN * 0.72)
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
        c, thickness = points[hand, :2], _WRIST * _hand_scale(points[hand : hand + 21])[0]
    else:
        # A wrist out of view is most often below the frame: let the arm hang.
        c = points[wrist, :2] if seen[wrist] else b + np.array([0, 0.8 * unit], np.float32)
        thickness = 0.075 * unit
    _limb(image, b, c, unit * 0.1, thickness, _SKIN * 0.92, 1.0)
    cuff = min(_SLEEVE * unit / max(float(np.linalg.norm(c - b)), 1e-3), 0.5)
    _limb(image, b, b + (c - b) * cuff, unit * 0.112, unit * 0.115, _SHIRT, 0.6)


def _draw_hand(image: np.ndarray, joints: np.ndarray, elbow: np.ndarray | None) -> None:
    height, width = image.shape[:2]
    palm, depth_scale = _hand_scale(joints)
    forearm = np.zeros(2, np.float32) if elbow is None else elbow - joints[0, :2]
    forearm *= min(1.0, 0.7 * palm / max(float(np.linalg.norm(forearm)), 1e-3))
    corners = np.concatenate([joints[:, :2], [joints[0, :2] + forearm]])
    x0, y0 = np.floor(corners.min(0) - 0.35 * palm).astype(int).clip(0).tolist()
    x1, y1 = np.minimum(np.ceil(corners.max(0) + 0.35 * palm).astype(int), [width, height]).tolist()
    if x1 - x0 < 2 or y1 - y0 < 2:
        return
    zoom = min(_SUPERSAMPLE, _PALM_PIXELS / palm)
    local = (joints - [x0, y0, joints[0, 2]]) * [zoom, zoom, -zoom * depth_scale]
    shape = max(round((y1 - y0) * zoom), 1), max(round((x1 - x0) * zoom), 1)
    shade, alpha = _hand_relief(local, palm * zoom, shape, forearm * zoom)
    shade = cv2.resize(shade * alpha, (x1 - x0, y1 - y0), interpolation=cv2.INTER_AREA)
    alpha = cv2.resize(alpha, (x1 - x0, y1 - y0), interpolation=cv2.INTER_AREA)
    color = _skin_tones()[(shade / np.maximum(alpha, 1e-3) * 200).clip(0, 255).astype(np.uint8)]
    # A soft shadow on what is behind keeps the hand apart from a face of the same colour.
    shadow = 1 - 0.35 * cv2.GaussianBlur(alpha, (0, 0), palm * 0.07)
    region = image[y0:y1, x0:x1]
    region[:] = (region * (shadow * (1 - alpha))[..., None] + color * alpha[..., None]).astype(np.uint8)


@lru_cache(maxsize=1)
def _skin_tones() -> np.ndarray:
    """Skin under 256 strengths of light (200 is full light): shadows on skin are redder than light."""
    light = np.arange(256, dtype=np.float32)[:, None] / 200
    return (_SKIN * light ** np.array([0.85, 1.0, 1.1], np.float32)).clip(0, 255)


def _hand_scale(joints: np.ndarray) -> tuple[float, float]:
    """The palm's length in pixels, and what to multiply z with so that foreshortened bones get their length back."""
    a, b, ratio = (np.array(column) for column in zip(*_RIGID, strict=True))
    delta = joints[b] - joints[a]
    flat = np.linalg.norm(delta[:, :2], axis=1)
    palm = float(max((flat / ratio)[:5].max(), 0.8 * (flat / ratio).max(), 1.0))
    dz2 = delta[:, 2] ** 2
    missing = (palm * ratio) ** 2 - flat**2
    total = float((dz2**2).sum())
    scale = float(np.sqrt(max((dz2 * missing).sum() / total, 0.0))) if total > 0 else 0.0
    span = float(np.ptp(joints[:, 2]))
    return palm, min(scale, 1.2 * palm / span) if span > 0 else 0.0


def _hand_relief(
    joints: np.ndarray, palm: float, shape: tuple[int, int], forearm: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Light on a hand of capsules seen from +z, and its coverage: float32 of the given shape (H, W).

    `joints` (21, 3) and `forearm` (2,), from the wrist towards the elbow, are in pixels of that shape.
    """
    floor = np.float32(joints[:, 2].min() - palm)
    relief = np.full(shape, floor, np.float32)
    start = joints[0] - [0, 0, 0.1 * palm]
    length = float(np.linalg.norm(forearm))
    if length > 0:
        _raise(relief, start, start + np.append(forearm, 0), _WRIST * palm, _WRIST * palm + 0.07 * length)
    arm = relief.copy()
    for a, b, ra, rb in _PALM:
        _raise(relief, joints[a], joints[b], ra * palm, rb * palm)
    is_arm = (relief == arm) & (relief > floor)
    # Metacarpals as one surface, not as a fan of sticks.
    inside = relief > floor
    kernel = (2 * round(palm * 0.09) + 1,) * 2
    weight = np.maximum(cv2.blur(inside.astype(np.float32), kernel), 1e-3)
    smooth = cv2.blur(np.where(inside, relief, 0), kernel) / weight - palm * 0.08 * (1 - weight)
    relief = np.where(inside, smooth, floor)
    before = relief.copy()
    albedo = np.ones(shape, np.float32)
    for a, b, ra, rb in _FINGERS:
        end = joints[b] + (joints[b] - joints[a]) * 0.12 if b in _TIPS else joints[b]
        _raise(relief, joints[a], end, ra * palm, rb * palm, albedo)
    is_arm &= relief == before

    visible = relief > floor
    coverage = visible.astype(np.float32)
    dx = cv2.Sobel(relief, cv2.CV_32F, 1, 0, scale=1 / 8).clip(-2.5, 2.5)
    dy = cv2.Sobel(relief, cv2.CV_32F, 0, 1, scale=1 / 8).clip(-2.5, 2.5)
    lambert = (0.35 * dx + 0.5 * dy + 0.79) / np.sqrt(dx * dx + dy * dy + 1)
    # Ambient occlusion: what lies deeper than its surroundings gets less light, and so does the outline.
    lifted = np.where(visible, relief, floor + palm)
    deeper = (cv2.blur(lifted, kernel) - lifted) * (1 / (0.12 * palm))
    rim = (cv2.blur(coverage, (2 * round(palm * 0.04) + 1,) * 2) * 2 - 1).clip(0, 1)
    shade = (0.42 + 0.62 * lambert.clip(0, 1)) * np.exp(-0.7 * deeper.clip(0, 1.5)) * albedo * (0.72 + 0.28 * rim)
    if length > 0:
        # The forearm fades into the flat one that the arm has there.
        x = np.arange(shape[1], dtype=np.float32) - float(joints[0, 0])
        y = (np.arange(shape[0], dtype=np.float32) - float(joints[0, 1]))[:, None]
        along = (x * float(forearm[0]) + y * float(forearm[1])) / (length * palm)
        coverage[is_arm] = ((0.6 - along[is_arm]) / 0.35).clip(0, 1)
    return shade, coverage


def _raise(
    relief: np.ndarray, a: np.ndarray, b: np.ndarray, ra: float, rb: float, albedo: np.ndarray | None = None
) -> None:
    """Raises the relief to the capsule from a to b; given an albedo, marks a crease at a."""
    (ax, ay, az), (bx, by, bz) = a.tolist(), b.tolist()
    reach = max(ra, rb)
    x0, y0 = max(int(min(ax, bx) - reach), 0), max(int(min(ay, by) - reach), 0)
    x1, y1 = max(int(max(ax, bx) + reach) + 2, 0), max(int(max(ay, by) + reach) + 2, 0)
    window = relief[y0:y1, x0:x1]
    if not window.size:
        return
    x = np.arange(x0, x0 + window.shape[1], dtype=np.float32) - ax
    y = (np.arange(y0, y0 + window.shape[0], dtype=np.float32) - ay)[:, None]
    ux, uy = bx - ax, by - ay
    length = max((ux * ux + uy * uy) ** 0.5, 1e-3)
    t = ((x * (ux / length**2)) + (y * (uy / length**2))).clip(0, 1)
    radius = ra + (rb - ra) * t
    rise = radius * radius - (x - t * ux) ** 2 - (y - t * uy) ** 2
    top = az + (bz - az) * t + np.sqrt(np.maximum(rise, 0))
    higher = (rise > 0) & (top > window)
    np.copyto(window, top, where=higher)
    if albedo is not None:
        crease = 1 - 0.1 * np.exp(-((t * (length / (0.35 * reach))) ** 2))
        np.copyto(albedo[y0:y1, x0:x1], crease, where=higher)
