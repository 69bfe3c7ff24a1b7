"""The video itself: read once more, drawn on picture by picture, and written with its own times and its sound."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from signet_runtime.errors import EngineError, OutputError
from signet_runtime.files import whole_file
from signet_runtime.installation import how_to_install
from signet_runtime.overlay.drawing import Sketch
from signet_runtime.overlay.track import PoseTrack
from signet_runtime.sources.container import open_container, reason
from signet_runtime.sources.prefetch import prefetch
from signet_runtime.sources.video import Video
from signet_runtime.translation import Translation

if TYPE_CHECKING:
    from av.container import InputContainer, OutputContainer
    from av.packet import Packet

SUFFIXES = (".mp4", ".mov", ".mkv")

_CLOCK = Fraction(1, 90_000)
_AHEAD = 4  # pictures that are decoded ahead
_BT709 = 1  # ITU-T H.273, of primaries, transfer and matrix alike

# Sound that players take in an MP4; FFmpeg would write more.
_IN_MP4 = {"aac", "ac3", "alac", "eac3", "flac", "mp3", "opus"}

# B-frames and a long look ahead would hold so many pictures more.
_ENCODER = {"preset": "veryfast", "crf": "20", "bf": "0", "rc-lookahead": "10"}


def check_overlay() -> None:
    """Know before minutes of work that nothing can be drawn.

    Raises:
        EngineError: Pillow is not installed, or PyAV has no encoder.
    """
    import av

    try:
        import PIL  # noqa: F401
    except ImportError as error:
        raise EngineError(f"--overlay draws with Pillow ({error}); {how_to_install('edge')}") from error
    if "libx264" not in av.codecs_available:
        raise EngineError("--overlay writes H.264, and this PyAV has no libx264; install PyAV's own wheel")


def write_overlay(
    source: Path,
    target: Path,
    poses: PoseTrack,
    sentences: Sequence[Translation],
    *,
    track: int | None = None,
    progress: Callable[[int, int | None], None] | None = None,
) -> list[str]:
    """Write a video with what was seen and said drawn on it: upright, with square pixels, otherwise as it was.

    Its pictures are shown when they were shown, its sound is copied, or encoded as AAC where the container does not
    take it as it is. H.264 has even sides: of an odd one the last row or column is repeated.

    Args:
        source: the video that was read.
        target: .mp4, .mov or .mkv; it is there whole or not at all.
        poses: of the whole video.
        sentences: with their times in the video; where two overlap, the later one is shown.
        track: which of its video tracks was read.
        progress: called with the number of frames written and of all, None if unknown.

    Returns:
        What is to be noted.

    Raises:
        InputError: the video cannot be read any more.
        OutputError: it cannot be written.
    """
    import av

    notes: list[str] = []
    with whole_file(target) as temporary, ExitStack() as stack:
        video = stack.enter_context(Video(source, track=track))
        sketch = Sketch(video.info.size)
        try:
            with _opened(temporary) as out:
                pictures = _Pictures(out, video)
                sound = stack.enter_context(closing(_Sound(out, source, video, notes)))
                done = 0
                shown = _Shown(sentences)
                with closing(prefetch(video.timed(), _AHEAD)) as frames:
                    for image, seconds in frames:
                        sound.until(seconds)
                        pictures.add(sketch.draw(image, *poses.at(seconds), shown.at(seconds)), seconds)
                        done += 1
                        if progress is not None:
                            progress(done, video.info.num_frames)
                pictures.finish(video.end)
                sound.until(None)
        except av.FFmpegError as error:
            problem = f"cannot be written ({reason(error)}); free space or choose another place"
            raise OutputError(f"{target}: {problem}") from error
    if sketch.missing:
        letters = "".join(sorted(sketch.missing))
        notes.append(f"no font here has the letters {letters}; SIGNET_FONT=FILE names one for --overlay")
    return notes


@contextmanager
def _opened(path: Path) -> Iterator[OutputContainer]:
    """Open what is written, and finish it; where the block fails its reason is what counts, and not what follows."""
    import av

    out = av.open(str(path), "w")
    try:
        yield out
    except BaseException:
        with suppress(av.FFmpegError, OSError):
            out.close()
        raise
    out.close()


class _Shown:
    """Which sentence is shown at a time, times being asked for in their order."""

    def __init__(self, sentences: Sequence[Translation]) -> None:
        self._sentences, self._next = sentences, 0

    def at(self, seconds: float) -> Translation | None:
        while self._next < len(self._sentences) and self._sentences[self._next].start <= seconds + 1e-6:
            self._next += 1
        if self._next == 0:
            return None
        latest = self._sentences[self._next - 1]
        return latest if seconds < latest.end else None


class _Pictures:
    """The video stream; a picture is encoded when it is known for how long it is shown."""

    def __init__(self, out: OutputContainer, video: Video) -> None:
        rate = Fraction(video.info.fps).limit_denominator(10_000)
        stream: Any = out.add_stream("libx264", rate=rate, options=_ENCODER)
        width, height = video.info.size
        self._size = width + width % 2, height + height % 2
        stream.width, stream.height, stream.pix_fmt = *self._size, "yuv420p"
        context = stream.codec_context
        context.time_base = _CLOCK
        context.color_primaries = context.color_trc = context.colorspace = _BT709
        self._out, self._stream = out, stream
        self._held: tuple[np.ndarray, int] | None = None
        self._durations: dict[int, int] = {}
        self._last = -1

    def add(self, image: np.ndarray, seconds: float) -> None:
        tick = max(round(seconds / _CLOCK), self._last + 1)
        if self._held is not None:
            self._encode(*self._held, tick)
        self._held, self._last = (image, tick), tick

    def finish(self, end: float) -> None:
        if self._held is not None:
            self._encode(*self._held, max(round(end / _CLOCK), self._last + 1))
        self._mux(self._stream.encode(None))

    def _encode(self, image: np.ndarray, tick: int, until: int) -> None:
        from av import VideoFrame
        from av.video.reformatter import Colorspace

        height, width = image.shape[:2]
        if (width, height) != self._size:
            image = np.pad(image, ((0, self._size[1] - height), (0, self._size[0] - width), (0, 0)), "edge")
        frame = VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
        frame = frame.reformat(format="yuv420p", dst_colorspace=Colorspace.ITU709)
        frame.pts, frame.time_base = tick, _CLOCK
        self._durations[tick] = until - tick
        self._mux(self._stream.encode(frame))

    def _mux(self, packets: list[Packet]) -> None:
        for packet in packets:
            if packet.pts is not None and packet.time_base is not None:
                tick = round(packet.pts * packet.time_base / _CLOCK)
                duration = self._durations.pop(tick, None)
                if duration is not None:
                    packet.duration = round(duration * _CLOCK / packet.time_base)
            self._out.mux(packet)


class _Sound:
    """The audio streams of a file, moved to the clock of its pictures."""

    def __init__(self, out: OutputContainer, source: Path, video: Video, notes: list[str]) -> None:
        self._out, self._zero, self._notes = out, video.zero, notes
        self._container: InputContainer = open_container(source)
        self._packets: Iterator[Packet] = iter(())
        self._ready: Packet | None = None
        self._ways: dict[int, Callable[[Packet | None], list[Packet]]] = {}
        for stream in self._container.streams.audio:
            if stream.codec_context is None:
                notes.append("a sound track that cannot be read is left out of the overlay")
                continue
            name = stream.codec_context.name
            if name.removesuffix("float") in (_IN_MP4 if "mp4" in out.format.name else out.supported_codecs):
                self._ways[stream.index] = _copied(out.add_stream_from_template(stream))
            else:
                self._ways[stream.index] = _as_aac(out, stream)
                notes.append(f"the sound is {name}, which the overlay's container does not take; it is encoded as AAC")
        if self._ways:
            self._packets = self._container.demux([self._container.streams[index] for index in self._ways])

    def until(self, seconds: float | None) -> None:
        """Write what is heard before a time; None: all that is left."""
        while True:
            packet = self._ready or self._next()
            self._ready = None
            if packet is None:
                break
            if packet.pts is None or packet.time_base is None:  # what ends a stream
                continue
            if seconds is not None and float(packet.pts * packet.time_base) - self._zero > seconds:
                self._ready = packet
                return
            offset = round(self._zero / packet.time_base)
            packet.pts -= offset
            if packet.dts is not None:
                packet.dts -= offset
            for written in self._ways[packet.stream_index](packet):
                self._out.mux(written)
        ended = () if seconds is not None else self._ways.values()
        for way in ended:
            for written in way(None):
                self._out.mux(written)

    def _next(self) -> Packet | None:
        import av

        try:
            return next(self._packets, None)
        except av.FFmpegError as error:
            self._notes.append(f"the sound of the overlay breaks off ({reason(error)})")
            self._packets = iter(())
            return None

    def close(self) -> None:
        self._container.close()


def _copied(stream: Any) -> Callable[[Packet | None], list[Packet]]:
    def copy(packet: Packet | None) -> list[Packet]:
        if packet is None:
            return []
        packet.stream = stream
        return [packet]

    return copy


def _as_aac(out: OutputContainer, source: Any) -> Callable[[Packet | None], list[Packet]]:
    from av import AudioResampler

    rate, layout = source.codec_context.sample_rate, source.codec_context.layout.name
    if layout.endswith("channels"):  # it does not say which ones
        layout = "mono" if source.codec_context.layout.nb_channels == 1 else "stereo"
    stream: Any = out.add_stream("aac", rate=rate, layout=layout)
    resampler = AudioResampler(format="fltp", layout=layout, rate=rate)

    def encode(packet: Packet | None) -> list[Packet]:
        frames = [*source.codec_context.decode(packet), *([None] if packet is None else [])]  # None ends them
        parts = [part for frame in frames for part in resampler.resample(frame)]
        return [done for part in [*parts, *([None] if packet is None else [])] for done in stream.encode(part)]

    return encode
