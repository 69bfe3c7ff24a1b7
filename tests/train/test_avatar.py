"""The drawn signer carries a real signer's landmarks through a video file to the pose estimator and back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import av
import numpy as np
import pytest

from signet_runtime.pose.estimators import load_estimator
from signet_runtime.skeleton import REGIONS
from signet_train.data.spelled.avatar import FACE, LEFT_HAND, NUM_LANDMARKS, RIGHT_HAND, draw_frame
from signet_train.data.spelled.video import write_video

SIZE = (640, 640)
NOSE_TIP = 53


def read_clip(name: str) -> tuple[np.ndarray, np.ndarray, float]:
    """Landmarks (T, 553, 3) in fractions of the frame, scores (T, 553) and fps of a recorded letter."""
    import spoken_to_signed
    from pose_format import Pose

    path = Path(spoken_to_signed.__file__).parent / "assets" / "fingerspelling_lexicon" / name
    pose = Pose.read(path.read_bytes())
    dimensions = pose.header.dimensions
    assert dimensions.width == dimensions.height
    landmarks = np.ma.filled(pose.body.data, 0)[:, 0, :NUM_LANDMARKS] / dimensions.width
    scores = np.asarray(pose.body.confidence)[:, 0, :NUM_LANDMARKS]
    return landmarks.astype(np.float32), scores.astype(np.float32), pose.body.fps


def decode(path: Path) -> tuple[list[np.ndarray], float]:
    with av.open(str(path)) as container:
        fps = container.streams.video[0].average_rate
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)], float(fps)


@pytest.fixture(scope="module")
def letter() -> tuple[np.ndarray, np.ndarray, float]:
    return read_clip("ase/fs-stsf6361531b087bba7e2d9f561cfd3bada.pose")


@pytest.mark.parametrize(
    ("name", "hand"),
    [
        ("ase/fs-stsf6361531b087bba7e2d9f561cfd3bada.pose", RIGHT_HAND),
        ("ise/fs-stse4711f8280af481fdc02ff63dce86d15.pose", LEFT_HAND),
    ],
    ids=["right-handed", "left-handed"],
)
def test_the_pose_estimator_finds_the_signer_again(name: str, hand: int, tmp_path: Path) -> None:
    landmarks, scores, fps = read_clip(name)
    drawn = (draw_frame(*frame, SIZE) for frame in zip(landmarks, scores, strict=True))
    write_video(tmp_path / "letter.mp4", drawn, fps)
    frames, _ = decode(tmp_path / "letter.mp4")
    assert len(frames) == len(landmarks)

    estimator = load_estimator("mediapipe", "mediapipe", offline=True)
    found = list(estimator.estimate(frames))
    estimator.close()
    region = list(REGIONS["left_hand" if hand == LEFT_HAND else "right_hand"].joints)
    in_view = 0
    errors: list[np.ndarray] = []
    nose_errors: list[float] = []
    for (points, seen), expected, score in zip(found, landmarks, scores, strict=True):
        assert seen[NOSE_TIP]
        nose_errors.append(float(np.hypot(*(expected[FACE + 4, :2] - points[NOSE_TIP]))))
        joints = expected[hand : hand + 21, :2]
        if not score[hand] or joints.min() < 0 or joints.max() > 1:
            continue
        in_view += 1
        if seen[region[0]]:
            errors.append(np.linalg.norm(points[region] - joints, axis=1) / np.ptp(joints, axis=0).max())
    assert in_view > 10
    assert len(errors) >= 0.85 * in_view
    assert np.median(np.concatenate(errors)) < 0.07
    assert np.median(nose_errors) < 0.02


def test_the_same_landmarks_always_give_the_same_pixels(letter: tuple[np.ndarray, np.ndarray, float]) -> None:
    landmarks, scores, _ = letter
    first = draw_frame(landmarks[9], scores[9], SIZE)
    assert first.shape == (640, 640, 3)
    assert first.dtype == np.uint8
    assert np.array_equal(first, draw_frame(landmarks[9].copy(), scores[9].copy(), SIZE))


def test_missing_landmarks_are_not_drawn(letter: tuple[np.ndarray, np.ndarray, float]) -> None:
    landmarks, scores, _ = letter
    whole = draw_frame(landmarks[9], scores[9], SIZE).astype(int)
    x, y = (landmarks[9, RIGHT_HAND + 12, :2] * SIZE).astype(int)
    without_hand = scores[9].copy()
    without_hand[RIGHT_HAND:] = 0
    wall = draw_frame(np.zeros_like(landmarks[9]), np.zeros_like(scores[9]), SIZE).astype(int)
    assert np.array_equal(draw_frame(landmarks[9], without_hand, SIZE)[y, x], wall[y, x])
    assert np.abs(whole[y, x] - wall[y, x]).max() > 30


def test_the_nearer_part_of_a_hand_covers_the_farther(letter: tuple[np.ndarray, np.ndarray, float]) -> None:
    landmarks, scores, _ = letter
    mirrored = landmarks[9].copy()
    hand = slice(RIGHT_HAND, RIGHT_HAND + 21)
    mirrored[hand, 2] = 2 * mirrored[RIGHT_HAND, 2] - mirrored[hand, 2]
    # The letter B holds the thumb before the palm: its outline is seen there, and not once depth is reversed.
    tip, knuckle = landmarks[9, RIGHT_HAND + 4, :2] * 640, landmarks[9, RIGHT_HAND + 3, :2] * 640
    x, y = ((tip + knuckle) / 2).astype(int)

    def contrast(points: np.ndarray) -> float:
        return float(np.std(draw_frame(points, scores[9], SIZE)[y - 12 : y + 13, x - 12 : x + 13].mean(-1)))

    assert contrast(landmarks[9]) > 1.5 * contrast(mirrored)


@pytest.mark.parametrize("offset", [-0.6, -2.0, 0.45, 3.0])
def test_a_signer_out_of_view_is_drawn_as_far_as_visible(
    letter: tuple[np.ndarray, np.ndarray, float], offset: float
) -> None:
    landmarks, scores, _ = letter
    moved = landmarks[9] + np.array([offset, offset, 0], np.float32)
    assert draw_frame(moved, scores[9], (320, 240)).shape == (240, 320, 3)


def test_landmarks_of_another_layout_are_refused() -> None:
    with pytest.raises(ValueError, match="553"):
        draw_frame(np.zeros((543, 3), np.float32), np.zeros(543, np.float32), SIZE)


@pytest.mark.parametrize("fps", [25, 30000 / 1001])
def test_a_video_keeps_frames_rate_and_size(fps: float, tmp_path: Path) -> None:
    brightness = [20, 220, 60, 180, 100]
    frames = [np.full((96, 160, 3), value, np.uint8) for value in brightness]
    write_video(tmp_path / "signs ä.mp4", iter(frames), fps)
    read, rate = decode(tmp_path / "signs ä.mp4")
    assert rate == pytest.approx(fps, abs=1e-3)
    assert [frame.shape for frame in read] == [(96, 160, 3)] * 5
    assert [frame.mean() for frame in read] == pytest.approx(brightness, abs=6)
    assert [path.name for path in tmp_path.iterdir()] == ["signs ä.mp4"]


def _fails_midway() -> Iterator[np.ndarray]:
    yield np.zeros((64, 64, 3), np.uint8)
    raise RuntimeError("the drawing failed")


@pytest.mark.parametrize(
    ("frames", "error"),
    [
        (_fails_midway, RuntimeError),
        (lambda: iter([]), ValueError),
        (lambda: iter([np.zeros((63, 64, 3), np.uint8)]), ValueError),
        (lambda: iter([np.zeros((64, 64, 3), np.uint8), np.zeros((32, 64, 3), np.uint8)]), ValueError),
    ],
    ids=["frames fail", "no frames", "odd size", "sizes differ"],
)
@pytest.mark.parametrize("existing", [True, False])
def test_a_failed_video_leaves_nothing_behind(
    frames: Callable[[], Iterator[np.ndarray]], error: type[Exception], existing: bool, tmp_path: Path
) -> None:
    path = tmp_path / "letter.mp4"
    if existing:
        path.write_bytes(b"what was there")
    with pytest.raises(error):
        write_video(path, frames(), 25)
    assert [file.read_bytes() for file in tmp_path.iterdir()] == ([b"what was there"] if existing else [])
