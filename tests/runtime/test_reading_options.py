"""Whom to follow, how fast, at what rate, and what is said about every guess."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from test_recordings import SLOW_THEN_FAST, with_sound
from test_video import number_of
from test_video import write_video as numbered_video
from tiny_bundle import FakeEstimator, TinyBundle, random_poses

from signet_runtime import translator as translator_module
from signet_runtime.commands.translate import main
from signet_runtime.pose.files import read_keypoints, write_keypoints
from signet_runtime.pose.people import Asked
from signet_runtime.pose.signer import LookAhead, SignerTracker, follow_signer
from signet_runtime.sentences.keypoints import extract_poses, stream_video
from signet_runtime.sources.video import Video
from signet_runtime.translator import Translator

# A large person at the left who stands still, and a smaller one at the right.
BOXES = np.array([[0.05, 0.05, 0.55, 0.95], [0.65, 0.3, 0.95, 0.9]])


def pictures(moves: int | None, count: int = 30) -> Iterator[np.ndarray]:
    """Two people, of whom one waves a bright hand."""
    for n in range(count):
        picture = np.full((120, 160, 3), 60, np.uint8)
        for person, (left, top, right, bottom) in enumerate(BOXES):
            x, y = int((left + right) / 2 * 160), int((top + bottom) / 2 * 120)
            y += int(15 * np.sin(n)) if person == moves else 0
            picture[y - 6 : y + 6, x - 6 : x + 6] = 230
        yield picture


@pytest.mark.parametrize(
    ("choice", "moves", "chosen"),
    [
        ("active", 1, 1),
        ("active", 0, 0),
        ("active", None, 0),
        ("largest", 1, 0),
        ("left", 1, 0),
        ("right", 0, 1),
        ("1", 1, 0),
        ("2", 0, 1),
        ("9", 0, 1),
    ],
)
def test_who_is_chosen_among_two(choice: str, moves: int | None, chosen: int) -> None:
    notes: list[str] = []
    tracker = SignerTracker(choice, notes)
    ahead = LookAhead(pictures(moves))
    seen = []
    for picture in ahead:
        seen.append(picture)
        assert tracker.update(BOXES, ahead.motion_since_last) == chosen
    assert len(seen) == 30 and all(np.array_equal(a, b) for a, b in zip(seen, pictures(moves), strict=True))
    said = {
        "left": "who is furthest left",
        "right": "who is furthest right",
        "1": "number 1",
        "2": "number 2",
        "9": "number 2",
    }
    moves_most = choice == "active" and moves is not None
    who = said.get(choice, "who moves their hands most" if moves_most else "the largest and most central")
    assert len(notes) == 1 and notes[0].startswith(f"2 people are in it; {who}")


def test_nothing_is_looked_at_ahead_for_one_person_alone() -> None:
    asked: list[int] = []

    def counted() -> Iterator[np.ndarray]:
        for n, picture in enumerate(pictures(0)):
            asked.append(n)
            yield picture

    ahead = LookAhead(counted())
    notes: list[str] = []
    tracker = SignerTracker(notes=notes)
    for n, _ in enumerate(ahead):
        assert tracker.update(BOXES[:1], ahead.motion_since_last) == 0
        assert asked == list(range(n + 1))
    assert notes == []


def test_among_keypoints_the_one_who_moves_their_hands_is_followed() -> None:
    scores = np.ones((40, 2, 133))
    points = np.zeros((40, 2, 133, 2))
    spread = np.random.default_rng(0).uniform(0, 1, (133, 2))
    for person, (left, top, right, bottom) in enumerate(BOXES):
        points[:, person] = (left, top) + spread * (right - left, bottom - top)
    still = points.copy()
    points[:, 1, [9, 10], 1] += 0.05 * np.sin(np.arange(40))[:, None]
    np.testing.assert_array_equal(follow_signer(points, scores)[0], points[:, 1])
    np.testing.assert_array_equal(follow_signer(points, scores, "largest")[0], points[:, 0])
    np.testing.assert_array_equal(follow_signer(still, scores)[0], still[:, 0])
    np.testing.assert_array_equal(follow_signer(still, scores, "right")[0], still[:, 1])


class Counting:
    name = "mediapipe"

    def __init__(self) -> None:
        self.posed: list[int] = []

    def estimate(self, frames: Iterable[np.ndarray], *, live: bool = False) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for image in frames:
            self.posed.append(number_of(image))
            yield np.full((133, 2), number_of(image), np.float32), np.ones(133, np.float32)


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_a_picture_that_is_held_is_posed_once(tmp_path: Path, suffix: str) -> None:
    path = numbered_video(tmp_path / f"a.{suffix}", 30, times_ms=SLOW_THEN_FAST)
    estimator = Counting()
    with Video(path, 6.25) as video, stream_video(video, estimator) as stream:
        frames = list(stream.frames)
    assert estimator.posed == sorted(set(estimator.posed)) and len(estimator.posed) < 15
    assert [frame.seconds for frame in frames] == pytest.approx(np.arange(len(frames)) / 6.25)
    assert len(frames) == pytest.approx(37, abs=1)
    assert all(frame.ticks == 1 for frame in frames)
    with Video(path, 6.25) as video:
        assert [int(frame.keypoints[0, 0]) for frame in frames] == [number_of(image) for image in video]


Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(tiny: TinyBundle, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setattr(translator_module, "load_estimator", lambda *_, **__: FakeEstimator())

    def translate(*arguments: object) -> tuple[int, str, str]:
        result = CliRunner().invoke(main, ["--bundle", str(tiny.path), *map(str, arguments)])
        return int(result.exit_code), result.stdout, result.stderr

    return translate


@pytest.mark.parametrize("cut", ["auto", "always", "never"])
def test_nobody_signs_is_found_in_every_mode(run: Run, tmp_path: Path, cut: str) -> None:
    write_keypoints(tmp_path / "still.npz", random_poses(2).take(np.zeros(60, int)))
    code, out, err = run(tmp_path / "still.npz", "--cut", cut)
    assert (code, out) == (3, "") and "nobody signs in it" in err
    write_keypoints(tmp_path / "moves.npz", random_poses(2, 60))
    assert run(tmp_path / "moves.npz", "--cut", cut)[0] == 0
    write_keypoints(tmp_path / "short.npz", random_poses(2).take(np.zeros(10, int)))
    assert run(tmp_path / "short.npz")[0] == 0  # too short to say


def test_slow_motion_is_read_at_its_real_speed(
    tiny: TinyBundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(translator_module, "load_estimator", lambda *_, **__: FakeEstimator())
    rate = 25.0
    path = numbered_video(tmp_path / "slow.mp4", 200, rate=50)
    found = {}
    for speed in (1.0, 0.25):
        translator = Translator.from_bundle(tiny.path, speed=speed)
        assert translator.bundle.manifest.frame_rate in (None, rate)
        (found[speed],) = translator.sentences(path, whole=None)
        assert (found[speed].start, found[speed].end) == pytest.approx((0, 4.0), abs=0.1)
    poses = random_poses(3, 100, fps=50.0)
    assert Translator.from_bundle(tiny.path, speed=0.25).translate_poses([poses])
    write_keypoints(tmp_path / "a.npz", poses)
    (slow,) = Translator.from_bundle(tiny.path, speed=0.25).sentences(tmp_path / "a.npz", whole=None)
    assert slow.end == pytest.approx(2.0, abs=0.2)  # of a clock
    assert Translator.from_bundle(tiny.path, speed=0.25).read_poses(tmp_path / "a.npz").fps == 200


def test_an_assumed_rate_is_a_note_on_stderr_and_in_json(run: Run, tmp_path: Path) -> None:
    poses = random_poses(3, 60)
    content = {"keypoints": list(poses.keypoints[:, None]), "scores": list(poses.scores[:, None])}
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(content))
    note = "it does not state its frame rate; 25 a second are assumed (--fps states another)"
    code, out, err = run(tmp_path / "a.pkl", "--format", "json")
    assert (code, json.loads(out)["notes"]) == (0, [note])
    assert err.count(note) == 1 and f"warning: {tmp_path / 'a.pkl'}: {note}" in err
    code, out, err = run(tmp_path / "a.pkl", "--format", "json", "--fps", 50)
    assert (json.loads(out)["notes"], json.loads(out)["end"]) == ([], pytest.approx(1.2, abs=0.05)) and note not in err
    assert read_keypoints(tmp_path / "a.pkl", Asked(fps=50)).fps == 50


@pytest.mark.parametrize(
    "wrong", [("--signer", "nobody"), ("--signer", "0"), ("--track", 0), ("--speed", 0), ("--fps", -1)]
)
def test_options_that_are_none(run: Run, tmp_path: Path, wrong: tuple[str, object]) -> None:
    code, _, err = run(tmp_path / "a.mp4", *wrong)
    assert code == 2 and wrong[0] in err


CASES = Path(__file__).parents[2].parent / "shared" / "cases"


@pytest.mark.skipif(not CASES.is_dir(), reason="recordings that are not part of the project")
@pytest.mark.parametrize(
    ("name", "frames", "first", "end"),
    [
        ("01_edit_list_trims_end.mp4", 50, 0.0, 2.0),
        ("04_segment_starts_late.mkv", 40, 0.0, 1.6),
        ("07_browser_webm_1000fps.webm", 80, 0.0, 3.2),
        ("08_sound_starts_4s_before_picture.mp4", 80, 4.0, 7.2),
        ("10_webm_header_longer_than_frames.webm", 80, 0.0, 3.2),
    ],
)
def test_recordings_after_public_reports(name: str, frames: int, first: float, end: float) -> None:
    with Video(CASES / name) as video:
        times = [seconds for _, seconds in video.timed()]
    assert (len(times), times[0], video.end) == (frames, pytest.approx(first), pytest.approx(end, abs=0.05))


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
@pytest.mark.parametrize("speed", [1.0, 0.5])
def test_keypoints_are_translated_with_the_times_of_their_recording(
    tiny: TinyBundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, speed: float
) -> None:
    monkeypatch.setattr(translator_module, "load_estimator", lambda *_, **__: FakeEstimator())
    path = with_sound(tmp_path / f"a.{suffix}", 0.0, 4.0, "mpeg4")
    translator = Translator.from_bundle(tiny.path, speed=speed)
    (video,) = translator.sentences(path, whole=None, keypoints_out=tmp_path / "streamed.npz")
    write_keypoints(tmp_path / "whole.npz", translator.read_poses(path))
    write_keypoints(tmp_path / "extracted.npz", extract_poses(path, FakeEstimator()))
    signed = Translator.from_bundle(tiny.path)
    for name, reader, stretch in (("streamed", signed, speed), ("whole", signed, speed), ("extracted", translator, 1)):
        (again,) = reader.sentences(tmp_path / f"{name}.npz", whole=None)
        times = np.array([again.start, again.end]) / stretch
        assert times == pytest.approx([video.start, video.end], abs=0.05), name
    assert video.start == pytest.approx(4.0, abs=0.07)
    (given,) = signed.translate_poses([read_keypoints(tmp_path / "whole.npz")])
    assert given.start == pytest.approx(speed * video.start, abs=0.01)
