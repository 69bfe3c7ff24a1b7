"""Video files -> RGB frames, one at a time, on a clock that can be trusted (PyAV)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import TYPE_CHECKING

import numpy as np

from signet_runtime.errors import InputError

if TYPE_CHECKING:
    import av
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

# For the rare file that does not say: a bare elementary stream, or a single frame.
UNKNOWN_FRAME_RATE = 25.0

# How much of a file's stated duration may be missing before we call it cut off (s): containers round, and
# some count the last frame's duration twice.
_DURATION_SLACK = 0.5

# Containers round the times of their frames to milliseconds: a frame this little before a boundary is on it (s).
INSTANT = 1e-3

# A picture that is this little wider or narrower than the first is the same one, coded in other blocks of pixels.
_SAME_ASPECT = 0.02

# How far before a stretch its key frame is looked for (s): in formats without an index, MPEG program and transport
# streams, a seek ends anywhere, and decoding starts at the next key frame, half a second or so later.
_SEEK_LEAD = 1.0


@dataclass(frozen=True)
class VideoInfo:
    """What is known before the frames are read.

    Attributes:
        fps: rate of the frames that iterating gives, per second.
        size: width and height in pixels, after rotation.
        num_frames: how many frames iterating will give, as far as the file tells; for progress only.
    """

    fps: float
    size: tuple[int, int]
    num_frames: int | None


class Video:
    """The frames of a video file: uint8 RGB (H, W, 3), upright, one at a time.

    Like an open file it is read once, from front to end, and closed by its ``with`` block.

    Args:
        path: the file.
        frame_rate: give frames on a clock of this rate where the video is faster: at every tick the frame
            nearest in time, by the file's timestamps, so that a variable frame rate keeps its timing (a
            gap repeats a frame). None, or a video that is not faster: every frame as it is.
        start: leave out what is shown before this time, in seconds since the first frame; the file is entered
            near it where its format allows. The clock of ``frame_rate`` then starts at the first frame that is left.
        end: leave out what is shown from this time on. Both None: the whole video.

    Raises:
        InputError: no such file, a directory, not a video, no picture in it, no frame can be decoded, or
            there is none from ``start`` to ``end``.
            Iterating raises it too when the file turns out to be cut off or damaged further on: what was
            read so far is not the whole video, and nothing should be concluded from it. (MPEG transport
            streams and live recordings do not state their length: there only damaged data is noticed.)
            And where the picture changes its shape; where it only changes its size, it is brought to the first one's.
        ValueError: by iterating, after the block in which it was open.
    """

    info: VideoInfo

    def __init__(
        self,
        path: str | Path,
        frame_rate: float | None = None,
        *,
        start: float | None = None,
        end: float | None = None,
    ) -> None:
        self._path = Path(path)
        begin, until = check_stretch(self._path, start, end)
        self._reading, self._closed = Lock(), False
        self._container = _open(self._path)
        try:
            stream = video_stream(self._container, self._path)
            frames = self._decode(stream)
            first = next(frames, None)
            if first is None:
                raise InputError(f"{self._path}: the video has no frames")
            fps = stated_rate(stream)
            duration = _duration(self._container, stream) or (stream.frames / fps if stream.frames else None)
            num_frames = stream.frames or (round(duration * fps) if duration else None)
            self._coded_size = width, height = first[0].width, first[0].height
            size = (height, width) if _quarter_turns(first[0]) % 2 else (width, height)
            if start is not None or end is not None:
                frames = _cut(self._enter(stream, first, frames, begin), begin, until)
                first = next(frames, None)
                if first is None:
                    raise empty_stretch(self._path, begin, until, duration)
                duration = max(min(until, duration or until) - begin, 1 / fps)
                duration = duration if math.isfinite(duration) else None
                num_frames = round(duration * fps) if duration else None
            self._frames = _prepend(first, frames)
            if frame_rate is not None and fps > frame_rate:
                self._frames = _sample(self._frames, frame_rate, fps)
                num_frames = max(1, round(duration * frame_rate)) if duration else None
                fps = frame_rate
            self.info = VideoInfo(fps, size, num_frames)
        except BaseException:
            self._container.close()
            raise

    def __enter__(self) -> Video:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._reading:  # another thread may be in the middle of a frame
            self._closed = True
            self._container.close()

    def __iter__(self) -> Iterator[np.ndarray]:
        for image, _ in self.timed():
            yield image

    def timed(self) -> Iterator[tuple[np.ndarray, float]]:
        """Yield the frames, each with its time: seconds since the first of them, on the clock if there is one."""
        while True:
            with self._reading:
                if self._closed:  # FFmpeg would end the process
                    raise ValueError(f"{self._path}: its video is closed, no more frames can be read")
                entry = next(self._frames, None)
            if entry is None:
                return
            frame, seconds = entry
            self._check_shape(frame, seconds)
            yield upright(frame, self._coded_size), seconds

    def _check_shape(self, frame: VideoFrame, seconds: float) -> None:
        """Refuse another shape; a picture may change its size, as a call's does with the bandwidth."""
        width, height = self._coded_size
        if abs(frame.width * height / (frame.height * width) - 1) > _SAME_ASPECT:
            raise InputError(
                f"{self._path}: its frames change from {width} x {height} to {frame.width} x {frame.height} pixels at "
                f"{seconds:.1f} s, which is another shape of picture; cut it there, or pad it to one size with ffmpeg"
            )

    def _enter(
        self,
        stream: VideoStream,
        first: tuple[VideoFrame, float],
        rest: Iterator[tuple[VideoFrame, float]],
        seconds: float,
    ) -> Iterator[tuple[VideoFrame, float]]:
        """Return decoded frames from a key frame before ``seconds`` on, or from the front where no seek leads there."""
        import av

        start = first[0].time
        if seconds <= _SEEK_LEAD or start is None or stream.time_base is None:
            return _prepend(first, rest)
        try:
            self._container.seek(int((start + seconds - _SEEK_LEAD) / stream.time_base), stream=stream)
            frames = self._decode(stream, start)
            landed = next(frames, None)
            if landed is not None and landed[1] <= seconds:
                return _prepend(landed, frames)
        except (av.FFmpegError, InputError):
            pass
        # Past the key frame, as where key frames are rare and there is no index, or nowhere: reading it all finds the
        # frames, or what is wrong with the file.
        self._container.close()
        self._container = _open(self._path)
        return self._decode(video_stream(self._container, self._path))

    def _decode(self, stream: VideoStream, start: float | None = None) -> Iterator[tuple[VideoFrame, float]]:
        """Yield decoded frames with their time in seconds since the first one, whose own is ``start`` after a seek."""
        import av

        num_packets = num_frames = 0
        from_the_front = start is None
        seconds = end = 0.0
        fps = stated_rate(stream)
        try:
            for packet in self._container.demux(stream):
                if packet.is_corrupt:
                    raise self._cut_off(num_frames if from_the_front else None, seconds)
                if packet.size:
                    num_packets += 1
                    if packet.pts is not None and packet.time_base is not None:
                        end = max(end, float((packet.pts + (packet.duration or 0)) * packet.time_base))
                for frame in packet.decode():
                    time = frame.time if frame.time is not None else num_frames / fps
                    start = time if start is None else start
                    seconds = time - start
                    num_frames += 1
                    yield frame, seconds
        except (av.FFmpegError, OSError) as error:
            raise self._cut_off(num_frames if from_the_front else None, seconds) from error
        if num_frames and _is_short(self._container, stream, num_packets if from_the_front else None, end):
            raise self._cut_off(num_frames if from_the_front else None, seconds)

    def _cut_off(self, num_frames: int | None, seconds: float) -> InputError:
        if num_frames == 0:
            return InputError(f"{self._path}: not one frame can be decoded; the file is damaged or cut off")
        where = f"at {seconds:.1f} s" if num_frames is None else f"after {num_frames} frames ({seconds:.1f} s)"
        advice = "get the whole file, or cut a readable part out of it with ffmpeg"
        return InputError(f"{self._path}: cut off or damaged {where}; {advice}")


def check_stretch(path: Path, start: float | None, end: float | None) -> tuple[float, float]:
    """Return where a stretch of a recording begins and ends (s), 0 and infinity where it is not said.

    Raises:
        InputError: it begins before the recording, or ends before it begins.
    """
    begin, until = 0.0 if start is None else start, math.inf if end is None else end
    if not 0 <= begin < until or begin == math.inf:
        raise InputError(f"{path}: no stretch runs from {begin:g} to {until:g} s; start is at least 0, end is later")
    return begin, until


def empty_stretch(path: Path, begin: float, until: float, duration: float | None) -> InputError:
    """Make the error for a recording, ``duration`` seconds long, that has no frame there."""
    stretch = f"from {begin:g} s on" if until == math.inf else f"from {begin:g} to {until:g} s"
    return InputError(f"{path}: no frames {stretch}{f'; it is {duration:.1f} s long' if duration else ''}")


def _open(path: Path) -> av.container.InputContainer:
    import av

    if path.is_dir():
        raise InputError(f"{path}: is a directory, not a video file")
    if not path.exists():
        raise InputError(f"{path}: no such file")
    try:
        # An explicit protocol, or FFmpeg would take what stands before a colon in a name for one.
        container = av.open("file:" + str(path.absolute()), mode="r")
    except (av.FFmpegError, OSError, ValueError) as error:
        raise InputError(f"{path}: not a video, or a damaged one ({reason(error)})") from error
    if container.format.name == "tty":  # FFmpeg draws any text file as a terminal
        container.close()
        raise InputError(f"{path}: a text file, not a video")
    return container


def reason(error: Exception) -> str:
    """Say in a line what is wrong by FFmpeg."""
    return (getattr(error, "strerror", None) or str(error)).splitlines()[0]


def video_stream(container: av.container.InputContainer, path: Path | str) -> VideoStream:
    """Return the stream that holds the pictures.

    Raises:
        InputError: there is none, or FFmpeg has no decoder for it.
    """
    import av

    # Music files carry their cover as a video stream of one picture.
    cover = av.stream.Disposition.attached_pic
    streams = [stream for stream in container.streams.video if not stream.disposition & cover]
    if not streams:
        what = "only sound" if container.streams.audio else "no picture"
        raise InputError(f"{path}: {what} in it, no video")
    stream = streams[0]
    if stream.codec_context is None:
        raise InputError(f"{path}: its video codec is not supported; convert it with ffmpeg")
    stream.thread_type = "AUTO"
    return stream


def stated_rate(stream: VideoStream) -> float:
    """Return the frames a second by what the container says, or the stream."""
    return float(stream.average_rate or stream.guessed_rate or UNKNOWN_FRAME_RATE)


def _duration(container: av.container.InputContainer, stream: VideoStream) -> float | None:
    """Return the seconds of video that the file states, or None."""
    if stream.duration is not None and stream.time_base is not None:
        return float(stream.duration * stream.time_base)
    # The container's duration is its longest stream's: only a lone stream can be held to it.
    if container.duration is not None and len(container.streams) == 1:
        return container.duration / 1_000_000  # FFmpeg's clock for containers
    return None


def _is_short(container: av.container.InputContainer, stream: VideoStream, num_packets: int | None, end: float) -> bool:
    """Return whether the frames end before the file states (FFmpeg ends quietly where the bytes end).

    ``num_packets`` is None when it was not read from the front.
    """
    if "mp4" in container.format.name and stream.frames and num_packets is not None:
        return num_packets < stream.frames  # its index lists every frame
    duration = _duration(container, stream)
    if duration is None:
        return False
    start = float(stream.start_time * stream.time_base) if stream.start_time and stream.time_base else 0.0
    return end - start < duration - _DURATION_SLACK


def upright(frame: VideoFrame, size: tuple[int, int] | None = None) -> np.ndarray:
    """Make a decoded frame uint8 RGB (H, W, 3), of ``size`` (width, height) and turned as it is to be shown."""
    width, height = size or (frame.width, frame.height)
    image = frame.to_ndarray(format="rgb24", width=width, height=height)
    turns = _quarter_turns(frame)
    return np.ascontiguousarray(np.rot90(image, turns)) if turns else image


def _quarter_turns(frame: VideoFrame) -> int:
    """Count the counter-clockwise quarter turns that put the frame upright, by its display matrix."""
    return round(frame.rotation / 90) % 4


def _prepend(
    first: tuple[VideoFrame, float], rest: Iterator[tuple[VideoFrame, float]]
) -> Iterator[tuple[VideoFrame, float]]:
    yield first
    yield from rest


def _cut(frames: Iterator[tuple[VideoFrame, float]], start: float, end: float) -> Iterator[tuple[VideoFrame, float]]:
    """Yield the frames shown from ``start`` until before ``end``, their times now since the first of them."""
    first: float | None = None
    for frame, seconds in frames:
        if seconds >= end - INSTANT:
            return
        if seconds >= start - INSTANT:
            first = seconds if first is None else first
            yield frame, seconds - first


def _sample(
    frames: Iterator[tuple[VideoFrame, float]], rate: float, source_rate: float
) -> Iterator[tuple[VideoFrame, float]]:
    """Yield the frame nearest to every tick of a clock at ``rate``, from the first frame to the end of the last."""
    tick = 0
    previous = next(frames)
    for frame in frames:
        while tick / rate <= frame[1]:
            nearest = previous if tick / rate - previous[1] <= frame[1] - tick / rate else frame
            yield nearest[0], tick / rate
            tick += 1
        previous = frame
    end = previous[1] + 1 / source_rate
    while tick / rate < end - 1e-6:
        yield previous[0], tick / rate
        tick += 1
