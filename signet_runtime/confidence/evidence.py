"""What speaks for a text and against it, all of it at hand once the text is written.

What a model was trained on is described by a Gaussian over a few statistics of the motion: a clip that is far from it,
however likely its text, is one that the model was never shown the like of.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from signet_runtime.generation.hypothesis import Hypothesis
from signet_runtime.regions import Regions
from signet_runtime.skeleton import REGIONS

# The evidence by name, in its order: the tokens' probability, their geometric mean; that of the least likely one; the
# entropy of the routing weights (nats); the share of the frames in which a hand is seen; and the logarithm of one plus
# the pose's distance, in standard deviations a dimension, from what the model was trained on.
EVIDENCE = ("probability", "least_probability", "routing_entropy", "hands_seen", "pose_distance")

_HANDS = ("left_hand", "right_hand")
_SERIES = 2 * len(REGIONS["body"].joints) + 4 * len(_HANDS)

MOTION_SIZE = 3 * _SERIES  # of `describe_motion`


def _summaries() -> tuple[np.ndarray, np.ndarray]:
    """Return which series are sums of which coordinates of body and hands, and which of their magnitudes."""
    body, hand = len(REGIONS["body"].joints), len(REGIONS[_HANDS[0]].joints)
    places = np.zeros((3 * (body + hand * len(_HANDS)), _SERIES), np.float32)
    reaches = places.copy()
    for joint in range(body):
        for axis in (0, 1):
            places[3 * joint + axis, 2 * joint + axis] = 1
    for i in range(len(_HANDS)):
        for joint in range(hand):
            row = 3 * (body + hand * i + joint)
            for axis in (0, 1):
                places[row + axis, 2 * body + 4 * i + axis] = 1 / hand
                reaches[row + axis, 2 * body + 4 * i + 2 + axis] = 1 / hand
    return places, reaches


_PLACES, _REACHES = _summaries()


def describe_motion(regions: Regions) -> np.ndarray:
    """Return what a clip's motion is like: float32 (`MOTION_SIZE`,).

    Mean, standard deviation and mean step of the body's joints, of the middle of each hand about its wrist, and of how
    far the hand reaches from there. A joint that was not seen is at 0, as the model reads it.

    Args:
        regions: of `signet_runtime.regions.prepare`, float32 (T, J, 3).
    """
    length = len(regions["body"])
    joints = np.concatenate([regions[name].reshape(length, -1) for name in ("body", *_HANDS)], axis=1)
    series = joints @ _PLACES + np.abs(joints) @ _REACHES
    mean = series.sum(axis=0) / length
    away = series - mean
    step = np.abs(series[1:] - series[:-1]).sum(axis=0) / max(1, length - 1)
    return np.concatenate([mean, np.sqrt((away * away).sum(axis=0) / length), step])


def hands_seen(regions: Regions) -> float:
    """Return the share of a clip's frames in which a hand is seen."""
    seen = np.zeros(len(regions["body"]), bool)
    for hand in _HANDS:
        seen |= regions[hand][:, :, 2].any(axis=1)
    return float(seen.mean())


def gather(
    text: Hypothesis, routing: Sequence[float], regions: Regions, motion_mean: np.ndarray, whitening: np.ndarray
) -> np.ndarray:
    """Return the evidence for a text, float64, by `EVIDENCE`.

    Args:
        text: the best that the search found.
        routing: weight of each expert, 0 for those not chosen.
        regions: what the model read.
        motion_mean, whitening: of what the model was trained on, (M,) and (M, M): a clip's `describe_motion` less the
            mean, times the matrix, has unit variance in every dimension.
    """
    away = (describe_motion(regions) - motion_mean) @ whitening
    return np.array(
        [
            math.exp(text.log_prob),
            math.exp(min(text.log_probs, default=text.log_prob)),
            -sum(weight * math.log(weight) for weight in routing if weight > 0),
            hands_seen(regions),
            math.log1p(math.sqrt(float(away @ away) / len(away))),
        ]
    )
