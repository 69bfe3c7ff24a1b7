"""What a live stream sends, on its way from the event loop to the lane's thread, on the model's clock."""

from __future__ import annotations

import contextlib
import io
import threading
import time
from collections import deque
from collections.abc import Iterator
from itertools import chain
from typing import Generic, NamedTuple, TypeVar

import numpy as np

from signet_runtime.sentences.keypoints import PoseStream, stream_live
from signet_runtime.sentences.segmenter import PosedFrame
from signet_runtime.serve.problems import Problem, too_long
from signet_runtime.serve.settings import Limits
from signet_runtime.sources.clock import UNKNOWN_FRAME_RATE
from signet_runtime.sources.live import LiveFrame
from signet_runtime.sources.video import VideoInfo
from signet_runtime.translator import Translator

T = TypeVar("T")

# Pictures that may wait for the pose estimator, and keypoints that may wait for the segmenter.
_PICTURES = 4
_KEYPOINTS = 64
_LOOK = 0.1  # seconds


class Fed(NamedTuple, Generic[T]):
    """What came for a tick of the clock, and when (s, by `time.perf_counter`)."""

    tick: int
    content: T
    arrived: float


class Feed(Generic[T]):
    """A queue between a socket and a lane.

    Pictures cannot wait: where they come faster than they are posed, the oldest are left out, and the clip keeps its
    timing. Keypoints can.

    Args:
        frame_rate: of the clock, by the times that are sent: what comes first at or after every tick is taken.
        drops: leave out the oldest where there is no room.

    Attributes:
        clock: frames a second.
        dropped: how many were left out.
    """

    def __init__(self, frame_rate: float | None, limits: Limits, *, drops: bool) -> None:
        self.clock = frame_rate or UNKNOWN_FRAME_RATE
        self._limits, self.drops = limits, drops
        self._room = _PICTURES if drops else _KEYPOINTS
        self._waiting: deque[Fed[T]] = deque()
        self._changed = threading.Condition()
        self._ended = False
        self._last, self._tick = 0.0, -1
        self.dropped = 0

    @property
    def full(self) -> bool:
        """Whether whoever sends has to wait."""
        return not self.drops and len(self._waiting) >= self._room

    def put(self, seconds: float, content: T) -> None:
        """Take what was sent for a time; from the event loop.

        Raises:
            Problem: the time cannot be.
        """
        if not self._last <= seconds <= self._last + self._limits.silence:
            raise Problem(
                400,
                "bad_time",
                f"times are seconds from 0 on, go forward, and leave out no more than {self._limits.silence:g} s; got "
                f"{seconds:.6g} after {self._last:.6g}",
            )
        if seconds > self._limits.length:
            raise too_long(self._limits.length)
        self._last = seconds
        tick = int(seconds * self.clock + 1e-3)
        if tick <= self._tick:
            return
        self._tick = tick
        with self._changed:
            if self.drops and len(self._waiting) >= self._room:
                self._waiting.popleft()
                self.dropped += 1
            self._waiting.append(Fed(tick, content, time.perf_counter()))
            self._changed.notify()

    def end(self) -> None:
        """Say that there is no more; what waits is still taken."""
        with self._changed:
            self._ended = True
            self._changed.notify()

    def __iter__(self) -> Iterator[Fed[T]]:
        while True:
            with self._changed:
                while not self._waiting and not self._ended:
                    self._changed.wait(_LOOK)
                if not self._waiting:
                    return
                fed = self._waiting.popleft()
            yield fed


class _Pictures:
    """Encoded pictures as frames, as a camera gives them: what `stream_live` reads."""

    def __init__(self, feed: Feed[bytes], limits: Limits) -> None:
        self._feed, self._limits = iter(feed), limits
        self.notes: list[str] = []
        first = next(self._feed, None)
        if first is None:
            raise Problem(400, "empty", "the stream ended before its first picture")
        image = decoded(first.content, limits.pixels)
        self.info = VideoInfo(feed.clock, (image.shape[1], image.shape[0]), None)
        self._first = LiveFrame(image, first.tick / feed.clock, first.arrived)
        self._clock = feed.clock

    def __iter__(self) -> Iterator[LiveFrame]:
        return chain([self._first], self._rest())

    def _rest(self) -> Iterator[LiveFrame]:
        for fed in self._feed:
            image = decoded(fed.content, self._limits.pixels)
            if (image.shape[1], image.shape[0]) != self.info.size:
                width, height = self.info.size
                raise Problem(400, "size_changed", f"a picture is not of the first one's size, {width} x {height}")
            yield LiveFrame(image, fed.tick / self._clock, fed.arrived)


def decoded(content: bytes, most: int) -> np.ndarray:
    """Return a JPEG or WebP picture as uint8 RGB (H, W, 3).

    Raises:
        Problem: it is none, damaged, or has more than ``most`` pixels.
    """
    from PIL import Image

    try:
        with Image.open(io.BytesIO(content), formats=("JPEG", "WEBP")) as image:
            width, height = image.size
            if width * height > most:
                raise Problem(413, "too_large", f"a picture has {width} x {height} pixels; send smaller ones")
            return np.asarray(image.convert("RGB"))
    except Problem:
        raise
    except Exception as error:  # a damaged picture can fail in any way
        raise Problem(400, "bad_picture", "a picture is no JPEG or WebP, or damaged") from error


@contextlib.contextmanager
def open_pictures(feed: Feed[bytes], limits: Limits, translator: Translator) -> Iterator[PoseStream]:
    """Open the keypoints of the pictures of a feed; waits for the first.

    Raises:
        Problem: there is none, or it is no picture.
        EngineError: the pose estimator is not available.
    """
    estimator = translator.estimator
    with stream_live(_Pictures(feed, limits), estimator) as stream:
        yield stream


@contextlib.contextmanager
def open_keypoints(
    feed: Feed[tuple[np.ndarray, np.ndarray]], size: tuple[int, int], translator: Translator
) -> Iterator[PoseStream]:
    """Open the keypoints of a feed: float32 (133, 2) in fractions of a picture of ``size``, and scores (133,)."""

    def frames() -> Iterator[PosedFrame]:
        before = -1
        for fed in feed:
            keypoints, scores = fed.content
            yield PosedFrame(fed.tick / feed.clock, keypoints, scores, fed.tick - before, fed.arrived)
            before = fed.tick

    yield PoseStream(frames(), feed.clock, size, translator.bundle.manifest.pose_estimator)
