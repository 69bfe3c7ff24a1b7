"""What varies between two recordings of the same: noise and lost frames (Appendix B), and the signer."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from signet_runtime.pose.sequence import PoseSequence

_HANDS = ((slice(91, 112), 9), (slice(112, 133), 10))  # a hand's keypoints and the body joint it hangs on


def drop_frames(sequence: PoseSequence, fraction: float, rng: np.random.Generator) -> PoseSequence:
    """Lose each frame with probability ``fraction``; one at least remains."""
    kept = np.flatnonzero(rng.random(len(sequence)) >= fraction)
    return sequence.take(kept) if len(kept) else sequence.take(rng.integers(len(sequence), size=1))


def add_noise(regions: dict[str, np.ndarray], sigma: float, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Add Gaussian noise to x and y of confident joints, in normalised units; arrays (T, J, 3).

    Joints that the confidence filter zeroed stay (0, 0, 0): noise would tell the model that there is something.
    """
    noisy = {}
    for name, region in regions.items():
        noise = rng.normal(0, sigma, (*region.shape[:2], 2)).astype(np.float32)
        xy = region[..., :2] + noise * (region[..., 2:] > 0)
        noisy[name] = np.concatenate([xy, region[..., 2:]], axis=-1)
    return noisy


def vary_signer(sequence: PoseSequence, rng: np.random.Generator) -> PoseSequence:
    """Vary the clip as a random other camera, other hands, and an estimator that loses them at times would."""
    points, scores = sequence.keypoints.copy(), sequence.scores.copy()
    for hand, wrist in _HANDS:
        root = points[:, hand.start : hand.start + 1]
        turn = _affine(rng, degrees=10, scale=0.12, shear=0.05)
        points[:, hand] = root + (points[:, hand] - root) @ turn
        move = rng.normal(0, 0.02, 2).astype(np.float32)
        points[:, hand] += move
        points[:, wrist] += move
    centre = points[:, 5:7].mean(axis=(0, 1))
    points = centre + (points - centre) @ _affine(rng, degrees=6, scale=0.12, shear=0.05)
    return replace(sequence, keypoints=points.astype(np.float32), scores=_lose_hands(scores, rng))


def _affine(rng: np.random.Generator, degrees: float, scale: float, shear: float) -> np.ndarray:
    angle = np.radians(rng.uniform(-degrees, degrees))
    rotation = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    stretch = np.diag(rng.uniform(1 - scale, 1 + scale, 2)) @ np.array([[1, rng.uniform(-shear, shear)], [0, 1]])
    return (rotation @ stretch).astype(np.float32)


def _lose_hands(scores: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Lose a hand for single frames, or for a few in a row, as estimators do."""
    if rng.random() < 0.5:
        missed = rng.random(len(scores)) < rng.uniform(0, 0.15)
        if rng.random() < 0.3:
            start = rng.integers(len(scores))
            missed[start : start + rng.integers(2, 5)] = True
        scores[missed, 91:133] = 0
    return scores
