"""Somebody who signs by a script: how the hands move is all that the segmenter looks at."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from signet_runtime.sentences.segmenter import PosedFrame
from signet_runtime.skeleton import REGIONS

SIZE = (640, 480)
UP, DOWN = 0.55, 0.95  # heights of a wrist; the shoulders are at 0.4 and 160 pixels apart
LEFT, RIGHT = (9, REGIONS["left_hand"].joints), (10, REGIONS["right_hand"].joints)


def perform(script: Iterable[tuple[str, float]], fps: float = 25.0, seed: int = 0) -> Iterator[PosedFrame]:
    """Frames of a script: ("sign" | "fingers" | "hold" | "rest" | "gone", seconds), one after the other.

    The right hand signs: it moves about ("sign") or only its fingers do ("fingers"), is held where it is, hangs down,
    or nobody is in view. The left hand hangs.
    """
    rng = np.random.default_rng(seed)
    time, fingers, wrist = 0.0, np.zeros((21, 2)), np.array([0.6, DOWN])
    for act, seconds in script:
        for _ in range(round(seconds * fps)):
            if act == "sign":
                wrist = np.array([0.55 + 0.1 * np.sin(7 * time), UP + 0.05 * np.cos(5 * time)])
            elif act == "fingers":
                fingers = 0.05 * np.sin(9 * time + np.arange(21)[:, None]) * [1, 0.5]
                fingers[0] = 0
            elif act == "rest":
                wrist = wrist + np.clip(np.array([0.6, DOWN]) - wrist, -2 / fps, 2 / fps)
            keypoints = np.zeros((133, 2))
            keypoints[5], keypoints[6] = (0.625, 0.4), (0.375, 0.4)
            for (joint, hand), at in ((LEFT, np.array([0.4, DOWN])), (RIGHT, wrist)):
                keypoints[joint] = at
                keypoints[list(hand)] = at + (fingers if hand == RIGHT[1] else 0)
            keypoints += rng.normal(0, 0.0005, keypoints.shape)  # an estimator trembles
            scores = np.full(133, 0.0 if act == "gone" else 0.9, np.float32)
            yield PosedFrame(time, keypoints.astype(np.float32), scores, 1, time)
            time += 1 / fps
