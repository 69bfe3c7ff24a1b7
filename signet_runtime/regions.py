"""PoseSequence -> what the model sees: four regions, filtered by confidence, scaled, root-relative.

The profile `unisign` is the normalisation that published pose-encoder checkpoints were trained with; it
satisfies the paper's Eq. 11 and its confidence filter (A.2). The box spans the whole clip, so nothing is
final before the last frame.
"""

from __future__ import annotations

import numpy as np

from signet_runtime.pose.sequence import PoseSequence
from signet_runtime.skeleton import REGIONS

PROFILES = ("unisign",)

CONFIDENCE = 0.3  # A.2: joints at or below are zeroed
_MIN_BODY_JOINTS = 4  # fewer confident body joints in the whole clip: there is no scale to speak of


def sample_frames(num_frames: int, max_frames: int) -> np.ndarray:
    """Indices (int64) of at most ``max_frames`` frames, evenly spaced and always the same."""
    if num_frames <= max_frames:
        return np.arange(num_frames)
    return np.round(np.linspace(0, num_frames - 1, max_frames)).astype(np.int64)


def extract_regions(sequence: PoseSequence) -> dict[str, np.ndarray]:
    """Model inputs by the `unisign` profile.

    Returns:
        float32 arrays in the order body (T, 9, 3), left_hand (T, 21, 3), right_hand (T, 21, 3),
        face (T, 18, 3); the channels are x and y in [-1, 1] and the confidence. Joints with confidence
        <= 0.3 are (0, 0, 0). A clip with fewer than 4 confident body joints is all zeros.
    """
    # In fp64, as the published code computes: differences of a small signer's joints have few digits to lose.
    motion = np.concatenate([sequence.keypoints, sequence.scores[..., None]], axis=-1, dtype=np.float64)
    body = motion[:, REGIONS["body"].joints]
    confident = body[body[..., 2] > CONFIDENCE][:, :2]
    scale, corner = 0.0, np.zeros(2)
    if len(confident) >= _MIN_BODY_JOINTS:
        low, high = confident.min(axis=0), confident.max(axis=0)
        scale = float((high - low).max())
        corner = (low + high - scale) / 2
    return {name: _normalise(motion[:, region.joints], region.root, scale, corner) for name, region in REGIONS.items()}


def _normalise(part: np.ndarray, root: int | None, scale: float, corner: np.ndarray) -> np.ndarray:
    if scale == 0:
        return np.zeros(part.shape, np.float32)
    if root is None:
        xy = ((part[..., :2] - corner) / scale - 0.5) * 2  # the box becomes [-1, 1] squared
    else:
        xy = (part[..., :2] - part[:, root : root + 1, :2]) / scale  # Eq. 11, on the body's scale
    normalised = np.concatenate([np.clip(xy, -1, 1), part[..., 2:]], axis=-1)
    normalised[part[..., 2] <= CONFIDENCE] = 0
    return normalised.astype(np.float32)
