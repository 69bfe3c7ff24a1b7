"""What FFmpeg says of a file: its packets and frames, where its clock begins, its rate and its length."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from signet_runtime.boundary import open_regular
from signet_runtime.errors import InputError
from signet_runtime.sources.clock import INSTANT, MOST_STATED, UNKNOWN_FRAME_RATE, FileClock

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream


# What FFmpeg reads that has no pictures of its own, but says where some are, and how such a file begins.
_PLAYLISTS = {"concat", "hls", "dash", "imf", "sdp"}
_PLAYLIST_HEADS = (b"ffconcat version", b"#EXTM3U", b"v=0")


class Packets:
    """The decoded frames of a stream; a packet that is damaged costs its pictures only.

    Attributes:
        lost: packets that were damaged so far. (In MPEG streams a splice looks like damage; there it is those that
            could not be decoded.)
        broken_at_the_end: whether the last one was incomplete.
    """

    def __init__(self, container: InputContainer, stream: VideoStream) -> None:
        self._container, self._stream = container, stream
        self.lost = 0
        self.broken_at_the_end = False

    def __iter__(self) -> Iterator[VideoFrame]:
        import av

        may_end_anywhere = "mpeg" in self._container.format.name
        for packet in self._container.demux(self._stream):
            if packet.size:
                self.broken_at_the_end = packet.is_corrupt and not may_end_anywhere
                self.lost += self.broken_at_the_end
            try:
                yield from packet.decode()
            except av.error.InvalidDataError:
                self.lost += 1


def open_container(path: Path) -> InputContainer:
    import av

    if path.is_dir():
        raise InputError(f"{path}: is a directory, not a video file")
    if not path.exists():
        raise InputError(f"{path}: no such file")
    with open_regular(path) as file:
        if file.read(16).startswith(_PLAYLIST_HEADS):
            raise _playlist(path)
    try:
        # An explicit protocol, or FFmpeg would take what stands before a colon in a name for one.
        container = av.open("file:" + str(path.absolute()), mode="r", options={"protocol_whitelist": "file"})
    except (av.FFmpegError, OSError, ValueError) as error:
        raise InputError(f"{path}: not a video, or a damaged one ({reason(error)})") from error
    if not _PLAYLISTS.isdisjoint(container.format.name.split(",")):
        container.close()
        raise _playlist(path)
    if container.format.name == "tty":  # FFmpeg draws any text file as a terminal
        container.close()
        raise InputError(f"{path}: a text file, not a video")
    return container


def _playlist(path: Path) -> InputError:
    return InputError(f"{path}: a list of other files or addresses, which are not opened; give the videos themselves")


def reason(error: Exception) -> str:
    """Say in a line what is wrong by FFmpeg."""
    return (getattr(error, "strerror", None) or str(error)).splitlines()[0]


def stated_rate(stream: VideoStream) -> float | None:
    """Return the frames a second that the container states, or the stream; None where no camera has that many."""
    for rate in (stream.average_rate, stream.guessed_rate):
        if rate and rate > MOST_STATED:
            return None  # the tick of its clock
        if rate and rate > 0:
            return float(rate)
    return None


def is_constant(stream: VideoStream, stated: float) -> bool:
    """Whether the average is also the rate that FFmpeg sees in the first frames."""
    guessed = stream.guessed_rate
    return guessed is not None and abs(float(guessed) / stated - 1) < 0.01


def packet_times(path: Path, index: int) -> np.ndarray:
    """Return when a stream's frames are shown, by a look at all packets without decoding any (s, ascending)."""
    import av

    times: list[float] = []
    clock = FileClock(0.0, False, 1 / UNKNOWN_FRAME_RATE)
    # What cannot be read is found where it is read in earnest.
    with open_container(path) as container, contextlib.suppress(av.FFmpegError, OSError):
        for packet in container.demux(container.streams[index]):
            if packet.size and packet.pts is not None and not packet.is_discard:
                times.append(float(packet.pts * (packet.time_base or 0)))
    return np.array([clock.seconds(time) for time in sorted(times)])


def own_time(container: InputContainer, frame: VideoFrame) -> float | None:
    """Return when a frame is shown on the clock of its file (s), None where it does not say.

    AVI knows only when frames are decoded: where they are shown in another order, what FFmpeg makes of that is wrong.
    """
    if container.format.name == "avi":
        return None if frame.dts is None or frame.time_base is None else float(frame.dts * frame.time_base)
    return frame.time


def file_origin(container: InputContainer, stream: VideoStream, first: VideoFrame) -> float | None:
    """Return where a file's clock starts, in its frames' own times (s): where its first stream does.

    What is before 0 when the pictures are not is a codec's priming, which is not played.
    """
    start = None if container.start_time is None else container.start_time / 1_000_000  # FFmpeg's clock for containers
    if stream.start_time is None or stream.time_base is None:
        return start
    own = float(stream.start_time * stream.time_base)
    if container.format.name == "avi":
        decoded = own_time(container, first)
        return None if decoded is None else decoded - max(0.0, own - (start or 0.0))
    if start is None or abs(start - own) < INSTANT:
        return own  # exactly
    return 0.0 if start < 0 <= own else start


def states_duration(container: InputContainer) -> bool:
    """Whether the format has a place for a length; of MPEG streams, which have none, FFmpeg makes one up."""
    return "mpeg" not in container.format.name


def stated_duration(container: InputContainer, stream: VideoStream) -> float | None:
    """Seconds from the clock's start to where the file says that its video ends, or None."""
    if stream.duration is not None and stream.time_base is not None:
        late = float(stream.start_time * stream.time_base) if stream.start_time is not None else 0.0
        begin = (container.start_time or 0) / 1_000_000
        return float(stream.duration * stream.time_base) + max(0.0, late - max(0.0, begin))
    # The container's duration is its longest stream's: only a lone stream can be held to it.
    if container.duration is not None and len(container.streams) == 1:
        # Of some it is where the last picture ends on the frames' own clock.
        return (container.duration - max(0, container.start_time or 0)) / 1_000_000
    return None


def is_animated_webp(path: Path) -> bool:
    with path.open("rb") as file:
        header = file.read(21)
    return header[:4] == b"RIFF" and header[8:16] == b"WEBPVP8X" and bool(header[20:] and header[20] & 2)
