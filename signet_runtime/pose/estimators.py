"""One interface to the pose estimators, and the way from a video file to a `PoseSequence`."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Protocol

import numpy as np

from signet_runtime.errors import EngineError, InputError
from signet_runtime.pose.rtmpose.estimator import MODES
from signet_runtime.pose.sequence import PoseSequence
from signet_runtime.sources.frames import FrameDirectory
from signet_runtime.sources.prefetch import prefetch
from signet_runtime.sources.video import Video

logger = logging.getLogger("signet_runtime")

ESTIMATORS = ("mediapipe", *(f"rtmpose-{mode}" for mode in MODES))
CHOICES = ("auto", "mediapipe", "rtmpose", *ESTIMATORS[1:])


# Decoded frames that may wait for the estimator.
_DECODED = 4


class PoseEstimator(Protocol):
    """Finds the whole-body keypoints of one signer.

    Attributes:
        name: one of `ESTIMATORS`; becomes `PoseSequence.source`.
    """

    name: str

    def estimate(self, frames: Iterable[np.ndarray], *, live: bool = False) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Keypoints frame by frame, in order.

        Args:
            frames: uint8 RGB (H, W, 3), all of one size: one recording. Whatever is tracked from frame to
                frame starts anew at every call.
            live: give a frame's keypoints before asking for the next frame, which is faster for a frame and slower
                for a recording. The keypoints are the same.

        Yields:
            keypoints float32 (133, 2) in fractions of the frame's width and height, and scores float32
            (133,) in [0, 1]; all 0 when the signer is not in the frame.
        """
        ...

    def close(self) -> None:
        """Frees the models; the estimator is of no use afterwards."""
        ...


def load_estimator(
    choice: str,
    trained_on: str,
    *,
    offline: bool,
    device: str = "cpu",
    weights: Path | None = None,
    detect_every: int = 1,
) -> PoseEstimator:
    """The estimator that was asked for.

    Args:
        choice: one of `CHOICES`. "auto" is the one that the model was trained on, and where that cannot run
            the other kind, which is said on stderr. "rtmpose" is the mode that the model was trained on, or
            balanced.
        trained_on: the estimator that made the model's training data.
        offline: never touch the network (``SIGNET_OFFLINE=1`` does the same).
        device: where RTMPose runs; MediaPipe always runs on the CPU.
        weights: directory of RTMPose weights, instead of ``SIGNET_RTMPOSE`` and rtmlib's cache.
        detect_every: see `RTMPoseEstimator`; MediaPipe tracks in a way of its own.

    Raises:
        EngineError: the choice, or with "auto" everything, cannot run here.
    """

    def load(name: str) -> PoseEstimator:
        if name not in ESTIMATORS:
            raise EngineError(f"no pose estimator is called '{name}': choose from {', '.join(CHOICES)}")
        if name == "mediapipe":
            from signet_runtime.pose.mediapipe.estimator import MediaPipeEstimator

            return MediaPipeEstimator()
        from signet_runtime.pose.rtmpose.estimator import RTMPoseEstimator

        mode = name.removeprefix("rtmpose-")
        return RTMPoseEstimator(mode, offline=offline, device=device, weights=weights, detect_every=detect_every)

    if choice == "auto":
        return _load_auto(trained_on, load)
    if choice == "rtmpose":
        choice = trained_on if trained_on.startswith("rtmpose-") else "rtmpose-balanced"
    return load(choice)


def _load_auto(trained_on: str, load: Callable[[str], PoseEstimator]) -> PoseEstimator:
    try:
        return load(trained_on)
    except EngineError as error:
        reason = error
    other = "rtmpose-balanced" if trained_on == "mediapipe" else "mediapipe"
    try:
        estimator = load(other)
    except EngineError as error:
        raise EngineError(f"no pose estimator can run: {trained_on}: {reason}; {other}: {error}") from error
    logger.warning(
        "the model was trained on %s keypoints, but %s cannot run here (%s); using %s instead, results may suffer",
        trained_on,
        trained_on,
        reason,
        other,
    )
    return estimator


def extract_poses(
    path: str | Path,
    estimator: PoseEstimator,
    *,
    frame_rate: float | None = None,
    start: float | None = None,
    end: float | None = None,
    fps: float | None = None,
    progress: Callable[[int, int | None], None] | None = None,
) -> PoseSequence:
    """Keypoints of the signer in a recording, read once and never held as a whole.

    The next frames are decoded, in another thread, while the estimator is at work.

    Args:
        path: the video, or a directory of its frames.
        estimator: from `load_estimator`.
        frame_rate, start, end: see `Video`.
        fps: of a directory of frames; a video file knows its own.
        progress: called after every frame with the number of frames done and, where known, of all.

    Raises:
        InputError: the recording cannot be used (see `Video` and `FrameDirectory`), or nobody is found in any frame.
    """
    keypoints, scores = [], []
    recording: Video | FrameDirectory
    if Path(path).is_dir():
        recording = FrameDirectory(path, fps, frame_rate, start=start, end=end)
    else:
        recording = Video(path, frame_rate, start=start, end=end)
    with recording as video, closing(prefetch(video, _DECODED)) as frames:
        for points, confidence in estimator.estimate(frames):
            keypoints.append(points)
            scores.append(confidence)
            if progress is not None:
                progress(len(scores), video.info.num_frames)
    sequence = PoseSequence(np.stack(keypoints), np.stack(scores), video.info.fps, video.info.size, estimator.name)
    if not sequence.scores.any():
        raise InputError(f"{path}: no person found in any of the {len(sequence)} frames")
    return sequence
