"""The other generator: words joined otherwise than training joins them. It is a test, and nothing trains on it.

Clips are trimmed at both ends, sampled between their frames as a camera of another rate would see them, and bridged in
3 to 5 frames of a movement that starts and stops softly. A doubled letter slides to the side or bounces.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from signet_runtime.pose.sequence import PoseSequence
from signet_train.data.spelled.clips import (
    COMPONENTS,
    NUM_LANDMARKS,
    Clip,
    load_keypoints,
    load_landmarks,
    split_letters,
)
from signet_train.data.spelled.drawing import draw_frames
from signet_train.data.spelled.video import write_video

RATES = (25.0, 30.0)  # of the cameras, frames a second
MAX_LETTERS = 8

_TRIM = 0.15  # of the time that the hand is up, at either end of a letter
_SPEED = (1.3, 2.1)
_BRIDGE = (3, 5)  # frames of a transition
_SLIDE, _BOUNCE = 0.06, 0.04  # of the frame: how far a hand moves for a doubled letter


def join_otherwise(
    clips: Sequence[Clip], repeated: Sequence[bool], fps: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Join letter clips into one motion: points (T, P, D) and scores (T, P) at ``fps``.

    Args:
        clips: of one signer, all as keypoints (P = 133) or all as landmarks (P = 553).
        repeated: for each clip but the first whether it repeats the one before.
        fps: of the camera.
        rng: draws the speed of the word, the length of every transition, and how letters are doubled.
    """
    speed = rng.uniform(*_SPEED)
    points: list[np.ndarray] = []
    scores: list[np.ndarray] = []
    slid = np.zeros(2, np.float32)
    for i, clip in enumerate(clips):
        start, stop = clip.hold
        cut = _TRIM * (stop - start)
        count = max(1, round((stop - start - 2 * cut) / clip.fps / speed * fps))
        letter, seen = _between(clip, start + cut + np.arange(count) * clip.fps * speed / fps, stop - 1)
        doubled = bool(i and repeated[i - 1])
        slides = doubled and rng.random() < 0.5
        if slides:
            slid[0] += _SLIDE * rng.choice([-1, 1])
        letter += _moving(letter.shape[1])[:, None] * np.append(slid, np.zeros(letter.shape[2] - 2, np.float32))
        if points:
            steps = int(rng.integers(_BRIDGE[0], _BRIDGE[1] + 1))
            t = (np.arange(1, steps + 1, dtype=np.float32) / (steps + 1))[:, None, None]
            soft = t**3 * (10 - 15 * t + 6 * t**2)  # minimum jerk
            path = points[-1][-1] + soft * (letter[0] - points[-1][-1])
            if doubled and not slides:
                path[..., 1] += _moving(path.shape[1]) * _BOUNCE * np.sin(np.pi * t[..., 0])
            points.append(path.astype(np.float32))
            scores.append(np.repeat(np.minimum(scores[-1][-1], seen[0])[None], steps, axis=0))
        points.append(letter)
        scores.append(seen)
    return np.concatenate(points), np.concatenate(scores)


def spell_otherwise(word: str, sign_language: str, rng: np.random.Generator) -> PoseSequence:
    """Spell a word by `join_otherwise`, at 25 or at 30 frames a second.

    Raises:
        InputError: a letter that this alphabet lacks.
    """
    points, scores, fps = _spelled(word, sign_language, load_keypoints, rng)
    return PoseSequence(points, scores, fps, (500, 500), f"spoken-to-signed/{sign_language}")


def draw_otherwise(path: Path, word: str, sign_language: str, rng: np.random.Generator) -> None:
    """Write a video of a word joined by `join_otherwise`, drawn as the demo's videos are.

    Raises:
        InputError: a letter that this alphabet lacks.
    """
    points, scores, fps = _spelled(word, sign_language, load_landmarks, rng)
    write_video(path, draw_frames(points, scores), fps)


def _spelled(
    word: str, sign_language: str, load: Callable[[str, str], Clip], rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, float]:
    letters = split_letters(word, sign_language)
    fps = float(rng.choice(RATES))
    repeated = [a == b for a, b in itertools.pairwise(letters)]
    return *join_otherwise([load(sign_language, part) for part in letters], repeated, fps, rng), fps


def _between(clip: Clip, at: np.ndarray, last: int) -> tuple[np.ndarray, np.ndarray]:
    """Read a clip at fractional frames (T,): straight between neighbours, the nearer one where a point is in one."""
    at = np.clip(at, 0, last)
    low = np.floor(at).astype(int)
    high = np.minimum(low + 1, last)
    share = (at - low).astype(np.float32)[:, None]
    before, after = clip.scores[low], clip.scores[high]
    nearer = np.where(share < 0.5, 0.0, 1.0).astype(np.float32)
    weight = np.where((before > 0) & (after > 0), share, nearer)[..., None]
    points = clip.points[low] * (1 - weight) + clip.points[high] * weight
    return points.astype(np.float32), np.where(share < 0.5, before, after)


def _moving(num_points: int) -> np.ndarray:
    """Mark the points that move with the hands (P,): 1 there, 0 elsewhere."""
    moving = np.zeros(num_points, np.float32)
    if num_points == NUM_LANDMARKS:
        moving[COMPONENTS["left_hand"]] = moving[COMPONENTS["right_hand"]] = moving[15:23] = 1
    else:
        moving[91:133] = moving[9:11] = 1
    return moving
