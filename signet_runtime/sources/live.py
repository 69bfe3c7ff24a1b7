"""Frames as they come: a camera, a network stream, a pipe, or a file played at its own speed."""

from __future__ import annotations

import contextlib
import logging
import stat
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from signet_runtime.errors import InputError
from signet_runtime.sources.clock import UNKNOWN_FRAME_RATE, FileClock
from signet_runtime.sources.container import file_origin, own_time, reason, stated_rate
from signet_runtime.sources.picture import pixel_aspect, progressive, square_size, upright
from signet_runtime.sources.tracks import choose_track
from signet_runtime.sources.video import Video, VideoInfo

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

logger = logging.getLogger("signet_runtime")

# Seconds without a frame after which a source counts as stalled; cameras take two or three to start.
STALL = 10.0

# Frames that may wait for the pose estimator: more would only make the text later.
_WAITING = 4

# FFmpeg looks at five seconds of a stream before it gives the first frame, unless it is told not to.
_LOW_DELAY = {"flags": "low_delay", "analyzeduration": "1000000"}


class LiveFrame(NamedTuple):
    """image: uint8 RGB (H, W, 3). seconds: on the clock. arrived: by `time.perf_counter`."""

    image: np.ndarray
    seconds: float
    arrived: float


class Live:
    """The frames of a source that is still recording, on the model's clock.

    A thread of its own reads them. Where they come faster than they are taken, the oldest that wait are dropped; but a
    pipe, and a server that sends a file, are made to wait.

    Args:
        source: a camera's number ("0") or device ("/dev/video0"), a URL (rtsp://, udp://, http:// …), "-" for standard
            input or the name of a pipe, or a video file, which is played at its own speed as if it were a camera.
        frame_rate: give frames on a clock of this rate, by their own times: the first frame at or after every tick. A
            file that is evenly slower is given as it is.
        stall: seconds without a frame that end it.

    Attributes:
        info: rate of the clock, and size of the frames.
        ticked, dropped: frames of the clock so far, and those of them that were dropped.
        notes: what was chosen, a line each.
        last_arrival: when the last frame came, on the clock or between two ticks, by `time.perf_counter`.

    Raises:
        InputError: there is no such source, or it gives no frames. Iterating raises it too: when the source stalls,
            breaks off, or changes the size of its frames; all frames before it were given.
    """

    info: VideoInfo

    def __init__(self, source: str, frame_rate: float | None = None, *, stall: float = STALL) -> None:
        self.name = _name(source)
        self._source = locate(source)
        self._frame_rate, self._stall = frame_rate, stall
        self.ticked = self.dropped = 0
        self.notes: list[str] = []
        self.last_arrival = 0.0
        self._waiting: deque[LiveFrame] = deque()
        self._changed = threading.Condition()
        self._begun = self._ended = self._stopped = False
        self._error: BaseException | None = None
        self._heard = time.monotonic()
        threading.Thread(target=self._run, name="live", daemon=True).start()
        with self._changed:
            self._wait_until(lambda: self._begun or self._ended)
        if not self._begun:
            raise self._error or InputError(f"{self.name}: ended before its first frame")

    def __enter__(self) -> Live:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()
        if self.dropped:
            logger.warning("%s: %d of %d frames were left out", self.name, self.dropped, self.ticked)

    def stop(self) -> None:
        """End the recording: iterating ends after the frames that wait. From any thread, or a signal's handler."""
        # No lock, which the interrupted thread may hold; whoever waits looks again within `_wait_until`'s patience.
        self._stopped = True

    def __iter__(self) -> Iterator[LiveFrame]:
        while True:
            with self._changed:
                self._wait_until(lambda: bool(self._waiting) or self._ended or self._stopped)
                if not self._waiting:
                    if self._error is not None and not self._stopped:
                        raise self._error
                    return
                frame = self._waiting.popleft()
                self._changed.notify_all()
            yield frame

    def _wait_until(self, holds: Callable[[], bool]) -> None:
        """Wait until it holds; an error when the source is silent for too long. The lock is held."""
        since = time.monotonic()
        while not holds():
            silent = time.monotonic() - max(since, self._heard)
            if silent >= self._stall:
                self._stopped = True  # the thread may be stuck for good; if not, it ends
                raise InputError(f"{self.name}: no frame for {self._stall:g} s; it has stalled, start it again")
            self._changed.wait(min(0.1, self._stall - silent))

    # What follows runs in the thread.

    def _run(self) -> None:
        try:
            with _open(self._source, self.name) as container:
                self._read(container)
        except BaseException as error:  # whatever it is, it is the reader's
            self._error = error
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def _read(self, container: InputContainer) -> None:
        stream, note = choose_track(container, self.name)
        if note is not None:
            self.notes.append(note.partition(";")[0])  # there is no choosing another
        stream.thread_type = "SLICE"  # threads by frame would each hold one back
        of_file = self._source.kind == "file"
        stated = stated_rate(stream)
        if of_file:
            with Video(self._source.location.removeprefix("file:"), self._frame_rate) as video:
                clock = video.info.fps
        else:  # what a stream states is no reason to leave the model's clock: its pictures may come faster all the same
            clock = self._frame_rate or stated or UNKNOWN_FRAME_RATE
        sampled = self._frame_rate is not None and clock >= self._frame_rate
        aspect = pixel_aspect(stream)
        times: FileClock | None = None
        begun = last = 0.0
        size, tick = (0, 0), -1
        for frame in _frames(container, stream, self.name):
            now = time.perf_counter()
            at = own_time(container, frame)
            if times is None:
                origin = file_origin(container, stream, frame) if of_file else None
                times = FileClock(origin, not of_file, 1 / (stated or clock))
            last = times.seconds(at if at is not None else now)
            if not self._begun:
                begun, size = now - last, (frame.width, frame.height)
                tick = round(last * clock) - 1
                self._begin(upright(frame, square_size(*size, aspect)), clock)
            if of_file:
                self._sleep_until(begun + last)
            self._heard, self.last_arrival = time.monotonic(), time.perf_counter()
            if self._stopped:
                return
            if (frame.width, frame.height) != size:
                sizes = f"{size[0]}x{size[1]} to {frame.width}x{frame.height}"
                raise InputError(f"{self.name}: frames changed from {sizes} after {last:.1f} s; start again")
            due = int(last * clock + 1e-3) if sampled else round(last * clock)
            if due > tick:
                tick = due
                image = upright(frame, square_size(*size, aspect))
                self._put(LiveFrame(image, tick / clock, time.perf_counter()))
        if self._source.kind == "camera":
            raise InputError(f"{self.name}: no more frames after {last:.1f} s; is it still plugged in?")

    def _begin(self, image: np.ndarray, clock: float) -> None:
        height, width = image.shape[:2]
        self.info = VideoInfo(clock, (width, height), None)
        with self._changed:
            self._begun = True
            self._changed.notify_all()

    def _put(self, frame: LiveFrame) -> None:
        with self._changed:
            self.ticked += 1
            while self._source.waits and len(self._waiting) >= _WAITING and not self._stopped:
                self._changed.wait(0.1)
            if len(self._waiting) >= _WAITING:
                self._waiting.popleft()
                if not self.dropped:
                    logger.warning("%s: this machine is too slow for it, frames are left out", self.name)
                self.dropped += 1
            self._waiting.append(frame)
            self._changed.notify_all()

    def _sleep_until(self, due: float) -> None:
        while (left := due - time.perf_counter()) > 0 and not self._stopped:
            time.sleep(min(left, 0.1))


class Source(NamedTuple):
    """What a name stands for: where FFmpeg finds it, and by which of its input devices."""

    kind: Literal["camera", "stream", "pipe", "file"]
    location: str
    device: str | None = None

    @property
    def waits(self) -> bool:
        return self.kind == "pipe" or self.location.startswith(("http://", "https://"))


def _name(source: str) -> str:
    return "standard input" if source == "-" else f"camera {source}" if source.isdecimal() else source


def locate(source: str) -> Source:
    """Find what the name of a source stands for.

    Raises:
        InputError: nothing, here.
    """
    name = _name(source)
    if source == "-":
        return Source("pipe", "pipe:0")
    if source.isdecimal():
        if sys.platform == "darwin":
            return Source("camera", source, "avfoundation")
        if sys.platform == "win32":
            raise InputError(f"{name}: give the camera's name instead, as in --camera 'video=Integrated Camera'")
        source = f"/dev/video{source}"
        if not Path(source).exists():
            there = ", ".join(sorted(path.name for path in Path("/dev").glob("video*"))) or "none"
            raise InputError(f"{name}: there is no {source}; cameras on this machine: {there}")
    if "://" in source:
        return Source("stream", source)
    if sys.platform == "win32" and source.startswith("video="):
        return Source("camera", source, "dshow")
    try:
        mode = Path(source).stat().st_mode
    except OSError as error:
        raise InputError(f"{name}: {error.strerror or error}; give a camera's number, a URL, a pipe or -") from error
    if stat.S_ISDIR(mode):
        raise InputError(f"{name}: is a directory; give a camera's number, a URL, a pipe or -")
    if stat.S_ISCHR(mode):
        return Source("camera", source, "v4l2")
    return Source("pipe" if stat.S_ISFIFO(mode) else "file", f"file:{Path(source).absolute()}")


def _open(source: Source, name: str) -> InputContainer:
    import av

    options = {} if source.kind == "file" else dict(_LOW_DELAY)
    if source.location.startswith("rtsp"):
        options["rtsp_transport"] = "tcp"  # UDP loses packets, and with them pictures
    try:
        # Only sockets heed the timeout; the reader waits for the rest with one of its own.
        container = av.open(source.location, format=source.device, options=options, timeout=STALL)
    except (av.FFmpegError, OSError, ValueError) as error:
        raise InputError(f"{name}: cannot be opened ({reason(error)})") from error
    if container.format.name == "tty":  # FFmpeg draws any text as a terminal
        container.close()
        raise InputError(f"{name}: text, not a video")
    return container


def _frames(container: InputContainer, stream: VideoStream, name: str) -> Iterator[VideoFrame]:
    """Yield the decoded frames; a packet that was damaged on its way costs its picture only."""
    import av

    seen = 0

    def decoded() -> Iterator[VideoFrame]:
        for packet in container.demux(stream):
            with contextlib.suppress(av.error.InvalidDataError):
                yield from packet.decode()

    try:
        for frame in progressive(decoded()):
            seen += 1
            yield frame
    except (av.FFmpegError, OSError) as error:
        hint = "" if seen else "; an .mp4 cannot be piped, Matroska and MPEG-TS can"
        raise InputError(f"{name}: broke off after {seen} frames ({reason(error)}){hint}") from error
