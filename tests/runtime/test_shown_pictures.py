"""Pictures are as a player shows them: turned, mirrored, in their aspect, without a comb, on a screen's brightness."""

from __future__ import annotations

import struct
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from test_recordings import times_of
from test_video import SIZE, frame_image, read, write_video

Turn = Callable[[np.ndarray], np.ndarray]
ORIENTATIONS: dict[tuple[int, int, int, int], Turn] = {
    (1, 0, 0, 1): lambda i: i,
    (-1, 0, 0, 1): lambda i: i[:, ::-1],
    (1, 0, 0, -1): lambda i: i[::-1],
    (-1, 0, 0, -1): lambda i: i[::-1, ::-1],
    (0, 1, 1, 0): lambda i: i.transpose(1, 0, 2),
    (0, 1, -1, 0): lambda i: np.rot90(i, -1),
    (0, -1, 1, 0): lambda i: np.rot90(i),
    (0, -1, -1, 0): lambda i: i.transpose(1, 0, 2)[::-1, ::-1],
}


@pytest.mark.parametrize("suffix", ["mp4", "mov"])
@pytest.mark.parametrize("matrix", ORIENTATIONS)
def test_the_whole_display_matrix_counts(tmp_path, suffix, matrix):
    path = write_video(tmp_path / f"a.{suffix}", 2)
    plain = read(path)[1][1]
    content = bytearray(path.read_bytes())
    at = content.index(b"tkhd") + 44
    a, b, c, d = (value << 16 for value in matrix)
    struct.pack_into(">9i", content, at, a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(content)
    video, frames = read(path)
    turned = ORIENTATIONS[matrix](plain)
    np.testing.assert_array_equal(frames[1], turned)
    assert video.info.size == turned.shape[1::-1]


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts", "avi"])
def test_pixels_that_are_not_square_are_made_so(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4" if suffix != "ts" else "mpeg2video", rate=25)
        stream.width, stream.height, stream.pix_fmt = *SIZE, "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(4, 3)
        for n in range(5):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame_image(n))))
        container.mux(stream.encode())
    with av.open(str(path)) as container:
        aspect = container.streams.video[0].sample_aspect_ratio
    video, frames = read(path)
    assert video.info.size == (round(64 * aspect), 48) and aspect > 1.2
    assert frames[0].shape == (48, video.info.size[0], 3) and len(frames) == 5


@pytest.mark.parametrize("suffix", ["ts", "mpg", "mkv"])
def test_interlaced_pictures_lose_their_comb(tmp_path, suffix):
    def comb(images: list[np.ndarray]) -> float:
        lines = np.stack(images[2:-2]).astype(int)[..., 1]
        return float(np.abs(lines[:, 1:-1] - (lines[:, :-2] + lines[:, 2:]) / 2).mean())

    measured = {}
    for flags in ("", "+ildct+ilme"):
        path = tmp_path / f"{len(flags)}.{suffix}"
        with av.open(str(path), "w") as container:
            stream = container.add_stream("mpeg2video", rate=25, options={"flags": flags} if flags else {})
            stream.width, stream.height, stream.pix_fmt, stream.bit_rate = 128, 96, "yuv420p", 4_000_000
            for n in range(20):
                picture = np.full((96, 128, 3), 30, np.uint8)
                for field in range(2):  # a bar that moves between the fields
                    x = 4 + 5 * n + 3 * field
                    picture[field::2, x : x + 20] = 220
                frame = av.VideoFrame.from_ndarray(picture).reformat(format="yuv420p")
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
        images = read(path)[1]
        assert len(images) == 20 and len(times_of(path, 5)) == 4
        measured[flags] = comb(images)
    assert measured["+ildct+ilme"] < 0.6 * measured[""]


def flat(path: Path, codec: str, pixels: str, planes: list[int], **colours: int) -> np.ndarray:
    """The colour at which a picture of even planes is shown."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = *SIZE, pixels
        for name, value in colours.items():
            setattr(stream.codec_context, name, value)
        frame = av.VideoFrame(*SIZE, pixels)
        for plane, value in zip(frame.planes, planes, strict=True):
            deep = value > 255
            raw = struct.pack("<H", value) if deep else bytes([value])
            plane.update((raw * plane.buffer_size)[: plane.buffer_size])
        for name, value in colours.items():
            setattr(frame, name, value)
        for n in range(3):
            frame.pts, frame.time_base = n, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return read(path)[1][1][24, 32].astype(int)


@pytest.mark.parametrize("suffix", ["mkv", "mp4"])
def test_light_beyond_a_screens_is_brought_down_to_it(tmp_path, suffix):
    codec = "ffv1" if suffix == "mkv" else "libx265"
    if codec not in av.codecs_available:
        pytest.skip("no encoder")
    # 203 nits, a screen's white, is 58% of the PQ signal; 100 nits are 51%, 1000 nits 75%.
    shown = {}
    for percent in (51, 58, 75):
        planes = [64 + round(876 * percent / 100), 512, 512]
        hdr = {"color_trc": 16, "color_primaries": 9, "colorspace": 9}
        shown[percent] = flat(tmp_path / f"{percent}.{suffix}", codec, "yuv420p10le", planes, **hdr)
    assert np.ptp(shown[58]) < 6
    assert 150 < shown[51].mean() < shown[58].mean() < shown[75].mean()
    assert shown[58].mean() > 200 and shown[75].mean() > 240
    plain = flat(tmp_path / f"plain.{suffix}", codec, "yuv420p10le", [64 + round(876 * 0.51), 512, 512])
    assert plain.mean() < 140  # the same numbers, of a screen


@pytest.mark.parametrize(("suffix", "codec"), [("mkv", "ffv1"), ("avi", "ffv1")])
def test_full_and_limited_range_show_the_same_white(tmp_path, suffix, codec):
    full = flat(tmp_path / f"full.{suffix}", "mjpeg", "yuvj420p", [255, 128, 128])
    limited = flat(tmp_path / f"limited.{suffix}", codec, "yuv420p", [235, 128, 128])
    assert (full > 250).all() and (limited > 250).all()


@pytest.mark.parametrize(("suffix", "codec", "pixels"), [("mkv", "ffv1", "bgra"), ("mov", "qtrle", "argb")])
def test_what_is_transparent_is_black(tmp_path, suffix, codec, pixels):
    colours = np.zeros((SIZE[1], SIZE[0], 4), np.uint8)
    colours[...] = (250, 200, 100, 255)
    colours[:, SIZE[0] // 2 :, 3] = 0
    path = tmp_path / f"a.{suffix}"
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = *SIZE, pixels
        for _ in range(2):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(colours, format="rgba")))
        container.mux(stream.encode())
    image = read(path)[1][0]
    assert image[10, 10].tolist() == [250, 200, 100] and image[10, -10].tolist() == [0, 0, 0]


def test_the_size_at_which_webm_is_to_be_shown(tmp_path):
    path = write_video(tmp_path / "a.webm", 5, rate=25, codec="libvpx")
    assert read(path)[0].info.size == (64, 48)
    # In place of how long a picture takes (DefaultDuration): DisplayWidth 128 and DisplayHeight 48.
    coded, shown = "e086b08140ba8130", "e08eb08140ba813054b0818054ba8130"
    header, content = bytes.fromhex("23e3838402625a00" + coded), path.read_bytes()
    assert content.count(header) == 1
    path.write_bytes(content.replace(header, bytes.fromhex(shown)))
    video, frames = read(path)
    assert video.info.size == (128, 48) and [frame.shape for frame in frames] == [(48, 128, 3)] * 5
