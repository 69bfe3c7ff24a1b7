"""Recordings as people have them: on their own clock, as they are shown, the right track, and whole or not."""

from __future__ import annotations

import struct
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from test_video import FILM, SIZE, frame_image, number_of, read, truncate, write_video

from signet_runtime.errors import InputError
from signet_runtime.sentences.keypoints import extract_poses
from signet_runtime.sources.live import Live
from signet_runtime.sources.video import Video

CODECS = {"mp4": "libx264", "mov": "libx264", "mkv": "libx264", "webm": "libvpx", "ts": "libx264", "mpg": "mpeg2video"}


OTHERS = {
    "wmv": "wmv2",
    "avi": "mpeg4",
    "ogv": "libvpx",
    "flv": "flv",
    "gif": "gif",
    "mxf": "mpeg2video",
    "apng": "apng",
}


class Marked:
    """An estimator that finds everybody everywhere, and in the nose the number of the frame."""

    name = "mediapipe"

    def estimate(self, frames, *, live=False):
        for image in frames:
            keypoints = np.full((133, 2), 0.5, np.float32)
            keypoints[0, 0] = number_of(image)
            yield keypoints, np.ones(133, np.float32)


def times_of(path: Path, rate: float | None = None, **stretch: float | None) -> list[tuple[int, float]]:
    with Video(path, rate, **stretch) as video:
        return [(number_of(image), round(seconds, 3)) for image, seconds in video.timed()]


def notes_of(path: Path) -> list[str]:
    with Video(path) as video:
        list(video)
    return video.notes


# A screen recording: a picture a second, then 25.
SLOW_THEN_FAST = [*range(0, 5000, 1000), *range(5000, 6000, 40)]


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "webm"])
def test_pictures_that_come_slowly_and_then_fast_keep_their_times(tmp_path, suffix):
    path = write_video(tmp_path / f"a.{suffix}", 30, times_ms=SLOW_THEN_FAST, codec=CODECS[suffix])
    timed = times_of(path, 6.25)
    assert [seconds for _, seconds in timed] == pytest.approx(np.arange(len(timed)) / 6.25, abs=1e-3)
    assert len(timed) == pytest.approx(6.0 * 6.25, abs=1)
    for number, seconds in timed:  # the nearest in time, whatever the container's average is
        nearest = min(abs(time / 1000 - seconds) for time in SLOW_THEN_FAST)
        assert abs(SLOW_THEN_FAST[number] / 1000 - seconds) == pytest.approx(nearest, abs=2e-3)


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "webm"])
def test_stored_keypoints_have_a_rate_that_follows_from_the_times(tmp_path, suffix):
    path = write_video(tmp_path / f"a.{suffix}", 30, times_ms=SLOW_THEN_FAST, codec=CODECS[suffix])
    poses = extract_poses(path, Marked())
    assert poses.fps == 25
    assert poses.duration == pytest.approx(6.0, abs=0.05)
    shown = poses.keypoints[:, 0, 0].astype(int)
    assert list(shown[[0, 12, 24, 26]]) == [0, 0, 1, 1]
    assert list(shown[-25:]) == list(range(5, 30))


@pytest.mark.parametrize("suffix", ["mkv", "webm"])
def test_the_tick_of_a_clock_is_no_rate(tmp_path, suffix):
    jitter = np.random.default_rng(0).integers(-12, 13, 80)
    times = [0, *(40 * n + int(jitter[n]) for n in range(1, 80))]
    path = write_video(tmp_path / f"a.{suffix}", 80, times_ms=times, codec=CODECS[suffix])
    poses = extract_poses(path, Marked())
    assert (poses.fps, len(poses)) == (25, 80)
    assert len(times_of(path, 6.25)) == 20
    assert len(times_of(path, 50)) == 80  # slower than the clock: none is made up


def with_sound(path: Path, sound_from: float, picture_from: float, codec: str) -> Path:
    with av.open(str(path), "w") as container:
        sound = container.add_stream("libopus" if path.suffix == ".webm" else "aac", rate=16000)
        picture = container.add_stream(codec, rate=25)
        picture.width, picture.height, picture.pix_fmt = *SIZE, "yuv420p"
        for n in range(40):
            samples = av.AudioFrame.from_ndarray(np.zeros((1, 3200), np.float32), format="fltp", layout="mono")
            samples.sample_rate, samples.time_base = 16000, Fraction(1, 16000)
            samples.pts = int(16000 * sound_from) + 3200 * n
            container.mux(sound.encode(samples))
        for n in range(50):
            frame = av.VideoFrame.from_ndarray(frame_image(n))
            frame.pts, frame.time_base = int(25 * picture_from) + n, Fraction(1, 25)
            container.mux(picture.encode(frame))
        container.mux(sound.encode())
        container.mux(picture.encode())
    return path


@pytest.mark.parametrize(
    ("suffix", "codec"), [("mp4", "mpeg4"), ("mkv", "mpeg4"), ("webm", "libvpx"), ("ts", "mpeg2video")]
)
def test_pictures_that_begin_after_the_sound_begin_then(tmp_path, suffix, codec):
    path = with_sound(tmp_path / f"a.{suffix}", 0.0, 4.0, codec)
    timed = times_of(path)
    assert [number for number, _ in timed] == list(range(50))
    assert timed[0][1] == pytest.approx(4.0, abs=0.07) and timed[-1][1] == pytest.approx(5.96, abs=0.07)
    assert times_of(path, 5)[1][1] == pytest.approx(4.2, abs=0.07)
    begin = timed[0][1]
    assert [number for number, _ in times_of(path, start=begin + 0.4, end=begin + 0.8)] == list(range(10, 20))
    with pytest.raises(InputError, match=r"no frames from 0 to 3\.9 s"):
        Video(path, start=0, end=3.9)
    assert extract_poses(path, Marked()).fps == 25
    with Live(str(path), 5) as live:
        first = next(iter(live))
    assert first.seconds == pytest.approx(4.0, abs=0.21)


def shifted(path: Path, seconds: float) -> Path:
    """The same packets, so much later on the clock of their file."""
    later = path.with_stem("a")
    with av.open(str(path)) as source, av.open(str(later), "w") as container:
        stream = container.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.size and packet.pts is not None and packet.dts is not None:
                packet.pts += int(seconds / packet.time_base)
                packet.dts += int(seconds / packet.time_base)
                packet.stream = stream
                container.mux(packet)
    return later


@pytest.mark.parametrize("suffix", ["mkv", "webm", "ts", "mpg"])
def test_a_segment_that_starts_late_in_a_long_recording_starts_at_its_first_picture(tmp_path, suffix):
    path = shifted(write_video(tmp_path / f"b.{suffix}", 30, rate=25, codec=CODECS[suffix]), 100.0)
    assert times_of(path) == [(n, pytest.approx(n / 25, abs=2e-3)) for n in range(30)]
    assert notes_of(path) == []


@pytest.mark.parametrize("suffix", ["ts", "mpg"])
def test_a_clock_that_runs_over(tmp_path, suffix):
    path = shifted(write_video(tmp_path / f"b.{suffix}", 60, rate=25, codec="mpeg2video"), (1 << 33) / 90_000 - 1)
    timed = times_of(path)
    assert [number for number, _ in timed] == list(range(60))
    assert [seconds for _, seconds in timed] == pytest.approx(np.arange(60) / 25, abs=2e-3)


@pytest.mark.parametrize(("suffix", "codec"), [("ts", "mpeg2video"), ("mpg", "mpeg2video")])
def test_a_clock_that_is_set_back_goes_on(tmp_path, suffix, codec):
    parts = [write_video(tmp_path / f"{n}.{suffix}", 25, rate=25, codec=codec).read_bytes() for n in range(2)]
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(b"".join(parts))
    timed = times_of(path)
    assert [number for number, _ in timed] == [*range(25), *range(25)]
    assert [seconds for _, seconds in timed] == pytest.approx(np.arange(50) / 25, abs=5e-3)
    assert notes_of(path) == ["its clock is set anew in the middle; the parts are read one after the other"]
    assert len(times_of(path, 5)) == 10


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "webm"])
def test_a_picture_that_is_held_is_in_every_stretch_that_shows_it(tmp_path, suffix):
    path = write_video(tmp_path / f"a.{suffix}", 4, times_ms=[0, 40, 80, 5000], codec=CODECS[suffix])
    assert times_of(path, start=2, end=3) == [(2, 0)]
    assert times_of(path, start=4.5) == [(2, 0), (3, 0.5)]
    assert times_of(path, 10, start=2, end=3) == [(2, pytest.approx(n / 10)) for n in range(10)]


def edit(path: Path, seconds: float, from_second: float = 0.0) -> Path:
    """Let the edit list of an MP4 end the recording early, and begin it late."""
    content = bytearray(path.read_bytes())
    at = content.index(b"elst")
    movie, media = (struct.unpack_from(">I", content, content.index(box) + 16)[0] for box in (b"mvhd", b"mdhd"))
    begin = struct.unpack_from(">i", content, at + 16)[0] + int(from_second * media)
    struct.pack_into(">Ii", content, at + 12, int(seconds * movie), begin)
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("suffix", ["mp4", "mov"])
def test_an_edit_list_says_what_is_shown(tmp_path, suffix):
    path = write_video(tmp_path / f"a.{suffix}", 50, rate=25, encoder=FILM)
    assert len(times_of(edit(path, 1.0))) == pytest.approx(25, abs=1)
    timed = times_of(edit(path, 1.0, 0.4))
    assert [timed[0], timed[10]] == [(10, 0), (20, 0.4)]
    assert notes_of(path) == []


@pytest.mark.parametrize("share", [1.0, 0.9, 0.55])
def test_fragments_are_read_whole_or_refused(tmp_path, share):
    options = {"movflags": "frag_keyframe+empty_moov+default_base_moof"}
    path = write_video(tmp_path / "a.mp4", 90, options=options, encoder={"g": "10"})
    truncate(path, share)
    if share == 1:
        assert len(read(path)[1]) == 90
    else:
        with pytest.raises(InputError, match=r"cut off or damaged after \d+ frames"):
            read(path)


@pytest.mark.parametrize("suffix", ["mkv", "webm", "wmv", "avi", "ogv", "gif", "flv", "mxf", "apng"])
@pytest.mark.parametrize("live", [False, True])
def test_whole_recordings_are_read_and_cut_ones_refused(tmp_path, suffix, live):
    codec = {**CODECS, **OTHERS}[suffix]
    options = {"live": "1"} if live and suffix in ("mkv", "webm") else None  # sizes are unknown, as browsers write it
    path = write_video(tmp_path / f"a.{suffix}", 90, rate=25, codec=codec, options=options)
    assert len(read(path)[1]) == 90
    with Video(truncate(path, 0.625)) as video, pytest.raises(InputError, match=r"cut off or damaged after \d+ frames"):
        assert len(list(video)) > 20


def patch_duration(path: Path, factor: float) -> Path:
    content = bytearray(path.read_bytes())
    at = content.index(b"\x44\x89\x88") + 3
    struct.pack_into(">d", content, at, factor * struct.unpack_from(">d", content, at)[0])
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("suffix", ["mkv", "webm"])
def test_a_header_that_promises_more_than_there_is_gets_a_note(tmp_path, suffix):
    path = patch_duration(write_video(tmp_path / f"a.{suffix}", 50, rate=25, codec=CODECS[suffix]), 2)
    assert len(times_of(path)) == 50
    assert notes_of(path) == ["its header says 4.0 s, its pictures end at 2.0 s"]
    assert notes_of(patch_duration(path, 0.5)) == []


@pytest.mark.parametrize("suffix", ["mkv", "avi"])
def test_a_damaged_packet_costs_its_pictures(tmp_path, suffix):
    path = write_video(tmp_path / f"a.{suffix}", 60, rate=25, codec="mjpeg")
    content = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        packets = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]
    for at, size in packets[20:23]:
        content[at + 8 : at + size] = bytes(size - 8)
    path.write_bytes(content)
    timed = times_of(path)
    assert [n for n, _ in timed if not 20 <= n < 23] == [n for n in range(60) if not 20 <= n < 23]
    assert dict(timed)[30] == pytest.approx(1.2)
    assert notes_of(path) == ["3 damaged packets in it are left out, with their pictures"]


def test_a_recording_of_which_nothing_can_be_decoded(tmp_path):
    path = write_video(tmp_path / "a.mkv", 20, codec="mjpeg")
    content = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        for packet in container.demux(video=0):
            if packet.size:
                content[packet.pos + 8 : packet.pos + packet.size] = bytes(packet.size - 8)
    path.write_bytes(content)
    with pytest.raises(InputError, match="not one frame can be decoded"):
        Video(path)


def test_animated_webp_is_named(tmp_path):
    path = tmp_path / "a.webp"
    chunk = b"VP8X" + struct.pack("<I", 10) + bytes([2, 0, 0, 0]) + bytes(6)
    path.write_bytes(b"RIFF" + struct.pack("<I", len(chunk) + 4) + b"WEBP" + chunk)
    with pytest.raises(InputError, match="cannot read animated WebP; convert it"):
        Video(path)


def two_tracks(path: Path, counts: tuple[int, int], default: int | None) -> Path:
    """Tracks of so many pictures, whose numbers begin at 0 and at 100."""
    with av.open(str(path), "w") as container:
        streams = []
        for n, count in enumerate(counts):
            stream = container.add_stream("mpeg4", rate=25)
            stream.width, stream.height, stream.pix_fmt = *SIZE, "yuv420p"
            if default is not None:
                stream.disposition = av.stream.Disposition.default if n == default else av.stream.Disposition(0)
            streams.append((stream, count))
        for n, (stream, count) in enumerate(streams):
            for i in range(count):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(frame_image(100 * n + i))))
            container.mux(stream.encode())
    return path


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_the_right_track_is_the_default_one_then_the_one_with_most_pictures_never_a_cover(tmp_path, suffix):
    for counts, default, chosen in (((10, 20), 0, 0), ((10, 20), 1, 1), ((1, 20), 0, 1), ((20, 1), 1, 0)):
        path = two_tracks(tmp_path / f"a.{suffix}", counts, default)
        with Video(path) as video:
            assert number_of(next(iter(video))) == 100 * chosen, (counts, default)
            assert video.notes == [f"track {chosen + 1} of 2 video tracks is read; --track N reads another"]
        for track in (1, 2):
            with Video(path, track=track) as video:
                assert number_of(next(iter(video))) == 100 * (track - 1) and not video.notes
        with pytest.raises(InputError, match="no video track 3; it has 2"):
            Video(path, track=3)


@pytest.mark.parametrize("suffix", ["ts", "avi"])
def test_where_no_track_is_the_default_most_pictures_count(tmp_path, suffix):
    path = two_tracks(tmp_path / f"a.{suffix}", (5, 30), None)
    with Video(path) as video:
        assert number_of(next(iter(video))) == 100


@pytest.mark.parametrize("suffix", ["mp4", "mov"])
def test_slow_motion_that_says_so_is_noted(tmp_path, suffix):
    for recorded, notes in ((120, 1), (25, 0)):
        path = tmp_path / f"{recorded}.{suffix}"
        with av.open(str(path), "w", options={"movflags": "use_metadata_tags"}) as container:
            container.metadata["com.android.capture.fps"] = f"{recorded}.000000"
            stream = container.add_stream("mpeg4", rate=30)
            stream.width, stream.height, stream.pix_fmt = *SIZE, "yuv420p"
            for n in range(5):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(frame_image(n))))
            container.mux(stream.encode())
        found = notes_of(path)
        assert len(found) == notes and all("--speed 0.25 reads it" in note for note in found)


def test_pictures_that_avi_keeps_in_the_order_of_decoding_are_shown_in_theirs(tmp_path):
    path = write_video(tmp_path / "a.avi", 90, rate=25, encoder=FILM)
    assert times_of(path) == [(n, pytest.approx(n / 25, abs=2e-3)) for n in range(90)]
    assert [number for number, _ in times_of(path, start=2.0, end=2.4)] == list(range(50, 60))
    assert notes_of(path) == []


@pytest.mark.parametrize("behind", [b"", bytes(3000), b"a comment"])
@pytest.mark.parametrize("suffix", ["gif", "ogv", "mp4", "mkv", "avi", "flv", "mxf"])
def test_what_follows_a_recording_does_not_matter(tmp_path, suffix, behind):
    path = write_video(tmp_path / f"a.{suffix}", 40, rate=25, codec={**CODECS, **OTHERS}[suffix])
    path.write_bytes(path.read_bytes() + behind)
    assert len(times_of(path)) == 40


@pytest.mark.parametrize("rate", [1000, 600])
def test_a_rate_that_no_camera_has_is_not_believed(tmp_path, rate):
    path = write_video(tmp_path / "a.avi", 60, rate=25, codec="mpeg4")
    content = bytearray(path.read_bytes())
    struct.pack_into("<II", content, content.index(b"vids") + 20, 1, rate)
    path.write_bytes(content)
    assert times_of(path) == [(n, pytest.approx(n / 25, abs=2e-3)) for n in range(60)]
    assert len(times_of(path, 6.25)) == 15
    assert [number for number, _ in times_of(path, start=1.0, end=2.0)] == list(range(25, 50))
    poses = extract_poses(path, Marked())
    assert (poses.fps, len(poses)) == (25, 60)
    assert notes_of(path) == [f"its times are of {rate} frames a second, which no camera has; 25 are assumed"]


@pytest.mark.parametrize("suffix", ["ts", "mpg"])
def test_a_stream_without_a_header_has_no_length_to_be_held_to(tmp_path, suffix):
    first = write_video(tmp_path / f"1.{suffix}", 25, rate=25, codec="mpeg2video")
    later = shifted(write_video(tmp_path / f"b.{suffix}", 25, rate=25, codec="mpeg2video"), 1000)
    joined = tmp_path / f"c.{suffix}"
    joined.write_bytes(first.read_bytes() + later.read_bytes())
    assert len(times_of(joined)) == 50
    assert notes_of(joined) == ["its clock is set anew in the middle; the parts are read one after the other"]


@pytest.mark.parametrize("suffix", ["mkv", "webm", "mp4"])
def test_video_and_its_stored_keypoints_have_as_many_frames_on_the_models_clock(tmp_path, suffix):
    jitter = np.random.default_rng(3).integers(0, 15, 80)  # the last picture's, too, is late
    times = [40 * n + int(late) for n, late in enumerate(jitter)]
    path = write_video(tmp_path / f"a.{suffix}", 80, times_ms=[0, *times[1:-1], 79 * 40 + 14], codec=CODECS[suffix])
    assert len(times_of(path, 6.25)) == len(extract_poses(path, Marked()).resample(6.25)) == 20
