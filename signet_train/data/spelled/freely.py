"""Words joined in many ways: what the next person's way of spelling is one of.

Speed, and by how much it varies from letter to letter; letters that are cut short, or held while the signer thinks;
movements between them that are straight or soft, long or short, and wear the letters' edges away; the hand that drifts;
doubled letters that dip, slide, bounce or are held.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum

import numpy as np

from signet_train.data.spelled.clips import Clip

_HANDS = [9, 10, *range(91, 133)]  # the keypoints that move with the hands


class Doubled(Enum):
    """How the second of two equal letters is told from the first: where the hand goes (x, y), and if it stays."""

    DIP = (0.0, 0.05, False)
    BOUNCE = (0.0, -0.04, False)
    SLIDE = (0.05, 0.0, True)
    SHIFT = (0.03, 0.02, True)


_DOUBLED = tuple(Doubled)


def join_freely(
    clips: Sequence[Clip], repeated: Sequence[bool], fps: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Make one motion of letter clips, in a manner that ``rng`` draws: points (T, P, D) and scores (T, P) at ``fps``.

    Args:
        clips: of keypoints, P = 133, with depth (D = 3) or without.
        repeated: for each clip but the first whether it repeats the one before.
        fps: of the camera.
        rng: draws everything.
    """
    speed, rest = rng.uniform(1.1, 2.6), rng.random() < 0.4
    transition, soft = rng.uniform(0.06, 0.3), rng.random() < 0.5
    trim = rng.uniform(0, 0.3) if rng.random() < 0.6 else 0.0
    drift = rng.uniform(0, 0.02)
    points: list[np.ndarray] = []
    scores: list[np.ndarray] = []
    slid = np.zeros(2)
    for i, clip in enumerate(clips):
        start, stop = clip.hold
        cut = int(trim * (stop - start))
        start, stop = start + cut, max(start + cut + 1, stop - cut)
        if rest and i == 0:
            start = 0
        if rest and i == len(clips) - 1:
            stop = len(clip.points)
        pace = speed * rng.uniform(0.7, 1.4)
        count = max(1, round((stop - start) / clip.fps / pace * fps))
        frames = np.minimum(start + (np.arange(count) * clip.fps * pace / fps).astype(int), stop - 1)
        if rng.random() < 0.05:  # the signer thinks
            frames = np.append(frames, np.repeat(frames[-1], round(rng.uniform(0.2, 0.6) * fps)))
        letter, seen = clip.points[frames].copy(), clip.scores[frames]
        doubled = _DOUBLED[rng.integers(len(_DOUBLED))] if i and repeated[i - 1] else None
        if doubled is not None and doubled.value[2]:
            slid = slid + np.multiply(doubled.value[:2], rng.uniform(0.6, 1.4) * rng.choice([-1, 1]))
        letter[:, _HANDS, :2] += (slid + rng.normal(0, drift, 2)).astype(np.float32)
        if points:
            steps = max(1, round(transition * rng.uniform(0.6, 1.5) * fps))
            t = (np.arange(1, steps + 1, dtype=np.float32) / (steps + 1))[:, None, None]
            way = (1 - np.cos(np.pi * t)) / 2 if soft else t
            path = points[-1][-1] + way * (letter[0] - points[-1][-1])
            if doubled is not None and not doubled.value[2]:
                aside = np.multiply(doubled.value[:2], rng.uniform(0.6, 1.4))
                path[:, _HANDS, :2] += np.sin(np.pi * t) * aside
            points.append(path.astype(np.float32))
            scores.append(np.repeat(np.minimum(scores[-1][-1], seen[0])[None], steps, axis=0))
        points.append(letter)
        scores.append(seen)
    joined, known = np.concatenate(points), np.concatenate(scores)
    return (_worn(joined, known) if rng.random() < 0.5 else joined), known


def _worn(points: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Average each frame with its neighbours, where these see a point too: letters run into one another."""
    weight = (scores > 0).astype(np.float32)[..., None]
    total, weights = points * weight * 2, weight * 2
    for shift in (1, -1):
        near, near_weight = np.roll(points * weight, shift, axis=0), np.roll(weight, shift, axis=0)
        edge = 0 if shift == 1 else -1
        near[edge], near_weight[edge] = 0, 0
        total, weights = total + near, weights + near_weight
    return np.where(weight > 0, total / np.maximum(weights, 1e-9), points).astype(np.float32)
