"""Spelled words as videos: real signers' motion, drawn as an avatar."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from signet_runtime.errors import InputError
from signet_train.data.spelled.avatar import draw_frame
from signet_train.data.spelled.clips import CAMERA_FPS, Pace, join_word, load_landmarks
from signet_train.data.spelled.video import write_video

SIZE = (640, 640)  # width and height
SUFFIXES = (".mp4", ".mkv", ".mov", ".m4v", ".ts", ".avi")  # of containers that hold H.264

# The clips end at the chest: a hand at rest would leave the frame. A step back keeps it in view.
_DISTANCE, _TOP = 0.82, 0.02


def draw_frames(points: np.ndarray, scores: np.ndarray) -> Iterator[np.ndarray]:
    """Draw MediaPipe landmarks (T, 553, 3) and scores (T, 553) -> T frames, uint8 RGB (640, 640, 3)."""
    placed = points * np.float32(_DISTANCE)
    placed[..., 0] += (1 - _DISTANCE) / 2
    placed[..., 1] += _TOP
    for frame_points, frame_scores in zip(placed, scores, strict=True):
        yield draw_frame(frame_points, frame_scores, SIZE)


def draw_word(path: Path, word: str, sign_language: str) -> None:
    """Write a video of ``word`` spelled in ``sign_language``, 640x640 at 25 frames a second.

    Raises:
        InputError: the alphabet lacks a letter of the word, or it has none.
        OutputError: the video cannot be written.
    """
    if not word:
        raise InputError("a word without letters cannot be drawn")
    points, scores = join_word(word, sign_language, load_landmarks, Pace())
    write_video(path, draw_frames(points, scores), CAMERA_FPS)
