"""Video files -> RGB frames, one at a time, each at the time at which a player shows it (PyAV)."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import TYPE_CHECKING

import numpy as np

from signet_runtime.errors import InputError
from signet_runtime.sources.clock import INSTANT, MOST_STATED, UNKNOWN_FRAME_RATE, FileClock, Rate, measure, sample
from signet_runtime.sources.container import (
    Packets,
    file_origin,
    is_animated_webp,
    is_constant,
    open_container,
    own_time,
    packet_times,
    stated_duration,
    stated_rate,
    states_duration,
)
from signet_runtime.sources.ending import is_cut_off
from signet_runtime.sources.picture import pixel_aspect, progressive, shown_size, square_size, upright
from signet_runtime.sources.tracks import choose_track

if TYPE_CHECKING:
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

# How much longer a file may say it is than its pictures are, before that is said (s).
_DURATION_SLACK = 0.5

# A picture that is this little wider or narrower than the first is the same one, coded in other blocks of pixels.
_SAME_ASPECT = 0.02

# How far before a stretch its key frame is looked for (s): in formats without an index, MPEG program and transport
# streams, a seek ends anywhere, and decoding starts at the next key frame, half a second or so later.
_SEEK_LEAD = 1.0

# A picture that stays for longer than this is held, and part of a stretch that begins meanwhile (s).
_HELD = 0.25

# A recording that has so many times more frames than it plays is slow motion.
_STRETCHED = 1.5

# For how long the last picture can be held (s): more would say nothing new.
_LAST_HELD = 1.0


@dataclass(frozen=True)
class VideoInfo:
    """What is known before the frames are read.

    Attributes:
        fps: rate of the frames that iterating gives, per second.
        size: width and height in pixels, as shown: turned, and with square pixels.
        num_frames: how many frames iterating will give, as far as the file tells; for progress only.
    """

    fps: float
    size: tuple[int, int]
    num_frames: int | None


class Video:
    """The frames of a video file as a player shows them: uint8 RGB (H, W, 3), upright, one at a time.

    Like an open file it is read once, from front to end, and closed by its ``with`` block. What is done to the
    pictures, and how times, tracks and damage are understood, is in docs/recordings.md.

    Args:
        path: the file.
        frame_rate: give frames on a clock of this rate where the video is faster or uneven: at every tick the frame
            nearest in time, by the file's timestamps (a picture that is held is repeated). None, or a video that is
            evenly slower: every frame as it is.
        start: leave out what is shown before this time, in seconds on the file's own clock; the file is entered
            near it where its format allows. The clock of ``frame_rate`` then starts at the first frame that is left.
        end: leave out what is shown from this time on. Both None: the whole video.
        track: number among the video tracks, from 1; None takes the default one, or the one with most pictures.

    Attributes:
        notes: what was assumed, chosen or left out so far, a line each.
        regular: whether the pictures come evenly, as far as that was looked at.
        zero: where the clock of `timed` begins on that of the file's packets (s).

    Raises:
        InputError: no such file, a directory, not a video, no picture in it, no frame can be decoded, or
            there is none from ``start`` to ``end``.
            Iterating raises it too when the file turns out to be cut off: what was read so far is not the whole
            video, and nothing should be concluded from it. (MPEG streams may end anywhere.) Damaged data in the
            middle costs its pictures, and is noted.
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
        track: int | None = None,
    ) -> None:
        self._path, self._track = Path(path), track
        self.notes: list[str] = []
        begin, until = check_stretch(self._path, start, end)
        self._reading, self._closed = Lock(), False
        self._end = 0.0  # when the last picture is no longer shown, once that is known
        self._stretch = 1.0  # by how much the file's times are too short
        self.zero = 0.0
        self._container = open_container(self._path)
        try:
            stream = self._choose()
            rate = self._rate(stream, frame_rate)
            self.regular = rate.regular
            self._period = 1 / rate.fps
            self._note_slow_motion(rate.fps)
            self._aspect = pixel_aspect(stream)
            frames = self._decode(stream)
            first = next(frames, None)
            if first is None:
                raise InputError(f"{self._path}: the video has no frames")
            fps = rate.fps
            duration = self._stated_duration(stream) or (stream.frames / fps if stream.frames else None)
            num_frames = stream.frames or (round(duration * fps) if duration else None)
            self._coded_size = first[0].width, first[0].height
            self._size = square_size(*self._coded_size, self._aspect)
            size = shown_size(first[0], self._size)
            if start is not None or end is not None:
                frames = self._cut(self._enter(stream, first, frames, begin), begin, until)
                first = next(frames, None)
                if first is None:
                    raise empty_stretch(self._path, begin, until, duration)
                duration = max(min(until, duration or until) - begin, 1 / fps)
                duration = duration if math.isfinite(duration) else None
                num_frames = round(duration * fps) if duration else None
            self._frames = _prepend(first, frames)
            if frame_rate is not None and (fps > frame_rate or not rate.regular):
                self._frames = sample(self._frames, frame_rate, lambda: self._end - self._period / 2)
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
        self.close()

    def close(self) -> None:
        """Close the file; frames can be read no more."""
        with self._reading:  # another thread may be in the middle of a frame
            self._closed = True
            self._container.close()

    @property
    def end(self) -> float:
        """When the last picture is no longer shown (s), on the clock of `timed`; known once all frames were read."""
        return self._end

    def __iter__(self) -> Iterator[np.ndarray]:
        for image, _ in self.timed():
            yield image

    def timed(self) -> Iterator[tuple[np.ndarray, float]]:
        """Yield the frames, each with its time, at the ticks of the clock if there is one.

        Seconds on the file's own clock; of a stretch, since its first frame. A picture that is shown at several ticks
        is the same array.
        """
        shown: VideoFrame | None = None
        image = np.empty(0, np.uint8)
        while True:
            with self._reading:
                if self._closed:  # FFmpeg would end the process
                    raise ValueError(f"{self._path}: its video is closed, no more frames can be read")
                entry = next(self._frames, None)
            if entry is None:
                return
            frame, seconds = entry
            if frame is not shown:
                self._check_shape(frame, seconds)
                image, shown = upright(frame, self._size), frame
            yield image, seconds

    def _check_shape(self, frame: VideoFrame, seconds: float) -> None:
        """Refuse another shape; a picture may change its size, as a call's does with the bandwidth."""
        width, height = self._coded_size
        if abs(frame.width * height / (frame.height * width) - 1) > _SAME_ASPECT:
            raise InputError(
                f"{self._path}: its frames change from {width} x {height} to {frame.width} x {frame.height} pixels at "
                f"{seconds:.1f} s, which is another shape of picture; cut it there, or pad it to one size with ffmpeg"
            )

    def _choose(self) -> VideoStream:
        chosen = choose_track(self._container, self._path, self._track, lambda: open_container(self._path))
        if chosen.note:
            self._note(chosen.note)
        return chosen.stream

    def _note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)

    def _note_slow_motion(self, fps: float) -> None:
        """Android says how many frames a second were recorded, the container how many are played."""
        with contextlib.suppress(KeyError, ValueError):
            recorded = float(self._container.metadata["com.android.capture.fps"])
            if fps * _STRETCHED < recorded < math.inf:
                self._note(
                    f"it was recorded at {recorded:g} frames a second and plays at {fps:.4g}, which is slow motion; "
                    f"--speed {fps / recorded:.3g} reads it as it was signed"
                )

    def _rate(self, stream: VideoStream, frame_rate: float | None) -> Rate:
        """Return the stated rate where it can be believed or does not matter, else that of the frames' times."""
        stated = stated_rate(stream)
        if stated is not None and (is_constant(stream, stated) if frame_rate is None else stated > frame_rate):
            return Rate(stated, True)
        times = packet_times(self._path, stream.index)
        if stated is None and len(times) < 2:
            if stream.frames != 1 and stream.average_rate is None and stream.guessed_rate is None:
                self._note(f"it does not state its frame rate; {UNKNOWN_FRAME_RATE:g} a second are assumed")
            return Rate(UNKNOWN_FRAME_RATE, True)
        rate = measure(times, stated)
        if rate.fps <= MOST_STATED:
            return rate
        assumed = UNKNOWN_FRAME_RATE
        self._note(f"its times are of {rate.fps:.4g} frames a second, which no camera has; {assumed:g} are assumed")
        self._stretch = rate.fps / assumed
        return Rate(assumed, True)

    def _enter(
        self,
        stream: VideoStream,
        first: tuple[VideoFrame, float],
        rest: Iterator[tuple[VideoFrame, float]],
        seconds: float,
    ) -> Iterator[tuple[VideoFrame, float]]:
        """Return decoded frames from a key frame before ``seconds`` on, or from the front where no seek leads there."""
        import av

        begin = own_time(self._container, first[0])
        if seconds - first[1] <= _SEEK_LEAD or begin is None or stream.time_base is None:
            return _prepend(first, rest)
        zero = begin - first[1] / self._stretch
        try:
            before = zero + (seconds - _SEEK_LEAD) / self._stretch
            self._container.seek(int(before / stream.time_base), stream=stream)
            frames = self._decode(stream, zero)
            landed = next(frames, None)
            if landed is not None and landed[1] <= seconds:
                return _prepend(landed, frames)
        except (av.FFmpegError, InputError):
            pass
        # Past the key frame, as where key frames are rare and there is no index, or nowhere: reading it all finds the
        # frames, or what is wrong with the file.
        self._container.close()
        self._container = open_container(self._path)
        return self._decode(self._choose())

    def _decode(self, stream: VideoStream, zero: float | None = None) -> Iterator[tuple[VideoFrame, float]]:
        """Yield decoded frames with their time on the file's clock, whose zero after a seek is ``zero``."""
        import av

        flags = av.format.Flags(self._container.format.flags)
        clock: FileClock | None = None
        packets = Packets(self._container, stream)
        num_frames, seconds = 0, 0.0
        before_it: float | None = None
        try:
            for frame in progressive(packets):
                time = own_time(self._container, frame)
                if clock is None:
                    origin = file_origin(self._container, stream, frame) if zero is None else zero
                    spliced = bool(flags & av.format.Flags.ts_discont)
                    clock = FileClock(origin, spliced, self._period, self._stretch)
                    self.zero = origin if origin is not None else time or 0.0
                if time is None:
                    time = (origin or 0.0) if before_it is None else before_it + self._period / self._stretch
                before_it = time
                before, seconds = seconds, clock.seconds(time)
                num_frames += 1
                self._end = seconds + self._last_shown(frame, seconds - before if num_frames > 1 else 0.0)
                yield frame, seconds
        except (av.FFmpegError, OSError) as error:
            raise self._cut_off(num_frames if zero is None else None, seconds) from error
        if packets.lost and not num_frames and zero is None:
            raise self._cut_off(0, 0.0)
        if packets.broken_at_the_end or is_cut_off(self._path, self._container.format.name):
            raise self._cut_off(num_frames if zero is None else None, seconds)
        if packets.lost:
            self._note(f"{packets.lost} damaged packets in it are left out, with their pictures")
        if clock is not None and clock.was_set:
            self._note("its clock is set anew in the middle; the parts are read one after the other")
        stated = self._stated_duration(stream) if num_frames and states_duration(self._container) else None
        if stated is not None and self._end < stated - _DURATION_SLACK:
            self._note(f"its header says {stated:.1f} s, its pictures end at {self._end:.1f} s")

    def _stated_duration(self, stream: VideoStream) -> float | None:
        stated = stated_duration(self._container, stream)
        return stated and stated * self._stretch

    def _last_shown(self, frame: VideoFrame, gap: float) -> float:
        """For how long a picture would be shown if it were the last one (s).

        MP4 says for every picture; elsewhere it is as long as the one before, where that is not as the rate says.
        """
        if "mp4" in self._container.format.name and frame.duration and frame.time_base:
            stated = min(float(frame.duration * frame.time_base), max(_LAST_HELD, self._period))
            return max(stated, min(gap, self._period))
        if gap > INSTANT and not 0.5 < gap / self._period < 1.5:
            return min(gap, _LAST_HELD)
        return self._period

    def _cut(
        self, frames: Iterator[tuple[VideoFrame, float]], start: float, end: float
    ) -> Iterator[tuple[VideoFrame, float]]:
        """Yield the frames shown from ``start`` until before ``end``, their times now since the first of them.

        A picture that is held when the stretch begins is its first.
        """
        first: float | None = None
        before: tuple[VideoFrame, float] | None = None
        stop: float | None = None
        for frame, seconds in frames:
            held = before is not None and seconds - max(start, before[1]) > _HELD
            if first is None and before is not None and held and seconds > start + INSTANT:
                first = start
                yield before[0], 0.0
            if seconds >= end - INSTANT:
                stop = end if held else seconds
                break
            if seconds >= start - INSTANT:
                first = seconds if first is None else first
                yield frame, seconds - first
            before = frame, seconds
        else:
            stop = self._end
            if first is None and before is not None and stop - before[1] > _HELD and stop > start + INSTANT:
                first = start
                yield before[0], 0.0
        self._end = stop - (first or 0.0)

    def _cut_off(self, num_frames: int | None, seconds: float) -> InputError:
        if num_frames == 0:
            if is_animated_webp(self._path):
                return InputError(f"{self._path}: FFmpeg here cannot read animated WebP; convert it to a video")
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


def _prepend(
    first: tuple[VideoFrame, float], rest: Iterator[tuple[VideoFrame, float]]
) -> Iterator[tuple[VideoFrame, float]]:
    yield first
    yield from rest
