"""Any video, or its frames in a directory, is read frame by frame, upright and in time; all else is one clear line."""

from __future__ import annotations

import itertools
import tracemalloc
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from signet_runtime.errors import InputError
from signet_runtime.sources.frames import FrameDirectory
from signet_runtime.sources.prefetch import prefetch
from signet_runtime.sources.video import Video

SIZE = (64, 48)


def frame_image(index: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    """A red corner at the top left, and the frame's number as eight black or white cells at the bottom."""
    image = np.full((size[1], size[0], 3), 128, np.uint8)
    image[: size[1] // 3, : size[0] // 3] = (255, 0, 0)
    bits = [255 * (index >> bit & 1) for bit in range(8)]
    image[-size[1] // 3 :] = np.repeat(bits, size[0] // 8)[None, :, None]
    return image


def write_video(
    path: Path,
    frames: int = 30,
    rate: int = 30,
    size: tuple[int, int] = SIZE,
    *,
    codec: str = "libx264",
    times_ms: list[int] | None = None,
    rotation: int | None = None,
    options: dict[str, str] | None = None,
    encoder: dict[str, str] | None = None,
) -> Path:
    with av.open(str(path), "w", options=options or {}) as container:
        stream = container.add_stream(codec, rate=1000 if times_ms else rate)
        stream.width, stream.height, stream.pix_fmt = (
            *size,
            {"mjpeg": "yuvj420p", "gif": "rgb8", "apng": "rgb24"}.get(codec, "yuv420p"),
        )
        if codec == "libx264":
            stream.options = {"preset": "ultrafast", **(encoder or {})}
        if rotation is not None:
            stream.set_display_rotation(rotation)
        for index in range(frames):
            frame = av.VideoFrame.from_ndarray(frame_image(index, size))
            if times_ms:
                frame.pts, frame.time_base = times_ms[index], Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def number_of(image: np.ndarray) -> int:
    cells = image[-8].reshape(8, -1).mean(axis=1)
    return sum(1 << bit for bit in range(8) if cells[bit] > 128)


def read(path: Path, frame_rate: float | None = None, **stretch: float | None) -> tuple[Video, list[np.ndarray]]:
    with Video(path, frame_rate, **stretch) as video:
        return video, list(video)


def truncate(path: Path, share: float) -> Path:
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    return path


def test_frames_are_rgb_in_order_with_the_files_rate_and_size(tmp_path):
    video, frames = read(write_video(tmp_path / "a.mp4"))
    assert (video.info.fps, video.info.size, video.info.num_frames) == (30, SIZE, 30)
    assert [number_of(frame) for frame in frames] == list(range(30))
    assert frames[0].dtype == np.uint8 and frames[0].shape == (48, 64, 3)
    red, green, blue = frames[0][5, 5].astype(int)
    assert red > 200 and green < 50 and blue < 50


@pytest.mark.parametrize(
    ("rotation", "corner"),
    [(0, (0, 0)), (90, (-1, 0)), (-90, (0, -1)), (180, (-1, -1))],  # display rotation is counter-clockwise
)
def test_rotation_metadata_is_applied(tmp_path, rotation, corner):
    video, frames = read(write_video(tmp_path / "a.mp4", 2, rotation=rotation))
    size = SIZE[::-1] if abs(rotation) == 90 else SIZE
    assert video.info.size == size
    assert frames[0].shape == (size[1], size[0], 3)
    red, green, _ = frames[0][corner].astype(int)
    assert red > 150 and green < 100


def test_a_faster_video_is_sampled_on_the_asked_clock(tmp_path):
    path = write_video(tmp_path / "a.mp4", 50, rate=50)
    video, frames = read(path, frame_rate=20)
    assert (video.info.fps, video.info.num_frames) == (20, 20)
    times = np.array([number_of(frame) for frame in frames]) / 50
    assert np.abs(times - np.arange(20) / 20).max() <= 0.5 / 50 + 1e-9  # nothing nearer existed


def test_a_slower_video_is_never_padded(tmp_path):
    video, frames = read(write_video(tmp_path / "a.mp4", 10, rate=10), frame_rate=25)
    assert video.info.fps == 10 and len(frames) == 10


def test_variable_frame_rate_keeps_its_timing(tmp_path):
    # A burst at 100 fps, a pause, another burst: 0-490 ms and 1500-1990 ms.
    times = [*range(0, 500, 10), *range(1500, 2000, 10)]
    path = write_video(tmp_path / "a.mkv", len(times), times_ms=times)
    video, frames = read(path, frame_rate=10)
    assert video.info.fps == 10
    assert len(frames) == pytest.approx(20, abs=1)
    shown = np.array([times[number_of(frame)] for frame in frames])
    for tick, time in enumerate(shown):
        assert abs(time - 100 * tick) == min(abs(t - 100 * tick) for t in times)
    assert len(read(path)[1]) == len(times)


def test_every_frame_comes_with_its_time(tmp_path):
    path = write_video(tmp_path / "a.mp4", 50, rate=50, encoder=FILM)
    for rate, stretch, every in ((None, {}, 1 / 50), (20, {}, 1 / 20), (10, {"start": 0.5}, 1 / 10)):
        with Video(path, rate, **stretch) as video:
            timed = list(video.timed())
        assert [seconds for _, seconds in timed] == pytest.approx([n * every for n in range(len(timed))])
    frames = write_frames(tmp_path / "frames", [f"{n}.png" for n in range(5)])
    with FrameDirectory(frames, 25) as directory:
        assert [(number_of(image), seconds) for image, seconds in directory.timed()] == [(n, n / 25) for n in range(5)]


def test_times_of_a_variable_frame_rate_are_the_files(tmp_path):
    times = [0, 40, 80, 500, 520, 1000]
    with Video(write_video(tmp_path / "a.mkv", len(times), times_ms=times)) as video:
        assert [round(1000 * seconds) for _, seconds in video.timed()] == times


def changing_size(directory: Path, *sizes: tuple[int, int]) -> Path:
    """Five frames of every size in one elementary stream, as a recorded call has them."""
    path = directory / "call.h264"
    path.write_bytes(
        b"".join(write_video(directory / f"part{n}.h264", 5, size=s).read_bytes() for n, s in enumerate(sizes))
    )
    return path


def test_a_picture_that_changes_its_size_is_brought_to_the_first_ones(tmp_path):
    video, frames = read(changing_size(tmp_path, (128, 96), (64, 48), (256, 192)))
    assert video.info.size == (128, 96)
    assert {frame.shape for frame in frames} == {(96, 128, 3)}
    assert [number_of(frame) for frame in frames] == [*range(5)] * 3


def test_a_picture_that_changes_its_shape_is_one_line(tmp_path):
    path = changing_size(tmp_path, (128, 96), (96, 128))
    with Video(path) as video, pytest.raises(InputError, match=r"from 128 x 96 to 96 x 128 pixels at 0\.") as error:
        list(video)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_frames_between_the_ticks_are_not_converted(tmp_path, monkeypatch):
    path = write_video(tmp_path / "a.mp4", 120, rate=120)
    converted: list[int] = []
    with Video(path, 10) as video:
        convert = av.VideoFrame.to_ndarray
        with monkeypatch.context() as patch:
            patch.setattr(
                "signet_runtime.sources.video.upright",
                lambda *args: converted.append(1) or convert(args[0], format="rgb24"),
            )
            assert len(list(video)) == 10
    assert len(converted) == 10


def test_a_video_may_be_closed_while_another_thread_decodes_it(tmp_path):
    path = write_video(tmp_path / "a.mp4", 60, size=(640, 480))
    for taken in range(1, 9):
        with Video(path) as video:
            images = prefetch(video, 40)
            assert [number_of(next(images)) for _ in range(taken)] == list(range(taken))
        del images  # FFmpeg would have ended the process by now


def test_a_closed_video_gives_no_more_frames(tmp_path):
    path = write_video(tmp_path / "a.mp4", 60)
    for taken in range(1, 20):
        with Video(path) as video:
            images = iter(video)
            assert [number_of(next(images)) for _ in range(taken)] == list(range(taken))
        with pytest.raises(ValueError, match="closed"):
            next(images)


def test_one_frame(tmp_path):
    for rate in (None, 10):
        video, frames = read(write_video(tmp_path / "a.mp4", 1), rate)
        assert len(frames) == 1 and video.info.num_frames == 1


def test_names_with_spaces_letters_and_colons(tmp_path):
    for name in ("two words.mp4", "Gebärde müde ♥ 手話.mp4", "file:a%03d.mp4", "-v.mp4"):
        plain = write_video(tmp_path / "plain.mp4", 2)
        assert len(read(plain.rename(tmp_path / name))[1]) == 2


def test_4k_is_read_one_frame_at_a_time(tmp_path):
    frame_bytes = 3840 * 2160 * 3
    path = write_video(tmp_path / "a.mp4", 12, size=(3840, 2160))
    tracemalloc.start()
    with Video(path) as video:
        assert video.info.size == (3840, 2160)
        count = sum(1 for _ in video)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == 12
    assert peak < 4 * frame_bytes  # numpy's share; all twelve would be twelve


def test_not_a_video(tmp_path):
    text = tmp_path / "notes.txt"
    text.write_text("dear diary\n" * 50)
    fake = tmp_path / "fake.mp4"
    fake.write_bytes(np.random.default_rng(0).bytes(5000))
    empty = tmp_path / "empty.mp4"
    empty.touch()
    for path in (text, fake, empty, tmp_path, tmp_path / "missing.mp4"):
        with pytest.raises(InputError) as error:
            Video(path)
        assert str(path) in str(error.value) and "\n" not in str(error.value)
        assert error.value.exit_code == 3


def write_sound(container: av.container.OutputContainer, stream) -> None:
    samples = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.int16), format="s16", layout="mono")
    samples.sample_rate = 8000
    container.mux(stream.encode(samples))
    container.mux(stream.encode())


def test_sound_without_a_picture(tmp_path):
    path = tmp_path / "a.wav"
    with av.open(str(path), "w") as container:
        write_sound(container, container.add_stream("pcm_s16le", rate=8000))
    with pytest.raises(InputError, match="only sound"):
        Video(path)


def test_a_video_stream_without_frames(tmp_path):
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as container:
        picture = container.add_stream("mpeg4", rate=30)
        picture.width, picture.height, picture.pix_fmt = *SIZE, "yuv420p"
        write_sound(container, container.add_stream("pcm_s16le", rate=8000))
    with pytest.raises(InputError, match="no frames"):
        Video(path)


@pytest.mark.parametrize("name", ["cut.mkv", "cut.avi", "cut.mp4"])
def test_a_file_cut_off_in_the_middle_says_where(tmp_path, name):
    options = {"movflags": "faststart"} if name.endswith("mp4") else None
    path = truncate(write_video(tmp_path / name, 90, options=options), 0.6)
    with Video(path) as video, pytest.raises(InputError, match=r"after \d+ frames \(\d\.\d s\)") as error:
        for _ in video:
            pass
    assert "\n" not in str(error.value)


def test_a_file_cut_off_before_its_index(tmp_path):
    with pytest.raises(InputError, match="not a video, or a damaged one"):
        Video(truncate(write_video(tmp_path / "a.mp4", 90), 0.6))


def test_whole_files_of_every_container_pass_the_length_check(tmp_path):
    for name, codec in (
        ("a.mkv", "mpeg4"),
        ("a.webm", "libvpx"),
        ("a.avi", "mpeg4"),
        ("a.mp4", "libx264"),
        ("a.mov", "mpeg4"),
        ("a.ts", "mpeg2video"),
    ):
        assert len(read(write_video(tmp_path / name, 45, codec=codec))[1]) == 45


def test_the_real_recordings_are_read_whole(shared_data):
    video, frames = read(shared_data / "lis_news_0.mp4")
    assert (video.info.fps, video.info.size, len(frames)) == (50, (720, 850), 126)
    assert len(read(shared_data / "lis_news_0.mp4", frame_rate=25)[1]) == 63


def numbers(path: Path, frame_rate: float | None = None, **stretch: float | None) -> list[int]:
    return [number_of(frame) for frame in read(path, frame_rate, **stretch)[1]]


# Key frames every 30 frames, B-frames between: what cameras, editors and video sites write.
FILM = {"preset": "veryfast", "g": "30", "bf": "3", "sc_threshold": "0"}


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("a.mp4", "libx264"),
        ("a.mov", "libx264"),
        ("a.mkv", "libx264"),
        ("a.ts", "libx264"),
        ("a.webm", "libvpx"),
        ("a.avi", "mpeg4"),
        ("a.ts", "mpeg2video"),
        ("a.mpg", "mpeg2video"),
    ],
)
def test_a_stretch_holds_the_frames_that_reading_everything_shows_then(tmp_path, name, codec):
    path = write_video(tmp_path / name, 100, rate=25, codec=codec, encoder=FILM)
    for first, last in ((0, 10), (29, 61), (60, 100), (99, 100)):
        assert numbers(path, start=first / 25, end=last / 25) == list(range(first, last))
    assert numbers(path, start=3.0) == list(range(75, 100))
    assert numbers(path, end=0.4) == list(range(10))
    assert numbers(path, start=2.0, end=1e9) == list(range(50, 100))  # annotations run over the end


def test_neighbouring_stretches_share_no_frame_and_lose_none(tmp_path):
    path = write_video(tmp_path / "a.mkv", 120, rate=30, encoder=FILM)  # its times are rounded to milliseconds
    cuts = [0.0, 0.5, 0.7, 1 + 1 / 3, 2.0333, 3.0, 4.0]
    parts = [numbers(path, start=start, end=end) for start, end in itertools.pairwise(cuts)]
    assert list(itertools.chain(*parts)) == list(range(120))


@pytest.mark.parametrize(("name", "codec"), [("a.mp4", "libx264"), ("a.mpg", "mpeg2video")])
def test_only_the_neighbourhood_of_a_stretch_is_decoded(tmp_path, monkeypatch, name, codec):
    path = write_video(tmp_path / name, 500, rate=25, codec=codec, encoder=FILM)
    decoded = []
    decode = Video._decode

    def counting(self, *arguments):
        for frame in decode(self, *arguments):
            decoded.append(frame)
            yield frame

    monkeypatch.setattr(Video, "_decode", counting)
    for first in (300, 310, 359, 360, 361):  # every 30th and every 12th are key frames
        decoded.clear()
        assert numbers(path, start=first / 25, end=first / 25 + 1) == [n % 256 for n in range(first, first + 25)]
        assert len(decoded) < 120


def test_the_clock_of_a_stretch_starts_with_it(tmp_path):
    path = write_video(tmp_path / "a.mp4", 150, rate=50, encoder=FILM)
    assert numbers(path, 10, start=1.1, end=2.1) == list(range(55, 105, 5))
    for rate, start, end, count in ((None, 1.1, None, 95), (10, 1.1, 2.1, 10), (10, None, 9, 30)):
        assert read(path, rate, start=start, end=end)[0].info.num_frames == count


def test_a_stretch_that_is_none_or_beyond_the_end(tmp_path):
    path = write_video(tmp_path / "a.mp4", 60, rate=30)
    for start, end in ((-1, None), (2, 1), (1, 1), (float("nan"), 1), (0, float("nan")), (float("inf"), None)):
        with pytest.raises(InputError, match="no stretch"):
            Video(path, start=start, end=end)
    for start, end in ((2.0, None), (70, 80)):
        with pytest.raises(InputError, match=f"no frames from {start:g}.*it is 2.0 s long") as error:
            Video(path, start=start, end=end)
        assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_damage_matters_where_it_is_read(tmp_path):
    path = write_video(tmp_path / "a.mp4", 250, rate=25, options={"movflags": "faststart"}, encoder=FILM)
    truncate(path, 0.8)
    assert numbers(path, start=1.2, end=2.2) == list(range(30, 55))
    for start, end in ((2.0, 9.0), (9.0, 10.0)):
        with pytest.raises(InputError, match="cut off or damaged"):
            read(path, start=start, end=end)


def write_frames(directory: Path, names: list[str], size: tuple[int, int] = SIZE) -> Path:
    """One image for each name, with its position in the list as its number."""
    directory.mkdir(exist_ok=True)
    codecs = {"png": ("png", "rgb24"), "jpg": ("mjpeg", "yuvj444p"), "bmp": ("bmp", "bgr24"), "tif": ("tiff", "rgb24")}
    for index, name in enumerate(names):
        codec, pixels = codecs[name.split(".")[-1]]
        with av.open(str(directory / name), "w", format="image2", options={"update": "1"}) as container:
            stream = container.add_stream(codec, rate=1)
            stream.width, stream.height, stream.pix_fmt = *size, pixels
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame_image(index, size))))
            container.mux(stream.encode())
    return directory


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "tif"])
def test_a_directory_of_frames_reads_like_their_video(tmp_path, suffix):
    directory = write_frames(tmp_path / "Zwei Hände", [f"images{n:04}.{suffix}" for n in range(1, 21)])
    (directory / "notes.txt").write_text("not an image")
    with FrameDirectory(directory, 25) as frames:
        assert (frames.info.fps, frames.info.size, frames.info.num_frames) == (25, SIZE, 20)
        images = list(frames)
    assert [number_of(image) for image in images] == list(range(20))
    assert images[0].dtype == np.uint8 and images[0].shape == (48, 64, 3)
    red, green, blue = images[0][5, 5].astype(int)
    assert red > 200 and green < 50 and blue < 50


def test_frames_are_in_the_order_of_their_numbers(tmp_path):
    names = [f"frame{n}.png" for n in (1, 2, 9, 10, 11, 100)]
    assert [number_of(image) for image in FrameDirectory(write_frames(tmp_path / "a", names), 25)] == list(range(6))
    names = ["take1_9.png", "take1_10.png", "take2_1.png", "take10_1.png"]
    assert [number_of(image) for image in FrameDirectory(write_frames(tmp_path / "b", names), 25)] == list(range(4))


def test_a_directory_and_a_video_agree_on_stretch_and_clock(tmp_path):
    video = write_video(tmp_path / "a.mp4", 60, rate=30)
    directory = write_frames(tmp_path / "a", [f"{n:03}.png" for n in range(60)])
    for rate, stretch in ((None, {"start": 0.5, "end": 1.1}), (10, {}), (7, {"start": 0.4}), (60, {"end": 0.1})):
        with FrameDirectory(directory, 30, rate, **stretch) as frames:
            assert frames.info.fps == (rate if rate and rate < 30 else 30)
            found = [number_of(image) for image in frames]
            assert len(found) == frames.info.num_frames
        assert found == numbers(video, rate, **stretch)


def test_directories_that_are_no_recording(tmp_path):
    directory = write_frames(tmp_path / "a", ["1.png", "2.png", "3.png"])
    for fps in (None, 0, float("nan"), float("inf")):
        with pytest.raises(InputError, match="needs its frame rate"):
            FrameDirectory(directory, fps)
    with pytest.raises(InputError, match=r"no frames from 1 s on; it is 0\.1 s long"):
        FrameDirectory(directory, 25, start=1)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no images"):
        FrameDirectory(tmp_path / "empty", 25)
    with pytest.raises(InputError, match="missing"):
        FrameDirectory(tmp_path / "missing", 25)


def test_a_frame_that_is_damaged_or_of_another_size_is_named(tmp_path):
    directory = write_frames(tmp_path / "a", ["1.png", "2.png", "3.png"])
    truncate(directory / "2.png", 0.5)
    with pytest.raises(InputError, match=r"2\.png"):
        list(FrameDirectory(directory, 25))
    write_frames(directory, ["1.png", "2.png"])
    write_frames(directory, ["3.png"], (32, 32))
    with pytest.raises(InputError, match=r"3\.png: \(32, 32\) pixels"):
        list(FrameDirectory(directory, 25))
