"""From a recording to keypoints: a stream, frame by frame, of a video, a camera, or keypoints that are there."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from signet_runtime.errors import InputError
from signet_runtime.pose.estimators import PoseEstimator
from signet_runtime.pose.files import write_keypoints
from signet_runtime.pose.sequence import PoseSequence
from signet_runtime.sentences.segmenter import PosedFrame, join
from signet_runtime.sources.arrays import FrameArrays
from signet_runtime.sources.clock import hold, measure, sample
from signet_runtime.sources.frames import FrameDirectory
from signet_runtime.sources.isolation import open_video
from signet_runtime.sources.isolation.video import IsolatedVideo
from signet_runtime.sources.live import LiveFrame
from signet_runtime.sources.prefetch import prefetch
from signet_runtime.sources.video import Video, VideoInfo

Recording = Video | IsolatedVideo | FrameDirectory | FrameArrays

# Decoded frames that may wait for the pose estimator, and posed ones that may wait for the model: enough that a
# sentence can be translated while the next is posed, and memory stays what it is.
_DECODED = 4
_POSED = 256


class LiveFrames(Protocol):
    """Frames as they come, on an even clock: a `Live` source, or whoever else has some.

    Attributes:
        info: rate of the clock, and size of the frames.
        notes: what was chosen, a line each.
    """

    @property
    def info(self) -> VideoInfo:
        """See above."""

    @property
    def notes(self) -> list[str]:
        """See above."""

    def __iter__(self) -> Iterator[LiveFrame]:
        """Give the frames, each at a tick of the clock."""


class PoseStream(NamedTuple):
    """Keypoints on a clock of ``fps``, found by ``source`` in frames of ``size`` (width, height).

    ``notes`` gives what was assumed, chosen or left out so far; ``end``, of pictures at their own times, when the last
    of them is no longer shown (s), once it was there; ``clock`` is the one that a model reads them on, if another.
    """

    frames: Iterator[PosedFrame]
    fps: float
    size: tuple[int, int]
    source: str
    num_frames: int | None = None  # as far as is known
    notes: Callable[[], list[str]] = list
    end: Callable[[], float] | None = None
    clock: float | None = None


def on_ticks(frames: Iterable[PosedFrame], clock: float, end: Callable[[], float]) -> Iterator[PosedFrame]:
    """Yield the frames that are nearest to the ticks of a clock (frames a second); see `clock.sample`."""
    for frame, seconds in sample(((frame, frame.seconds) for frame in frames), clock, end):
        yield frame._replace(seconds=seconds, ticks=1)


def extract_poses(
    path: str | Path,
    estimator: PoseEstimator,
    *,
    frame_rate: float | None = None,
    start: float | None = None,
    end: float | None = None,
    fps: float | None = None,
    track: int | None = None,
    notes: list[str] | None = None,
    progress: Callable[[int, int | None], None] | None = None,
    isolate: bool = False,
) -> PoseSequence:
    """Return the keypoints of the signer in a recording, which is read once and never held as a whole.

    The next frames are decoded, in another thread, while the estimator is at work. Where the frames are not evenly
    apart, the keypoints of each stand for as long as it is shown, on an even clock of the rate that follows from the
    frames' own times.

    Args:
        path: the video, or a directory of its frames.
        estimator: from `signet_runtime.pose.estimators.load_estimator`.
        frame_rate, start, end, track: see `Video`.
        fps: of a directory of frames; a video file knows its own.
        notes: what was assumed, chosen or left out is appended to it.
        progress: called after every frame with the number of frames done and, where known, of all.
        isolate: see `TranslatorOptions`.

    Raises:
        InputError: the recording cannot be used (see `Video` and `FrameDirectory`), or nobody is found in any frame.
    """
    recording: Recording
    if Path(path).is_dir():
        recording = FrameDirectory(path, fps, frame_rate, start=start, end=end)
    else:
        recording = open_video(path, frame_rate, start=start, end=end, track=track, isolate=isolate)
    frames: list[PosedFrame] = []
    with recording as video, closing(_decoded(video)) as decoded:
        for frame in _posed(decoded, estimator, None):
            frames.append(frame)
            if progress is not None:
                progress(len(frames), video.info.num_frames)
    times = np.array([frame.seconds for frame in frames])
    rate = measure(times, video.info.fps)
    frames = [frames[i] for i in hold(times, rate, video.end)]
    sequence = join(frames, rate.fps, video.info.size, estimator.name)
    if notes is not None:
        notes += _notes(video, estimator)
    if not sequence.scores.any():
        raise InputError(f"{path}: no person found in any of the {len(sequence)} frames")
    return sequence


def _notes(video: Recording | LiveFrames, estimator: PoseEstimator) -> list[str]:
    return [*video.notes, *getattr(estimator, "notes", ())]


@contextmanager
def stream_video(
    video: Recording,
    estimator: PoseEstimator,
    speed: float = 1.0,
    every_frame: bool = False,
    clock: float | None = None,
) -> Iterator[PoseStream]:
    """Open the keypoints of a video. Decoding, pose and whoever reads this work side by side.

    Args:
        speed: of the recording; times and rate of the stream are those of what was recorded.
        every_frame: the video's pictures come at their own times, and not on the model's clock.
        clock: that one, where it is not to be read as it is.
    """
    with closing(prefetch(_posed(_decoded(video), estimator, None, speed), _POSED)) as frames:
        info = video.info
        notes = partial(_notes, video, estimator)
        end = (lambda: video.end * speed) if every_frame else None
        yield PoseStream(frames, info.fps / speed, info.size, estimator.name, info.num_frames, notes, end, clock)


@contextmanager
def stream_live(live: LiveFrames, estimator: PoseEstimator) -> Iterator[PoseStream]:
    """Open the keypoints of what a camera sees, while it sees it."""
    with closing(prefetch(_posed(live, estimator, live.info.fps), _POSED)) as frames:
        notes = partial(_notes, live, estimator)
        yield PoseStream(frames, live.info.fps, live.info.size, estimator.name, notes=notes)


def stream_sequence(sequence: PoseSequence, notes: Sequence[str] = ()) -> PoseStream:
    """Return the frames of a sequence, about which there are notes."""
    now = time.perf_counter()
    frames = (
        PosedFrame(sequence.start + i / sequence.fps, keypoints, scores, 1, now)
        for i, (keypoints, scores) in enumerate(zip(sequence.keypoints, sequence.scores, strict=True))
    )
    return PoseStream(frames, sequence.fps, sequence.size, sequence.source, len(sequence), lambda: list(notes))


def _decoded(video: Recording) -> Generator[LiveFrame]:
    """Decode the frames in another thread, a few ahead of whoever reads them."""
    return prefetch((LiveFrame(image, seconds, time.perf_counter()) for image, seconds in video.timed()), _DECODED)


class _Shown(NamedTuple):
    """When a picture is shown and when it came; again: of the ticks at which it is still there."""

    seconds: float
    arrived: float
    again: list[tuple[float, float]]


def _posed(
    frames: Iterable[LiveFrame], estimator: PoseEstimator, clock: float | None, speed: float = 1.0
) -> Iterator[PosedFrame]:
    """Find the frames' keypoints, and of live ones, on a ``clock`` (frames a second), the ticks each stands for.

    A picture that is still there, which is the same array, is not posed again.
    """
    passed: deque[_Shown] = deque()  # an estimator may look at several frames before it speaks

    def images() -> Iterator[np.ndarray]:
        last: np.ndarray | None = None
        shown = _Shown(0.0, 0.0, [])
        for image, seconds, arrived in frames:
            if image is last:
                shown.again.append((speed * seconds, arrived))
                continue
            last, shown = image, _Shown(speed * seconds, arrived, [])
            passed.append(shown)
            yield image

    before = -1
    held: list[PosedFrame] = []

    def still_there() -> Iterator[PosedFrame]:
        for frame in held:
            for seconds, arrived in shown.again:
                yield frame._replace(seconds=seconds, arrived=arrived, ticks=1)

    shown = _Shown(0.0, 0.0, [])
    for keypoints, scores in estimator.estimate(images(), live=clock is not None):
        yield from still_there()
        shown = passed.popleft()
        tick = before + 1 if clock is None else round(shown.seconds * clock)
        held = [PosedFrame(shown.seconds, keypoints, scores, tick - before, shown.arrived)]
        yield held[0]
        before = tick
    yield from still_there()


class RecordedStream:
    """The frames of a stream: counted, and kept where they are to be written.

    What was read of a damaged file is not the recording, and nothing is written; what a camera saw is what it saw.

    Args:
        stream, live: the frames, and whether they are a camera's.
        keypoints_out: where to write them when the stream has ended, as .npz; they are held till then.
        progress: called with the number of frames done and of all, None if unknown.
        also: each takes every frame.

    Attributes:
        seen: frames so far.
        found: whether anybody was in any of them.
        ended: whether the last one was given.
    """

    def __init__(
        self,
        stream: PoseStream,
        live: bool,
        keypoints_out: Path | None,
        progress: Callable[[int, int | None], None] | None,
        also: Sequence[Callable[[PosedFrame], None]] = (),
    ) -> None:
        self.seen = 0
        self.found = False
        self.ended = False
        self.stream, self.live, self._out, self._progress = stream, live, keypoints_out, progress
        self._also = also
        self._kept: list[PosedFrame] = []

    def __iter__(self) -> Iterator[PosedFrame]:
        try:
            for frame in self.stream.frames:
                self.seen += 1
                self.found = self.found or bool(frame.scores.any())
                if self._out is not None:
                    self._kept.append(frame)
                for take in self._also:
                    take(frame)
                if self._progress is not None:
                    self._progress(self.seen, self.stream.num_frames)
                yield frame
        except InputError:
            if self.live:
                self._write()
            raise
        self.ended = True
        self._write()

    def _write(self) -> None:
        if self._out is not None and self.found:
            frames, fps = self._kept, self.stream.fps
            if self.stream.end is not None:  # on an even clock, as keypoint files are
                times = np.array([frame.seconds for frame in frames])
                rate = measure(times, fps)
                frames, fps = [frames[i] for i in hold(times, rate, self.stream.end())], rate.fps
            write_keypoints(self._out, join(frames, fps, self.stream.size, self.stream.source))
