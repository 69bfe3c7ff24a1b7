"""Which of several video tracks is the recording: the default one, then the one with most pictures, never a cover."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from signet_runtime.errors import InputError

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.stream import VideoStream

# Packets that are looked at, of all tracks together, where a file does not say how many pictures each has.
_LOOK_AT = 2000


class Track(NamedTuple):
    """A video track, and what is to be said where it was chosen among several."""

    stream: VideoStream
    note: str | None


def choose_track(
    container: InputContainer,
    name: Path | str,
    wanted: int | None = None,
    reopen: Callable[[], InputContainer] | None = None,
) -> Track:
    """Return the track that holds the recording.

    Args:
        name: what messages call it.
        wanted: its number among the video tracks, from 1; None chooses.
        reopen: opens the file again, to count pictures where it does not state them; None where that cannot be.

    Raises:
        InputError: there is none, none of that number, or FFmpeg has no decoder for it.
    """
    import av

    kinds = av.stream.Disposition
    # Music files carry their cover as a video stream of one picture.
    covers = kinds.attached_pic | kinds.timed_thumbnails | kinds.still_image
    streams = [stream for stream in container.streams.video if not stream.disposition & covers]
    if not streams:
        what = "only sound" if container.streams.audio else "no picture"
        raise InputError(f"{name}: {what} in it, no video")
    if wanted is not None:
        if not 1 <= wanted <= len(streams):
            raise InputError(f"{name}: no video track {wanted}; it has {len(streams)}")
        chosen, note = streams[wanted - 1], None
    elif len(streams) == 1:
        chosen, note = streams[0], None
    else:
        chosen = _best(streams, reopen)
        note = f"track {streams.index(chosen) + 1} of {len(streams)} video tracks is read; --track N reads another"
    if chosen.codec_context is None:
        raise InputError(f"{name}: its video codec is not supported; convert it with ffmpeg")
    chosen.thread_type = "AUTO"
    return Track(chosen, note)


def _best(streams: list[VideoStream], reopen: Callable[[], InputContainer] | None) -> VideoStream:
    import av

    pictures = [_stated_pictures(stream) for stream in streams]
    if None in pictures and reopen is not None:
        counted = _count(reopen)
        pictures = [counted.get(stream.index, 0) for stream in streams]
    most = max(count or 0 for count in pictures)

    def rank(index: int) -> tuple[bool, bool, bool, int, int, int]:
        stream, count = streams[index], pictures[index] or 0
        readable = stream.codec_context is not None
        pixels = stream.codec_context.width * stream.codec_context.height if readable else 0
        default = bool(stream.disposition & av.stream.Disposition.default)
        return (readable, count > 1 or most <= 1, default, count, pixels, -index)

    return streams[max(range(len(streams)), key=rank)]


def _stated_pictures(stream: VideoStream) -> int | None:
    return stream.frames or next((int(n) for k, n in stream.metadata.items() if _counts(k, n)), None)


def _counts(key: str, value: str) -> bool:
    return key.upper().startswith("NUMBER_OF_FRAMES") and value.isdecimal() and len(value) < 10


def _count(reopen: Callable[[], InputContainer]) -> dict[int, int]:
    """Return how many packets each video track has in the first of the file."""
    import av

    counted: dict[int, int] = {}
    with reopen() as container:
        try:
            for seen, packet in enumerate(container.demux(video=tuple(range(len(container.streams.video)))), 1):
                if packet.size:
                    counted[packet.stream_index] = counted.get(packet.stream_index, 0) + 1
                if seen >= _LOOK_AT:
                    break
        except (av.FFmpegError, OSError):
            pass  # what cannot be read is found where it is read in earnest
    return counted
