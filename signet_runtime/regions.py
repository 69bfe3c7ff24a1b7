"""PoseSequence -> what the model sees: on its clock, thinned, in four regions that are filtered and normalised.

The normalisation `unisign` is the one that published pose-encoder checkpoints were trained with; it satisfies the
paper's Eq. 11 and its confidence filter (A.2). The box spans the whole clip, so nothing is final before the last frame.
In `causal` it spans the frames up to the one that is normalised: a frame is final when it is there, and a model that is
trained so can read along.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from signet_runtime.pose.sequence import PoseSequence
from signet_runtime.skeleton import CONFIDENCE, REGIONS

NORMALISATIONS = ("unisign", "causal")
LONG_CLIPS = ("sampled", "first")  # which frames of a clip that is too long: some all over it, or its beginning

Regions = dict[str, np.ndarray]

_MIN_BODY_JOINTS = 4  # fewer confident body joints in the box: there is no scale to speak of


class Reading(Protocol):
    """How a model reads a clip; a bundle's manifest and the data settings of a run are such.

    Attributes:
        frame_rate: the model's clock, in frames a second; None takes every recording as it is.
        max_frames: most that it reads of a clip.
        long_clips: which frames it reads of a clip that is longer, one of `LONG_CLIPS`.
        normalisation: one of `NORMALISATIONS`.
    """

    @property
    def frame_rate(self) -> float | None: ...

    @property
    def max_frames(self) -> int: ...

    @property
    def long_clips(self) -> str: ...

    @property
    def normalisation(self) -> str: ...


def prepare(clip: PoseSequence, reading: Reading, rng: np.random.Generator | None = None) -> Regions:
    """Return what a model reads of a clip: brought to its clock, thinned to what it reads, normalised.

    Args:
        clip: at any frame rate; one that is on the model's clock stays as it is.
        reading: of the model.
        rng: None thins evenly, as everywhere but in training, where the frames are drawn; the first frames are the
            first in training, too.

    Returns:
        The regions of `extract_regions`.
    """
    at_rate = on_clock(clip, reading.frame_rate)
    frames = sample_frames(len(at_rate), reading.max_frames, rng, reading.long_clips)
    return extract_regions(at_rate.take(frames), reading.normalisation)


def on_clock(clip: PoseSequence, frame_rate: float | None) -> PoseSequence:
    """Return the clip at a model's frame rate; None leaves it at its own, as does a clip that is slower."""
    return clip.resample(frame_rate) if frame_rate else clip


def sample_frames(
    num_frames: int, max_frames: int, rng: np.random.Generator | None = None, long_clips: str = "sampled"
) -> np.ndarray:
    """Return the rising indices (int64) of at most ``max_frames`` frames: all, evenly spaced ones, or with ``rng`` any.

    Evenly spaced ones are always the same.

    Args:
        long_clips: of `LONG_CLIPS`; "first" takes the first of them, also with ``rng``, from which nothing is drawn.
    """
    if num_frames <= max_frames or long_clips == "first":
        return np.arange(min(num_frames, max_frames))
    if rng is not None:
        return np.sort(rng.choice(num_frames, max_frames, replace=False))
    return np.round(np.linspace(0, num_frames - 1, max_frames)).astype(np.int64)


def extract_regions(sequence: PoseSequence, normalisation: str = "unisign") -> Regions:
    """Return the model's inputs, by one of `NORMALISATIONS`.

    Returns:
        float32 arrays in the order body (T, 9, 3), left_hand (T, 21, 3), right_hand (T, 21, 3),
        face (T, 18, 3); the channels are x and y in [-1, 1] and the confidence. Joints with confidence
        <= 0.3 are (0, 0, 0). A clip with fewer than 4 confident body joints is all zeros; in `causal` every
        frame is that has seen so few.

    Raises:
        ValueError: there is no such normalisation.
    """
    if normalisation not in NORMALISATIONS:
        raise ValueError(f"no normalisation {normalisation!r} among {', '.join(NORMALISATIONS)}")
    # In fp64, as the published code computes: differences of a small signer's joints have few digits to lose.
    motion = np.concatenate([sequence.keypoints, sequence.scores[..., None]], axis=-1, dtype=np.float64)
    scale, corner = _boxes(motion[:, REGIONS["body"].joints])
    if normalisation == "unisign":
        scale, corner = scale[-1:], corner[-1:]  # the box that has seen everything, for every frame
    return {name: _normalise(motion[:, region.joints], region.root, scale, corner) for name, region in REGIONS.items()}


def _boxes(body: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Box the body joints (T, 9, 3) that were seen up to every frame: longer side (T,) and corner (T, 2).

    The side is 0 where there is no box.
    """
    confident = body[..., 2] > CONFIDENCE
    seen = np.cumsum(confident.sum(axis=1)) >= _MIN_BODY_JOINTS
    low = np.where(confident[..., None], body[..., :2], np.inf).min(axis=1)
    high = np.where(confident[..., None], body[..., :2], -np.inf).max(axis=1)
    low = np.where(seen[:, None], np.minimum.accumulate(low), 0)
    high = np.where(seen[:, None], np.maximum.accumulate(high), 0)
    side = (high - low).max(axis=1)
    return side, (low + high - side[:, None]) / 2


def _normalise(part: np.ndarray, root: int | None, scale: np.ndarray, corner: np.ndarray) -> np.ndarray:
    """Measure a part (T, J, 3) on boxes (T or 1 of them)."""
    side = np.where(scale > 0, scale, 1)[:, None, None]
    if root is None:
        xy = ((part[..., :2] - corner[:, None]) / side - 0.5) * 2  # the box becomes [-1, 1] squared
    else:
        xy = (part[..., :2] - part[:, root : root + 1, :2]) / side  # Eq. 11, on the body's scale
    normalised = np.concatenate([np.clip(xy, -1, 1), part[..., 2:]], axis=-1)
    normalised[(part[..., 2] <= CONFIDENCE) | (scale == 0)[:, None]] = 0
    return normalised.astype(np.float32)
