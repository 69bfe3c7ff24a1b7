"""One clip in every container, codec and trick that can be made here: is it read as it was made, or refused?

    python -m benchmarks.recordings [--out benchmarks/results/recordings.md]

The pictures of examples/ase_music.mp4 (a word of five letters, 80 pictures in 3.2 s) are encoded anew with PyAV, and
headers are patched where no muxer writes such a file. Of each the times of the first and the last picture are compared
with those that the file was made with, and the text with the example's; where the pictures are slowed down, or fewer,
with the text of the same pictures at the same times, kept without loss in Matroska.
"""

from __future__ import annotations

import struct
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from importlib.metadata import version
from pathlib import Path
from typing import Any

import av
import click
import numpy as np
from tabulate import tabulate

from signet_runtime.errors import ExitCode, InputError, SignetError
from signet_runtime.sources.video import Video
from signet_runtime.translator import Translator

EXAMPLE = Path(__file__).parents[1] / "examples" / "ase_music.mp4"
FPS, PICTURES = 25, 80
LAST = (PICTURES - 1) / FPS
EXACT = 0.05  # of a time (s): half a picture, and containers' rounding
REFUSED = "refused"

Patch = Callable[[Path], None]


@dataclass(frozen=True)
class Recording:
    """A file to be made, and what is true of it.

    Attributes:
        trick: what is unusual about it.
        times: of its pictures (s); None: 25 a second.
        options, encoder: of the muxer and of the encoder.
        prepare: what is done to a picture before it is encoded.
        aspect: of its pixels.
        sound_from: when sound begins (s); None: there is none.
        cover: a track of a single picture before the recording.
        patch: what is done to the file afterwards.
        first, last: when its first and last picture are shown (s); refused: it must not be read.
    """

    suffix: str
    codec: str
    pixels: str = "yuv420p"
    trick: str = ""
    times: tuple[float, ...] | None = None
    options: dict[str, str] = field(default_factory=dict)
    encoder: dict[str, str] = field(default_factory=dict)
    prepare: Callable[[np.ndarray], np.ndarray] = lambda picture: picture
    aspect: Fraction = Fraction(1)
    sound_from: float | None = None
    cover: bool = False
    patch: Patch | None = None
    first: float = 0.0
    last: float = LAST
    refused: bool = False


def matrix(a: int, b: int, c: int, d: int) -> Patch:
    """Set the display matrix of an MP4."""

    def patch(path: Path) -> None:
        content = bytearray(path.read_bytes())
        values = (a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30)
        struct.pack_into(">9i", content, content.index(b"tkhd") + 44, *values)
        path.write_bytes(content)

    return patch


def edit(seconds: float) -> Patch:
    """Let an MP4's edit list end the recording early."""

    def patch(path: Path) -> None:
        content = bytearray(path.read_bytes())
        scale = struct.unpack_from(">I", content, content.index(b"mvhd") + 16)[0]
        struct.pack_into(">I", content, content.index(b"elst") + 12, int(seconds * scale))
        path.write_bytes(content)

    return patch


def promise(factor: float) -> Patch:
    """Let the header of a Matroska file state another duration."""

    def patch(path: Path) -> None:
        content = bytearray(path.read_bytes())
        at = content.index(b"\x44\x89\x88") + 3
        struct.pack_into(">d", content, at, factor * struct.unpack_from(">d", content, at)[0])
        path.write_bytes(content)

    return patch


def cut(share: float) -> Patch:
    """Break a file off."""

    def patch(path: Path) -> None:
        content = path.read_bytes()
        path.write_bytes(content[: int(share * len(content))])

    return patch


def shift(seconds: float) -> Patch:
    """Let the file's clock begin elsewhere, as in a segment of a long recording."""

    def patch(path: Path) -> None:
        original = path.rename(path.with_stem("original"))
        with av.open(str(original)) as source, av.open(str(path), "w") as container:
            stream = container.add_stream_from_template(source.streams.video[0])
            for packet in source.demux(video=0):
                if packet.size and packet.pts is not None and packet.dts is not None and packet.time_base:
                    packet.pts += int(seconds / packet.time_base)
                    packet.dts += int(seconds / packet.time_base)
                    packet.stream = stream
                    container.mux(packet)

    return patch


SLOW_FIRST = tuple(float(n) for n in range(10)) + tuple(10 + n / FPS for n in range(PICTURES - 10))
JITTER = tuple(n / FPS + (0.011 if n % 3 == 1 else 0.0) for n in range(PICTURES))
FRAGMENTS = {"movflags": "frag_keyframe+empty_moov+default_base_moof"}
HALF_WIDE = Fraction(2)


def narrow(picture: np.ndarray) -> np.ndarray:
    """Half as wide, for pixels that are twice as wide as high."""
    return picture[:, ::2]


def recordings() -> Iterator[Recording]:
    """Everything that is tried."""
    for suffix, codec in (
        *(("mp4", codec) for codec in ("libx264", "libx265", "libvpx-vp9", "libsvtav1", "mpeg4", "mpeg2video")),
        *(("mov", codec) for codec in ("libx264", "mpeg4")),
        *(
            ("mkv", codec)
            for codec in ("libx264", "libx265", "libvpx", "libvpx-vp9", "mpeg4", "mpeg2video", "mpeg1video")
        ),
        *(("webm", codec) for codec in ("libvpx", "libvpx-vp9", "libsvtav1")),
        *(("avi", codec) for codec in ("mpeg4", "libx264", "msmpeg4v2", "wmv2")),
        *(("ts", codec) for codec in ("libx264", "libx265", "mpeg2video")),
        *((suffix, "mpeg2video") for suffix in ("mpg", "vob", "m2ts", "mxf")),
        *((suffix, "libx264") for suffix in ("flv", "3gp", "m4v", "nut", "h264")),
        ("wmv", "wmv2"),
        ("asf", "msmpeg4v3"),
        ("ogv", "libtheora"),
        ("flv", "flv"),
    ):
        yield Recording(suffix, codec)
    for suffix, codec, pixels in (
        ("mkv", "ffv1", "yuv420p"),
        ("avi", "huffyuv", "yuv422p"),
        ("mkv", "utvideo", "yuv420p"),
        ("mov", "prores_ks", "yuv422p10le"),
        ("avi", "mjpeg", "yuvj420p"),
        ("mov", "qtrle", "rgb24"),
        ("y4m", "wrapped_avframe", "yuv420p"),
        ("gif", "gif", "rgb8"),
        ("apng", "apng", "rgb24"),
        ("mkv", "ffv1", "bgra"),
        ("mp4", "libx264", "yuv444p"),
    ):
        yield Recording(suffix, codec, pixels, trick=pixels)
    for suffix, codec in (("mp4", "libx264"), ("mkv", "libx264"), ("webm", "libvpx")):
        yield Recording(suffix, codec, trick="slow, then fast", times=SLOW_FIRST, last=SLOW_FIRST[-1])
        yield Recording(suffix, codec, trick="jitter on a clock of 1000 ticks", times=JITTER, last=JITTER[-1])
    for suffix, codec in (("mp4", "mpeg4"), ("mkv", "mpeg4"), ("webm", "libvpx")):
        times = tuple(4 + n / FPS for n in range(PICTURES))
        yield Recording(suffix, codec, trick="sound 4 s before", times=times, sound_from=0.0, first=4.0, last=4 + LAST)
    for suffix, codec in (("mkv", "libx264"), ("webm", "libvpx"), ("ts", "libx264"), ("mpg", "mpeg2video")):
        in_order = {"bf": "0"} if codec == "libx264" else {}
        yield Recording(suffix, codec, trick="begins at 100 s", encoder=in_order, patch=shift(100.0))
    yield Recording("ts", "mpeg2video", trick="its clock runs over", patch=shift((1 << 33) / 90_000 - 1))
    yield Recording("mp4", "libx264", trick="edit list ends it at 2 s", patch=edit(2.0), last=1.96)
    yield Recording("mp4", "libx264", trick="fragments", options=FRAGMENTS, encoder={"g": "10"})
    for suffix, codec in (("mkv", "libx264"), ("webm", "libvpx")):
        yield Recording(suffix, codec, trick="header promises twice as much", patch=promise(2))
        yield Recording(suffix, codec, trick="sizes unknown (live)", options={"live": "1"})
        yield Recording(suffix, codec, trick="cut off", patch=cut(0.6), refused=True)
        yield Recording(suffix, codec, trick="cut off, live", options={"live": "1"}, patch=cut(0.62), refused=True)
    yield Recording("mp4", "libx264", trick="cut off", options={"movflags": "faststart"}, patch=cut(0.6), refused=True)
    yield Recording("mp4", "libx264", trick="fragments, cut off", options=FRAGMENTS, patch=cut(0.62), refused=True)
    yield Recording("avi", "mpeg4", trick="cut off", patch=cut(0.6), refused=True)
    yield Recording("wmv", "wmv2", trick="cut off", patch=cut(0.6), refused=True)
    for name, turn, values in (
        ("mirrored", lambda p: p[:, ::-1], (-1, 0, 0, 1)),
        ("upside down", lambda p: p[::-1], (1, 0, 0, -1)),
        ("transposed", lambda p: p.transpose(1, 0, 2), (0, 1, 1, 0)),
        ("a quarter turn", lambda p: np.rot90(p), (0, 1, -1, 0)),
        ("half a turn", lambda p: p[::-1, ::-1], (-1, 0, 0, -1)),
    ):
        yield Recording("mp4", "libx264", trick=name, prepare=turn, patch=matrix(*values))
    for suffix, codec in (("mp4", "libx264"), ("mkv", "mpeg4"), ("ts", "mpeg2video")):
        yield Recording(suffix, codec, trick="pixels twice as wide", prepare=narrow, aspect=HALF_WIDE)
    for suffix in ("ts", "mpg"):
        yield Recording(suffix, "mpeg2video", trick="interlaced", encoder={"flags": "+ildct+ilme"})
    for suffix in ("mp4", "mkv"):
        yield Recording(suffix, "libx264", trick="a cover before it", cover=True)


def make(recording: Recording, path: Path, pictures: list[np.ndarray]) -> None:
    """Encode and mux it.

    Raises:
        av.FFmpegError, ValueError: this FFmpeg cannot.
    """
    times = recording.times or tuple(n / FPS for n in range(PICTURES))
    ticks = 1000 if recording.times else FPS
    with av.open(str(path), "w", options=recording.options) as container:
        if recording.cover:
            cover: Any = container.add_stream("mpeg4", rate=1)
            cover.width, cover.height, cover.pix_fmt = 320, 240, "yuv420p"
            cover.disposition = av.stream.Disposition(0)
        sound: Any = None
        if recording.sound_from is not None:
            sound = container.add_stream("libopus" if recording.suffix == "webm" else "aac", rate=48000)
        stream: Any = container.add_stream(recording.codec, rate=ticks)
        first = recording.prepare(pictures[0])
        stream.height, stream.width, stream.pix_fmt = first.shape[0], first.shape[1], recording.pixels
        stream.bit_rate = 4_000_000
        stream.options = recording.encoder
        stream.codec_context.sample_aspect_ratio = recording.aspect
        if recording.cover:
            container.mux(cover.encode(av.VideoFrame.from_ndarray(pictures[0]).reformat(320, 240)))
            container.mux(cover.encode())
        if sound is not None:
            for n in range(350):
                samples = av.AudioFrame.from_ndarray(np.zeros((1, 960), np.float32), format="fltp", layout="mono")
                samples.sample_rate, samples.time_base, samples.pts = 48000, Fraction(1, 48000), 960 * n
                container.mux(sound.encode(samples))
            container.mux(sound.encode())
        for picture, seconds in zip(pictures, times, strict=False):  # fewer where it ends early
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(recording.prepare(picture)))
            frame.pts, frame.time_base = round(ticks * seconds), Fraction(1, ticks)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    if recording.patch is not None:
        recording.patch(path)


def shown_at(recording: Recording) -> tuple[float, ...] | None:
    """Return when its pictures are shown, since the first of them (s); None where that is as in the example."""
    times = recording.times or tuple(n / FPS for n in range(PICTURES))
    shown = tuple(time - times[0] for time in times if time - times[0] <= recording.last - recording.first + EXACT / 2)
    plain = len(shown) == PICTURES and abs(shown[-1] - LAST) < EXACT
    return None if plain else shown


def look(recording: Recording, path: Path, translator: Translator, truth: str) -> list[str]:
    """Read it; return a row of the table, whose last cell says whether it is right."""
    row = [recording.suffix, recording.codec, recording.trick, REFUSED if recording.refused else truth]
    try:
        with Video(path) as video:
            times = [seconds for _, seconds in video.timed()]
        text = translator.translate(path).text
    except InputError:
        return [*row, REFUSED, "", "", "", "yes" if recording.refused else "NO"]
    true = f"{recording.first:.2f}–{recording.last:.2f}"
    on_time = abs(times[0] - recording.first) < EXACT and abs(times[-1] - recording.last) < EXACT
    right = "NO" if recording.refused or not on_time else "yes" if text == truth else "times; another text"
    return [*row, text, f"{times[0]:.2f}", f"{times[-1]:.2f}", "" if recording.refused else true, right]


@click.command(help=__doc__.splitlines()[0] if __doc__ else None)
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Also write the table there.")
def main(out: Path | None) -> None:
    """Print the table; exit with 1 where a time is wrong, or what must be refused is read."""
    with Video(EXAMPLE) as video:
        pictures = list(video)
    rows: list[list[str]] = []
    left_out: list[str] = []
    with tempfile.TemporaryDirectory() as directory, Translator.from_bundle(offline=True) as translator:
        texts: dict[tuple[float, ...] | None, str] = {None: translator.translate(EXAMPLE).text}
        estimator = translator.estimator.name
        for number, recording in enumerate(recordings()):
            path = Path(directory) / str(number) / f"a.{recording.suffix}"
            path.parent.mkdir()
            try:
                make(recording, path, pictures)
            except (av.FFmpegError, ValueError, SignetError) as error:
                left_out.append(f"{recording.suffix} {recording.codec} {recording.trick}: {str(error).splitlines()[0]}")
                continue
            shown = shown_at(recording)
            if shown not in texts:
                reference = path.with_name("reference.mkv")
                make(Recording("mkv", "ffv1", times=shown), reference, pictures)
                texts[shown] = translator.translate(reference).text
            rows.append(look(recording, path, translator, texts[shown]))
            path.unlink()
    headers = ["container", "codec", "trick", "truth", "text", "first", "last", "truth (s)", "right"]
    wrong = [row for row in rows if row[-1] == "NO"]
    other = [row for row in rows if row[-1].startswith("times")]
    said = [
        tabulate(rows, headers, tablefmt="github", disable_numparse=True),
        "",
        f"{len(rows)} recordings of {PICTURES} pictures. Wrong: {len(wrong)}. Right times and another text than the "
        f"same pictures have without loss: {len(other)}.",
        "",
        f"Keypoints: {estimator}, in {', '.join(f'{name} {version(name)}' for name in ('ai-edge-litert', 'av'))}.",
        "",
        *(
            f"- {suffix} {codec}, {trick}: {text}, without loss {wanted}: what the codec left of them decides."
            for suffix, codec, trick, wanted, text, *_ in other
        ),
        *(f"- Not made here: {line}" for line in left_out),
    ]
    print("\n".join(said))
    if out is not None:
        out.write_text(
            "# Recordings\n\n`python -m benchmarks.recordings`\n\n" + "\n".join(said) + "\n", encoding="utf-8"
        )
    raise SystemExit(ExitCode.FAILED if wrong else ExitCode.DONE)


if __name__ == "__main__":
    main()
