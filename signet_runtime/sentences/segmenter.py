"""Where one sentence ends and the next begins: the hands go to rest, or are held still for a moment.

Signers pause between sentences far more often than between signs, and the hands tell. A hand is

- *down* when its wrist is `LOW` shoulder widths or more beneath the shoulders, or nothing of it is found;
- *still* when neither its wrist nor its fingers about the wrist are faster than `Pauses.still`.

A sentence ends when both hands have been down and still for `Pauses.rest` seconds, or still wherever they are for
`Pauses.pause` seconds, or, failing both, at the calmest moment of its second half once it is as long as the model
reads. Hands on their way up from rest, or down to it, belong to no sentence. Every frame is looked at once, when it
comes, so that a camera and a long file are cut alike.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import NamedTuple

import numpy as np

from signet_runtime.pose.sequence import PoseSequence
from signet_runtime.skeleton import CONFIDENCE, REGIONS
from signet_runtime.sources.deferred import deferred_errors

# Signing space ends about at the waist: passive arms of one-handed signers had their wrists 1.0 to 1.5 shoulder widths
# beneath the shoulders, active ones up to 0.8.
LOW = 0.9

# Stillness that is kept at both ends of a sentence (s): all of a pause would be read as a sign held, none of it would
# clip the last sign.
MARGIN = 0.24

# Less motion is no sign: hands that twitched, or an estimator that did (s).
SHORTEST = 0.3

# What is shorter is taken as it is, when it is one sentence (s).
_TOO_SHORT_TO_SAY = 1.0

# One frame in which hands move may be the estimator's mistake.
_MOVING_FRAMES = 2

# Speeds are over this long, so that a fast camera does not see more of the estimator's trembling (s).
_SPEED_OVER = 0.15
_CALM_FRAMES = 3
_WIDTHS = 50  # frames whose median is the shoulders' width

_SHOULDERS = [5, 6]
_ARMS = ((9, list(REGIONS["left_hand"].joints)), (10, list(REGIONS["right_hand"].joints)))


@dataclass(frozen=True)
class Pauses:
    """What ends a sentence.

    Attributes:
        rest: seconds for which both hands are down and still.
        pause: seconds for which both hands are still.
        still: speed up to which a hand is still, in shoulder widths a second.
    """

    rest: float = 0.4
    pause: float = 0.8
    still: float = 0.3


class PosedFrame(NamedTuple):
    """A frame's keypoints on their way into a sentence.

    seconds: since the recording began. keypoints: float32 (133, 2) and scores: float32 (133,), as in `PoseSequence`.
    ticks: of the recording's clock that the frame stands for, more than 1 after frames that were dropped. arrived: when
    the frame came in, by `time.perf_counter`.
    """

    seconds: float
    keypoints: np.ndarray
    scores: np.ndarray
    ticks: int
    arrived: float


class Sentence(NamedTuple):
    """A stretch of a recording.

    start: of its first frame (s). arrived: when the frame came in that ended it. complete: False for what there is of a
    sentence that still goes on.
    """

    poses: PoseSequence
    start: float
    arrived: float
    complete: bool = True


class Segmenter:
    """Cuts a stream of keypoints into sentences, frame by frame.

    Args:
        fps: of the clock that the frames are on.
        size: width and height of the frames in pixels.
        source: who found the keypoints.
        longest: frames after which a sentence ends in any case.
        pauses: what ends it otherwise.
    """

    def __init__(self, fps: float, size: tuple[int, int], source: str, longest: int, pauses: Pauses) -> None:
        self._fps, self._size, self._source = fps, size, source
        self._longest, self._pauses = longest, pauses
        self._hands = _Hands(size)
        # Of the present sentence, and of the stillness before it:
        self._frames: list[PosedFrame] = []
        self._speeds: list[float] = []
        self._since: list[float] = []  # from when on that was the speed (s)
        self._down: list[bool] = []

    def push(self, frame: PosedFrame) -> Sentence | None:
        """Take the next frame; give the sentence that it ends, if it ends one."""
        if self.is_apart(frame):
            sentence = self.so_far() if self._frames else None
            self._forget(len(self._frames))
            self.push(frame._replace(ticks=1))
            return sentence
        speed, since, down = self._hands.look(frame)
        self._frames.append(frame)
        self._speeds.append(speed)
        self._since.append(since)
        self._down.append(down)
        if self._calm_for(down_too=True) >= self._pauses.rest or self._calm_for() >= self._pauses.pause:
            sentence = self.so_far()
            margin = sum(frame.seconds - past.seconds < MARGIN for past in self._frames)
            self._forget(len(self._frames) - margin)
        elif sum(frame.ticks for frame in self._frames) >= self._longest:
            later = len(self._speeds) // 2
            stop = later + int(np.argmin(self._speeds[later:])) + 1
            sentence = self._sentence(stop)
            self._forget(stop)
        else:
            sentence = None
        return sentence

    def is_apart(self, frame: PosedFrame) -> bool:
        """Whether nothing was seen before a frame for so long that hands at rest would have ended the sentence.

        The frame before cannot stand for that time, which is anybody's to say: of a stream, whose clock may be set.
        """
        return frame.ticks / self._fps > max(self._pauses.pause, self._pauses.rest, _TOO_SHORT_TO_SAY)

    def anybody_signs(self, frames: Sequence[PosedFrame]) -> bool:
        """Return whether a hand that is not down moves anywhere in frames that were not pushed.

        Of less than a second nobody can say: then, too.
        """
        if frames[-1].seconds - frames[0].seconds < _TOO_SHORT_TO_SAY:
            return True
        hands = _Hands(self._size)
        looks = map(hands.look, frames)
        moving = sum(speed > self._pauses.still and not down for speed, _, down in looks)
        return moving >= _MOVING_FRAMES

    def so_far(self) -> Sentence | None:
        """Return the sentence up to here, None when nobody has signed yet."""
        return self._sentence(len(self._frames))

    def join(self, frames: Sequence[PosedFrame]) -> PoseSequence:
        """Make one sequence of the frames."""
        return join(frames, self._fps, self._size, self._source)

    def _calm_for(self, *, down_too: bool = False) -> float:
        """Count the seconds up to now for which both hands are still."""
        first = len(self._frames)
        while first and self._speeds[first - 1] <= self._pauses.still and (self._down[first - 1] or not down_too):
            first -= 1
        # In fewer frames, as of a camera with one a second, hands may happen to be where they were.
        if len(self._frames) - first < _CALM_FRAMES:
            return 0.0
        return self._frames[-1].seconds - self._since[first]

    def _sentence(self, stop: int) -> Sentence | None:
        """Return what is signed before frame ``stop``, with a little of the stillness around it."""
        moving = [i for i in range(stop) if self._speeds[i] > self._pauses.still and not self._down[i]]
        if not moving:
            return None
        begin, end = self._frames[moving[0]].seconds, self._frames[moving[-1]].seconds
        if end - begin < SHORTEST:
            return None
        kept = [
            self._frames[i]
            for i in range(stop)
            if begin <= self._frames[i].seconds <= end
            or (not self._down[i] and begin - MARGIN <= self._frames[i].seconds <= end + MARGIN)
        ]
        return Sentence(self.join(kept), kept[0].seconds, self._frames[stop - 1].arrived)

    def _forget(self, stop: int) -> None:
        for values in (self._frames, self._speeds, self._since, self._down):
            del values[:stop]


class _Hands:
    """How fast the hands are and where, from one frame to the next."""

    def __init__(self, size: tuple[int, int]) -> None:
        self._size = np.array(size, np.float32)
        self._widths: deque[float] = deque(maxlen=_WIDTHS)
        self._recent: deque[tuple[float, np.ndarray, np.ndarray]] = deque()

    def look(self, frame: PosedFrame) -> tuple[float, float, bool]:
        """Return the faster hand's speed in shoulder widths a second, since when (s), and whether both are down."""
        points, found = frame.keypoints * self._size, frame.scores > CONFIDENCE
        if found[_SHOULDERS].all():
            self._widths.append(float(np.linalg.norm(points[_SHOULDERS[0]] - points[_SHOULDERS[1]])))
        width = float(np.median(self._widths)) if self._widths else 0.0
        self._recent.append((frame.seconds, points, found))
        while len(self._recent) > 2 and frame.seconds - self._recent[1][0] >= _SPEED_OVER - 1e-6:
            self._recent.popleft()
        then, before, was_found = self._recent[0]
        if width == 0:
            return 0.0, then, True  # nobody there yet
        span = max(frame.seconds - then, 1e-6) * width
        speed = max(_moved(points, before, found & was_found, *arm) for arm in _ARMS) / span
        return speed, then, all(self._is_down(points, found, *arm, width) for arm in _ARMS)

    @staticmethod
    def _is_down(points: np.ndarray, found: np.ndarray, wrist: int, hand: list[int], width: float) -> bool:
        joint = wrist if found[wrist] else hand[0]
        if not found[joint]:
            return True
        return bool(points[joint, 1] - points[_SHOULDERS, 1].mean() >= LOW * width)


def _moved(now: np.ndarray, then: np.ndarray, found: np.ndarray, wrist: int, hand: list[int]) -> float:
    """Return by how many pixels the wrist moved, or the hand's joints about its root, whichever is more.

    A wrist that only goes where the shoulders go is at rest: it is the body that moves, or the camera.
    """
    moved = float(np.linalg.norm(now[wrist] - then[wrist])) if found[wrist] else 0.0
    if found[wrist] and found[_SHOULDERS].all():
        body = (now[_SHOULDERS] - then[_SHOULDERS]).mean(axis=0)
        moved = min(moved, float(np.linalg.norm(now[wrist] - then[wrist] - body)))
    if found[hand].all():
        shape = (now[hand] - now[hand[0]]) - (then[hand] - then[hand[0]])
        moved = max(moved, float(np.linalg.norm(shape, axis=-1).mean()))
    return moved


def join(frames: Sequence[PosedFrame], fps: float, size: tuple[int, int], source: str) -> PoseSequence:
    """Make one sequence of frames, each as often as the ticks that it stands for."""
    ticks = [1, *(frame.ticks for frame in frames[1:])]  # before the first, nothing is missing
    keypoints = np.repeat(np.stack([frame.keypoints for frame in frames]), ticks, axis=0)
    scores = np.repeat(np.stack([frame.scores for frame in frames]), ticks, axis=0)
    return PoseSequence(keypoints, scores, fps, size, source, max(0.0, frames[0].seconds))


def cut(
    frames: Iterable[PosedFrame],
    segmenter: Segmenter,
    *,
    whole: int | None = 0,
    partial: float | None = None,
    even_if_still: bool = False,
) -> Iterator[Sentence]:
    """Yield the sentences of a stream, each as soon as it has ended; the last one ends with the stream.

    Args:
        whole: a stream of up to so many frames is one sentence, from its first frame to its last, if anybody signs in
            it; None: any stream.
        partial: also give what there is of a sentence, every so many seconds of it.
        even_if_still: take a whole stream as a sentence also where nobody signs in it.

    Raises:
        Exception: of the stream, after the sentence that it broke off.
    """
    frames = iter(frames)
    held = list(islice(frames, None if whole is None else whole + 1))
    if (whole is None or len(held) <= whole) and not any(map(segmenter.is_apart, held[1:])):
        if held and (even_if_still or segmenter.anybody_signs(held)):
            yield Sentence(segmenter.join(held), held[0].seconds, held[-1].arrived)
        return
    shown: float | None = None
    with deferred_errors(chain(held, frames)) as readable:
        for frame in readable:
            sentence = segmenter.push(frame)
            if sentence is not None:
                shown = None
                yield sentence
            elif partial is not None and (so_far := segmenter.so_far()) is not None:
                shown = so_far.start if shown is None else shown
                if frame.seconds - shown >= partial:
                    shown = frame.seconds
                    yield so_far._replace(complete=False)
        if (sentence := segmenter.so_far()) is not None:
            yield sentence
