"""The overlay is the video: its times, its length, its sound, upright; with what was seen drawn where it was seen."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from tiny_bundle import FakeEstimator, TinyBundle, random_poses
from translate_command import Translate, needs_dev_full, the_error

from signet_runtime import translator as translator_module
from signet_runtime.overlay.drawing import COLOURS, Sketch
from signet_runtime.overlay.track import PoseTrack
from signet_runtime.overlay.writer import write_overlay
from signet_runtime.pose.files import read_keypoints
from signet_runtime.sentences.segmenter import PosedFrame
from signet_runtime.sources.video import Video
from signet_runtime.translation import Translation
from signet_runtime.translator import Translator

WriteVideo = Callable[..., Path]


def record(
    path: Path,
    times: list[float],
    *,
    size: tuple[int, int] = (96, 64),
    rotation: int = 0,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    sound: str | None = None,
) -> Path:
    """A video whose pictures are shown at given times, with a second and a half of sound."""
    with av.open(str(path), "w") as out:
        stream = out.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = *size, pix_fmt
        stream.codec_context.time_base = Fraction(1, 90_000)
        if rotation:
            stream.set_display_rotation(rotation)
        audio = out.add_stream(sound, rate=16000) if sound else None
        for number, seconds in enumerate(times):
            picture = np.full((size[1], size[0], 3), 60 + number % 50, np.uint8)
            picture[: size[1] // 4, : size[0] // 4] = 230
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format=pix_fmt)
            frame.pts, frame.time_base = round(seconds * 90_000), Fraction(1, 90_000)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
        if audio is not None:
            samples = (0.3 * np.sin(np.arange(24000) / 5)).astype(np.float32)
            kind = audio.codec_context.format.name
            for start in range(0, len(samples), 1000):
                part = av.AudioFrame.from_ndarray(samples[None, start : start + 1000], format="fltp", layout="mono")
                part.sample_rate, part.pts = 16000, start
                for ready in av.AudioResampler(format=kind, layout="mono", rate=16000).resample(part):
                    ready.pts = start
                    out.mux(audio.encode(ready))
            out.mux(audio.encode(None))
    return path


def shown(path: Path) -> tuple[list[float], float, tuple[int, int]]:
    with Video(path) as video:
        times = [seconds for _, seconds in video.timed()]
        return times, video.end, video.info.size


def heard(path: Path) -> list[tuple[str, int]]:
    """Codec and decoded samples of every sound track."""
    with av.open(str(path)) as container:
        return [
            (stream.codec_context.name, sum(f.samples for f in av.open(str(path)).decode(audio=i)))
            for i, stream in enumerate(container.streams.audio)
        ]


EVEN = [n / 25 for n in range(40)]
UNEVEN = np.cumsum(np.random.default_rng(0).choice([0.02, 0.04, 0.11, 0.3], 30)).tolist()
KINDS = {
    "plain": {"times": EVEN},
    "uneven": {"times": UNEVEN},
    "late": {"times": [0.7 + t for t in EVEN], "sound": "aac"},
    "turned": {"times": EVEN, "rotation": 90},
    "turned the other way": {"times": EVEN, "rotation": -90},
    "upside down": {"times": EVEN, "rotation": 180},
    "odd": {"times": EVEN, "size": (97, 63), "pix_fmt": "yuv444p"},
    "ten bits": {"times": EVEN, "pix_fmt": "yuv420p10le"},
    "one picture": {"times": [0.0]},
    "sound": {"times": EVEN, "sound": "aac"},
    "tiny": {"times": EVEN, "size": (16, 16)},
}


@pytest.mark.parametrize("kind", KINDS)
def test_times_length_and_size_are_the_videos(translate: Translate, tmp_path: Path, kind: str) -> None:
    source = record(tmp_path / "in.mp4", **KINDS[kind])  # type: ignore[arg-type]
    result = translate(source, "--overlay", tmp_path / "out.mp4", "-q")
    assert (result.exit_code, result.stderr) == (0, "")
    (before, end, (width, height)), (after, end_after, size) = shown(source), shown(tmp_path / "out.mp4")
    assert after == pytest.approx(before, abs=2e-4)
    assert end_after == pytest.approx(end, abs=1 / 25)
    assert size == (width + width % 2, height + height % 2)
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert next(container.decode(video=0)).rotation == 0  # it is upright as it lies
    assert heard(tmp_path / "out.mp4") == heard(source)
    assert {path.name for path in tmp_path.iterdir()} == {"in.mp4", "out.mp4"}


@pytest.mark.parametrize(("name", "codec", "target"), [("a.mkv", "pcm_s16le", "mp4"), ("a.mkv", "pcm_s16le", "mkv")])
def test_sound_that_a_container_does_not_take_is_encoded(
    translate: Translate, tmp_path: Path, name: str, codec: str, target: str
) -> None:
    source = record(tmp_path / name, EVEN, sound=codec)
    result = translate(source, "--overlay", tmp_path / f"out.{target}")
    assert result.exit_code == 0, result.stderr
    ((found, samples),) = heard(tmp_path / f"out.{target}")
    assert (found, "encoded as AAC" in result.stderr) == (("aac", True) if target == "mp4" else (codec, False))
    assert samples == pytest.approx(24000, abs=2100)  # AAC has a frame of priming, and ends with a whole one


def test_what_is_drawn_and_when(translate: Translate, tmp_path: Path) -> None:
    """A subtitle while a sentence is said, joints where they are, and nothing else."""
    source = record(tmp_path / "in.mp4", EVEN, size=(320, 240))
    poses, said = PoseTrack(), []
    for number, seconds in enumerate(EVEN):
        keypoints = np.full((133, 2), 0.5, np.float32)
        keypoints[91:112] = (0.25, 0.5)
        scores = np.zeros(133, np.float32)
        scores[91:112] = 0.9
        poses.add(PosedFrame(seconds, keypoints, scores, 1, float(number)))
    said.append(Translation("WWWW", 0.4, 0.8, "mul", {"one": 1.0}, "mediapipe", 10, {}, reliability=0.5))
    assert write_overlay(source, tmp_path / "out.mp4", poses, said) == []
    with Video(source) as one, Video(tmp_path / "out.mp4") as other:
        pairs = list(zip(one.timed(), other.timed(), strict=True))
    for (plain, seconds), (drawn, _) in pairs:
        changed = np.abs(plain.astype(int) - drawn).max(axis=2) > 40
        assert changed[110:130, 70:90].any()  # the hand
        assert not changed[:60, 200:].any() and not changed[130:150, 200:].any()
        speaks = 0.4 <= seconds < 0.8
        assert changed[200:].any() == speaks, seconds
        assert (np.abs(plain.astype(int) - drawn)[:30, :60].max() > 40) == speaks  # the experts' panel
    sky_blue = pairs[20][1][0][115:125, 75:85].reshape(-1, 3).astype(float)
    assert np.abs(sky_blue - COLOURS["left_hand"]).sum(axis=1).min() < 90


def test_opacity_is_confidence() -> None:
    black = np.zeros((100, 100, 3), np.uint8)
    seen = []
    for score in (0.0, 0.3, 0.6, 1.0):
        scores = np.full(133, score, np.float32)
        keypoints = np.random.default_rng(0).uniform(0.2, 0.8, (133, 2)).astype(np.float32)
        seen.append(int(Sketch((100, 100)).draw(black, keypoints, scores, None).sum()))
    assert seen[0] == 0
    assert seen == sorted(set(seen))


def test_between_two_poses_joints_go_straight() -> None:
    track = PoseTrack(speed=0.5)  # the file takes twice as long
    ones, found = np.ones((133, 2), np.float32), np.ones(133, np.float32)
    lost = found.copy()
    lost[7] = 0.1
    track.add(PosedFrame(0.0, 0 * ones, found, 1, 0.0))
    track.add(PosedFrame(0.2, ones, lost, 1, 0.0))
    track.add(PosedFrame(2.0, 3 * ones, found, 1, 0.0))
    assert track.at(0.0)[0][0].tolist() == [0, 0]
    keypoints, scores = track.at(0.1)
    assert keypoints[0] == pytest.approx([0.25, 0.25]) and scores[0] == 1
    assert keypoints[7].tolist() == [0, 0] and scores[7] == 1  # it is in one of the two alone
    assert track.at(0.3)[0][7].tolist() == [1, 1]
    assert track.at(1.0)[0][0].tolist() == [1, 1]  # too far from the next to be on the way to it
    assert track.at(9.0)[0][0].tolist() == [3, 3]


def test_all_frames_are_posed_and_the_model_reads_those_on_its_clock(
    tiny: TinyBundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(translator_module, "load_estimator", lambda *args, **options: FakeEstimator())
    translator = Translator.from_bundle(tiny.path)
    for name, times in (("even", [n / 50 for n in range(100)]), ("uneven", UNEVEN)):
        source = record(tmp_path / f"{name}.mp4", times)
        (translation,) = translator.sentences(
            source, whole=None, keypoints_out=tmp_path / f"{name}.npz", all_frames=True
        )
        kept = read_keypoints(tmp_path / f"{name}.npz")
        motion = random_poses(4, frames=500)
        if name == "even":
            assert (len(kept), kept.fps) == (100, 50)
            np.testing.assert_allclose(kept.keypoints, motion.keypoints[:100], atol=1e-6)
            assert translation.frames == 50  # the bundle's clock is at 25
        assert kept.duration == pytest.approx(shown(source)[1] - shown(source)[0][0], abs=3 / kept.fps)
        assert translation.end - translation.start == pytest.approx(kept.duration, abs=0.1)


def test_what_cannot_be_drawn_on(translate: Translate, write_video: WriteVideo, tmp_path: Path) -> None:
    sound = write_video("sound.mp4", frames=0, sound=True)
    result = translate(sound, "--overlay", tmp_path / "o.mp4")
    assert result.exit_code == 3
    assert "only sound in it, no video" in the_error(result)
    result = translate(write_video("a.mp4"), "--overlay", tmp_path / "nowhere" / "o.mp4")
    assert result.exit_code == 3
    assert "there is no directory" in the_error(result)
    assert {path.name for path in tmp_path.iterdir()} == {"sound.mp4", "a.mp4"}


def test_a_full_disk(
    translate: Translate, write_video: WriteVideo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    video = write_video("a.mp4")
    (tmp_path / "o.mp4").write_text("from before")
    monkeypatch.setattr(os, "fsync", full)
    result = translate(video, "--overlay", tmp_path / "o.mp4")
    assert result.exit_code == 3
    assert "o.mp4: cannot be written (No space left on device)" in the_error(result)
    assert (tmp_path / "o.mp4").read_text() == "from before"
    assert {path.name for path in tmp_path.iterdir()} == {"a.mp4", "o.mp4"}


@needs_dev_full
def test_a_device_that_is_full(tiny: TinyBundle, write_video: WriteVideo, tmp_path: Path) -> None:
    (tmp_path / "full.mp4").symlink_to("/dev/full")
    from signet_runtime.errors import OutputError

    with pytest.raises(OutputError, match=r"full\.mp4: cannot be written"):
        write_overlay(write_video("a.mp4", frames=200, size=(320, 240)), tmp_path / "full.mp4", PoseTrack(), [])


def test_letters_that_no_font_has_are_named(tmp_path: Path) -> None:
    sketch = Sketch((200, 100))
    said = Translation("a\U000f1234", 0, 1, "mul", {"one": 1.0}, "mediapipe", 1, {})
    sketch.draw(np.zeros((100, 200, 3), np.uint8), np.zeros((133, 2)), np.zeros(133), said)
    assert sketch.missing == {"\U000f1234"}
