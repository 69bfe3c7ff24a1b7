"""Draws a hand from its landmarks: a lit relief of capsules, in which fingers hide what is behind them."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np

SKIN = np.array([226, 172, 142], np.float32)  # RGB, in full light
WRIST = 0.25  # its half width, in palm lengths

# Hands are drawn at this multiple of the frame's resolution, but with no longer a palm than this many pixels.
_SUPERSAMPLE = 2.0
_PALM_PIXELS = 110

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


def draw_hand(image: np.ndarray, joints: np.ndarray, elbow: np.ndarray | None) -> None:
    height, width = image.shape[:2]
    palm, depth_scale = hand_scale(joints)
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
    """Return skin under 256 strengths of light (200 is full light): shadows on skin are redder than light."""
    light = np.arange(256, dtype=np.float32)[:, None] / 200
    return (SKIN * light ** np.array([0.85, 1.0, 1.1], np.float32)).clip(0, 255)


def hand_scale(joints: np.ndarray) -> tuple[float, float]:
    """Return the palm's length in pixels, and a factor for z that gives foreshortened bones their length back."""
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
    """Compute the light on a hand of capsules seen from +z, and its coverage: float32 of the given shape (H, W).

    `joints` (21, 3) and `forearm` (2,), from the wrist towards the elbow, are in pixels of that shape.
    """
    floor = np.float32(joints[:, 2].min() - palm)
    relief = np.full(shape, floor, np.float32)
    start = joints[0] - [0, 0, 0.1 * palm]
    length = float(np.linalg.norm(forearm))
    if length > 0:
        _raise(relief, start, start + np.append(forearm, 0), WRIST * palm, WRIST * palm + 0.07 * length)
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
    """Raise the relief to the capsule from a to b; given an albedo, mark a crease at a."""
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
