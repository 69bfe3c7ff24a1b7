"""The one form in which keypoints travel, whoever found them."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from signet_runtime.errors import InputError
from signet_runtime.skeleton import NUM_KEYPOINTS


@dataclass(frozen=True)
class PoseSequence:
    """Whole-body keypoints of one signer over time.

    Attributes:
        keypoints: float32 (T, 133, 2), x and y divided by the frame's width and height. A joint may lie
            outside [0, 1] when it was estimated beyond the frame's border.
        scores: float32 (T, 133), confidence in [0, 1]; 0 means not found.
        fps: frames a second, > 0.
        size: width and height of the frames in pixels.
        source: who found the keypoints, e.g. ``"mediapipe"`` or ``"rtmpose-balanced"``.
        start: when the first frame is shown, in seconds on the recording's own clock.

    Raises:
        InputError: no frames, or arrays that do not fit this description.
    """

    keypoints: np.ndarray
    scores: np.ndarray
    fps: float
    size: tuple[int, int]
    source: str
    start: float = 0.0

    def __post_init__(self) -> None:
        keypoints = np.asarray(self.keypoints, dtype=np.float32)
        scores = np.asarray(self.scores, dtype=np.float32)
        if keypoints.ndim != 3 or keypoints.shape[1:] != (NUM_KEYPOINTS, 2):
            raise InputError(f"keypoints must have shape (frames, 133, 2), got {keypoints.shape}")
        if len(keypoints) == 0:
            raise InputError("the pose sequence has no frames")
        if scores.shape != keypoints.shape[:2]:
            raise InputError(f"scores must have shape {keypoints.shape[:2]}, got {scores.shape}")
        if not (np.isfinite(keypoints).all() and np.isfinite(scores).all()):
            raise InputError("keypoints and scores must be finite numbers")
        if not self.fps > 0 or min(self.size) <= 0:
            raise InputError(f"frame rate and size must be positive, got {self.fps} and {self.size}")
        if not 0 <= self.start < math.inf:
            raise InputError(f"a recording starts at 0 s or later, got {self.start}")
        object.__setattr__(self, "keypoints", keypoints)
        # Estimators overshoot slightly (SimCC peaks reach 1.1); the contract is [0, 1].
        object.__setattr__(self, "scores", np.clip(scores, 0.0, 1.0))

    @classmethod
    def unchecked(
        cls, keypoints: np.ndarray, scores: np.ndarray, fps: float, size: tuple[int, int], source: str
    ) -> PoseSequence:
        """Make a sequence of what is known to fit the description: to check it takes longer than to load it."""
        sequence = object.__new__(cls)
        vars(sequence).update(keypoints=keypoints, scores=scores, fps=fps, size=size, source=source)
        return sequence

    def __len__(self) -> int:
        return len(self.keypoints)

    @property
    def duration(self) -> float:
        """Seconds."""
        return len(self) / self.fps

    def take(self, frames: np.ndarray, fps: float | None = None) -> PoseSequence:
        """Return the given frames, in the given order; ``fps`` when they change it."""
        start = self.start + (float(frames[0]) / self.fps if len(frames) else 0.0)
        keypoints, scores = self.keypoints[frames], self.scores[frames]
        return replace(self, keypoints=keypoints, scores=scores, fps=fps or self.fps, start=start)

    def resample(self, fps: float) -> PoseSequence:
        """Return the nearest existing frame to every tick of a clock at ``fps``; never interpolates.

        A sequence that is already slower is returned as it is: frames are never made up.
        """
        if fps >= self.fps:
            return self
        ticks = np.arange(max(1, round(self.duration * fps))) / fps
        frames = np.minimum(np.round(ticks * self.fps).astype(int), len(self) - 1)
        return self.take(frames, fps=fps)
