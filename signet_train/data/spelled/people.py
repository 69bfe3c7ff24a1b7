"""The same letters as another person's hands would show them: in depth, which the recorded landmarks have.

Proportions of fingers, how the wrist is turned, which hand signs: what differs between two people who spell the same
word. The camera and the estimator's errors are `signet_train.data.batches.augment`'s, as for any corpus.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np

from signet_train.data.spelled.clips import (
    COMPONENTS,
    REDRAWN_STRIDE,
    Clip,
    load_keypoints,
    load_landmarks,
    load_redrawn,
)
from signet_train.data.spelled.hand import hand_scale

# A hand's keypoints among the 133, the landmarks they come from, and the body joint they hang on.
HANDS = ((slice(91, 112), COMPONENTS["left_hand"], 9), (slice(112, 133), COMPONENTS["right_hand"], 10))

# Of a hand's 21 joints the one before it towards the wrist.
_BEFORE = (0, 0, 1, 2, 3, 0, 5, 6, 7, 0, 9, 10, 11, 0, 13, 14, 15, 0, 17, 18, 19)

_PIXELS = 500


@dataclass(frozen=True)
class Person:
    """How far people differ; standard deviations.

    Attributes:
        finger: of the logarithm of a finger's length, and of each bone's beside it.
        turn: of the angle by which the wrist is turned about each axis, in degrees, for a whole word.
        sway: the same, from moment to moment.
        left_handed: how often the person is mirrored.
    """

    finger: float = 0.12
    turn: float = 20.0
    sway: float = 3.0
    left_handed: float = 0.15


@cache
def load_deep(sign_language: str, letters: str, redrawn: Path | None = None) -> Clip:
    """Load a letter's clip with depth: points (T, 133, 3).

    z is the hands', from their wrists on, in the unit of x; it is 0 for all other keypoints. Clips that were
    drawn and read back (``redrawn``) have the depth of the clip they were drawn from.
    """
    recorded = load_landmarks(sign_language, letters)
    drawn = load_redrawn(redrawn, sign_language, letters) if redrawn else None
    clip = drawn or load_keypoints(sign_language, letters)
    landmarks = recorded.points[::REDRAWN_STRIDE] if drawn else recorded.points
    depth = np.zeros((*clip.points.shape[:2], 1), np.float32)
    for hand, part, _ in HANDS:
        seen = recorded.scores[:, part.start] > 0
        if seen.any():
            factors = [hand_scale(frame * _PIXELS)[1] for frame in recorded.points[seen][:, part]]
            depth[:, hand, 0] = (landmarks[:, part, 2] - landmarks[:, part.start : part.start + 1, 2]) * float(
                np.median(factors)
            )
    return replace(clip, points=np.concatenate([clip.points, depth], axis=-1))


def as_person(
    points: np.ndarray, scores: np.ndarray, person: Person, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Let somebody else sign: points (T, 133, 3) with depth -> keypoints (T, 133, 2), scores (T, 133).

    Wrists stay where they are; a left-hander is the mirror image.
    """
    points = points.astype(np.float64)
    for hand, _, _ in HANDS:
        fingers = points[:, hand] - points[:, hand.start : hand.start + 1]
        fingers = _proportioned(fingers, person.finger, rng)
        fingers = np.einsum("tij,tkj->tki", _turns(len(points), person, rng), fingers)
        points[:, hand] = points[:, hand.start : hand.start + 1] + fingers
    if rng.random() < person.left_handed:
        points, scores = mirrored(points, scores)
    return points[..., :2].astype(np.float32), scores


def _proportioned(fingers: np.ndarray, spread: float, rng: np.random.Generator) -> np.ndarray:
    """Scale a hand's bones (T, 21, 3), measured from the wrist: every finger, and every bone of it."""
    scale = np.exp(rng.normal(0, spread, 21) + np.repeat(rng.normal(0, spread, 6), [1, 4, 4, 4, 4, 4]))
    grown = np.zeros_like(fingers)
    for joint, before in enumerate(_BEFORE[1:], start=1):
        grown[:, joint] = grown[:, before] + scale[joint] * (fingers[:, joint] - fingers[:, before])
    return grown


def _turns(count: int, person: Person, rng: np.random.Generator) -> np.ndarray:
    """Draw rotations (T, 3, 3): one for the word, and a slow sway about it."""
    knots = max(2, count // 8 + 2)
    at = np.linspace(0, knots - 1, count)
    sway = np.stack([np.interp(at, np.arange(knots), rng.normal(0, person.sway, knots)) for _ in range(3)], axis=1)
    angles = np.radians(rng.normal(0, person.turn, 3) + sway)  # (T, 3), the axis times the angle
    size = np.linalg.norm(angles, axis=1)[:, None, None]
    x, y, z = (angles / np.maximum(size[..., 0], 1e-9)).T
    none = np.zeros_like(x)
    cross = np.stack([none, -z, y, z, none, -x, -y, x, none], axis=1).reshape(-1, 3, 3)
    return np.eye(3) + np.sin(size) * cross + (1 - np.cos(size)) * (cross @ cross)  # Rodrigues


def mirrored(points: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the mirror image of a person: points (T, 133, D) in fractions of the frame, scores (T, 133)."""
    flipped = points[:, _MIRROR].copy()
    flipped[..., 0] = 1 - flipped[..., 0]
    return flipped, scores[:, _MIRROR]


def _mirror() -> np.ndarray:
    """Return which of the 133 keypoints is where in the mirror image."""
    pairs = [(i, i + 1) for i in range(1, 17, 2)] + [(i, i + 3) for i in range(17, 20)]
    face = [(i, 16 - i) for i in range(8)] + [(i, 43 - i) for i in range(17, 22)] + [(31, 35), (32, 34)]
    face += [(36, 45), (37, 44), (38, 43), (39, 42), (40, 47), (41, 46)]  # eyes
    face += [(48, 54), (49, 53), (50, 52), (55, 59), (56, 58), (60, 64), (61, 63), (65, 67)]  # lips
    pairs += [(23 + a, 23 + b) for a, b in face] + [(i, i + 21) for i in range(91, 112)]
    order = np.arange(133)
    for a, b in pairs:
        order[[a, b]] = b, a
    return order


_MIRROR = _mirror()
