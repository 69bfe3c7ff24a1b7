"""What speaks for a text and against it, all of it at hand once the text is written.

What a model was trained on is described by a Gaussian over a few statistics of the motion: a clip that is far from it,
however likely its text, is one that the model was never shown the like of.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from signet_runtime.generation import Hypothesis
from signet_runtime.regions import Regions
from signet_runtime.skeleton import REGIONS

# The evidence by name, in its order: the tokens' probability, their geometric mean; that of the least likely one; the
# entropy of the routing weights (nats); the share of the frames in which a hand is seen; and the logarithm of one plus
# the pose's distance, in standard deviations a dimension, from what the model was trained on.
EVIDENCE = ("probability", "least_probability", "routing_entropy", "hands_seen", "pose_distance")

_HANDS = ("left_hand", "right_hand")
_SERIES = 2 * len(REGIONS["body"].joints) + 4 * len(_HANDS)

MOTION_SIZE = 3 * _SERIES  # of `describe_motion`


def describe_motion(regions: Regions) -> np.ndarray:
    """Return what a clip's motion is like: float32 (`MOTION_SIZE`,).

    Mean, standard deviation and mean step of the body's joints, of the middle of each hand about its wrist, and of how
    far the hand reaches from there. A joint that was not seen is at 0, as the model reads it.

    Args:
        regions: of `signet_runtime.regions.prepare`, float32 (T, J, 3).
    """
    length = len(regions["body"])
    series = np.empty((length, _SERIES), np.float32)
    series[:, : -4 * len(_HANDS)] = regions["body"][..., :2].reshape(length, -1)
    for i, hand in enumerate(_HANDS):
        xy = regions[hand][..., :2]
        place = -4 * (len(_HANDS) - i)
        series[:, place : place + 2] = xy.mean(axis=1)
        series[:, place + 2 : place + 4 or None] = np.abs(xy).mean(axis=1)
    mean = series.mean(axis=0)
    away = series - mean
    step = np.abs(series[1:] - series[:-1]).sum(axis=0) / max(1, length - 1)
    return np.concatenate([mean, np.sqrt(np.einsum("ts,ts->s", away, away) / length), step])


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
    weights = np.array([weight for weight in routing if weight > 0])
    away = (describe_motion(regions) - motion_mean) @ whitening
    return np.array(
        [
            np.exp(text.log_prob),
            np.exp(min(text.log_probs, default=text.log_prob)),
            -(weights * np.log(weights)).sum(),
            hands_seen(regions),
            np.log1p(np.sqrt(away @ away / len(away))),
        ]
    )
