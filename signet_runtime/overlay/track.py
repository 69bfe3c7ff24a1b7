"""Keypoints over the time of a recording, on disk: a video of any length is drawn in constant memory."""

from __future__ import annotations

import tempfile

import numpy as np

from signet_runtime.files import reporting
from signet_runtime.sentences.segmenter import PosedFrame
from signet_runtime.skeleton import CONFIDENCE, NUM_KEYPOINTS

_ROW = np.dtype([("seconds", "<f8"), ("keypoints", "<f4", (NUM_KEYPOINTS, 2)), ("scores", "<f4", (NUM_KEYPOINTS,))])

# Poses further apart than this have nothing to do with each other (s).
_TOGETHER = 0.5


class PoseTrack:
    """Poses that are written in the order of time, and then read in it, once.

    Args:
        speed: of the recording: the poses' seconds are those of what was signed, divided by it those of the file.

    Raises:
        OutputError: by `add`, the directory for temporary files is full.
    """

    def __init__(self, speed: float = 1.0) -> None:
        self._speed = speed
        self._file = tempfile.TemporaryFile()  # noqa: SIM115
        self._around: list[np.ndarray] | None = None  # the rows before and after the time that was asked for last

    def add(self, frame: PosedFrame) -> None:
        """Write a frame's pose."""
        row = np.zeros((), _ROW)
        row["seconds"] = frame.seconds / self._speed
        row["keypoints"], row["scores"] = frame.keypoints, frame.scores
        with reporting(tempfile.gettempdir()):
            self._file.write(row.tobytes())

    def at(self, seconds: float) -> tuple[np.ndarray, np.ndarray]:
        """Return keypoints (133, 2) and scores (133,) at a time, which is not before the one asked for last.

        Between two poses a joint that both have is on the straight line between them; others are as in the nearer one.
        """
        if self._around is None:
            self._file.seek(0)
            self._around = [row for row in (self._read(), self._read()) if row is not None]
        if not self._around:
            return np.zeros((NUM_KEYPOINTS, 2), np.float32), np.zeros(NUM_KEYPOINTS, np.float32)
        while len(self._around) == 2 and self._around[1]["seconds"] < seconds:
            following = self._read()
            if following is None:
                break
            self._around = [self._around[1], following]
        before, after = self._around[0], self._around[-1]
        gap = float(after["seconds"] - before["seconds"])
        part = min(1.0, max(0.0, (seconds - float(before["seconds"])) / gap)) if gap > 0 else 0.0
        nearer = after if part > 0.5 else before
        both = (before["scores"] > CONFIDENCE) & (after["scores"] > CONFIDENCE) & (gap <= _TOGETHER)
        keypoints = before["keypoints"] + part * (after["keypoints"] - before["keypoints"])
        scores = before["scores"] + part * (after["scores"] - before["scores"])
        return np.where(both[:, None], keypoints, nearer["keypoints"]), np.where(both, scores, nearer["scores"])

    def _read(self) -> np.ndarray | None:
        content = self._file.read(_ROW.itemsize)
        return np.frombuffer(content, _ROW)[0] if len(content) == _ROW.itemsize else None

    def close(self) -> None:
        """Remove the file."""
        self._file.close()
