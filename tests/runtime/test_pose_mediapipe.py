"""MediaPipe: keypoints that agree with RTMPose's, of the one signer, without noise. On a real recording."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import cv2
import mediapipe
import numpy as np
import pytest

from signet_runtime.pose.files import read_keypoints
from signet_runtime.pose.mediapipe.estimator import MediaPipeEstimator, _columns
from signet_runtime.pose.mediapipe.graph import Landmarks, _wholebody
from signet_runtime.skeleton import REGIONS
from signet_runtime.sources.video import Video

NOSE = 0


@pytest.fixture(scope="module")
def estimator() -> Iterator[MediaPipeEstimator]:
    estimator = MediaPipeEstimator()
    yield estimator
    estimator.close()


@pytest.fixture(scope="module")
def recording(shared_data: Path) -> list[np.ndarray]:
    with Video(shared_data / "lis_news_0.mp4") as video:
        return list(islice(video, 40))


@pytest.fixture(scope="module")
def alone(estimator, recording) -> list[tuple[np.ndarray, np.ndarray]]:
    return list(estimator.estimate(recording))


def placed(frame: np.ndarray, canvas: tuple[int, int], contrast: float = 1.0) -> np.ndarray:
    """The frame at the left of a wider one."""
    image = np.full((canvas[1], canvas[0], 3), 200, np.uint8)
    image[:, : frame.shape[1]] = 128 + (frame.astype(np.float32) - 128) * contrast
    return image


def test_every_region_agrees_with_rtmpose(alone, shared_data):
    # The limits of the project on the whole recording; benchmarks/pose.py prints its table.
    reference = read_keypoints(shared_data / "lis_news_0.pkl").take(np.arange(len(alone)))
    pixels = np.array(reference.size)
    distance = np.linalg.norm((np.stack([k for k, _ in alone]) - reference.keypoints) * pixels, axis=-1)
    shoulder = np.linalg.norm((reference.keypoints[:, 5] - reference.keypoints[:, 6]) * pixels, axis=-1)
    distance /= np.median(shoulder)
    found = np.stack([s for _, s in alone]) > 0.3
    for name, limit in {"body": 0.05, "left_hand": 0.05, "right_hand": 0.05, "face": 0.03}.items():
        joints = list(REGIONS[name].joints)
        sure = reference.scores[:, joints] > 0.3
        assert found[:, joints][sure].mean() >= 0.9, name
        assert np.median(distance[:, joints][sure & found[:, joints]]) <= limit, name


def test_scores_say_found_or_missing_for_hands_and_face(alone):
    scores = np.stack([s for _, s in alone])
    assert scores.min() >= 0 and scores.max() <= 1
    for part in ("left_hand", "right_hand", "face"):
        joints = scores[:, list(REGIONS[part].joints)]
        assert np.isin(joints, (0, 1)).all() and (joints == joints[:, :1]).all()


def test_frames_in_the_graph_at_once_change_nothing(estimator, recording, alone):
    # The solution as MediaPipe publishes it, one frame after another.
    with mediapipe.solutions.holistic.Holistic(model_complexity=1, refine_face_landmarks=True) as solution:
        for frame, (keypoints, scores) in zip(recording, alone, strict=True):
            found = solution.process(frame)
            landmarks = Landmarks(*(getattr(found, f"{part}_landmarks") for part in Landmarks._fields))
            expected, confidence = _wholebody(landmarks, 0, 1)
            np.testing.assert_array_equal(keypoints, expected)
            np.testing.assert_array_equal(scores, confidence)


def test_live_each_frame_is_answered_before_the_next_is_asked_for(estimator, recording, alone):
    asked = 0

    def frames() -> Iterator[np.ndarray]:
        nonlocal asked
        for frame in recording[:15]:
            asked += 1
            yield frame

    for n, (keypoints, scores) in enumerate(estimator.estimate(frames(), live=True), 1):
        assert asked == n
        np.testing.assert_array_equal(keypoints, alone[n - 1][0])
        np.testing.assert_array_equal(scores, alone[n - 1][1])
    assert n == 15


def test_leaving_a_recording_in_the_middle_leaves_nothing_for_the_next(estimator, recording, alone):
    assert len(list(islice(estimator.estimate(recording[::-1]), 13))) == 13
    for (again, _), (first, _) in zip(estimator.estimate(recording[:8]), alone, strict=False):
        np.testing.assert_array_equal(again, first)


def test_a_graph_that_fails_raises_and_does_not_wait_for_ever(recording):
    estimator = MediaPipeEstimator()
    results = estimator.estimate(recording)
    next(results)
    estimator._holistic.send(np.zeros((4, 0, 3), np.uint8))
    with pytest.raises(RuntimeError):
        list(results)


def test_every_call_starts_anew(estimator, recording, alone):
    for (again, _), (first, _) in zip(estimator.estimate(recording[:5]), alone, strict=False):
        np.testing.assert_array_equal(again, first)


def test_hands_out_of_view_score_zero_and_the_rest_is_found(estimator, recording):
    head = [frame[: frame.shape[0] * 2 // 5] for frame in recording[:6]]
    _, scores = list(estimator.estimate(head))[-1]
    assert not scores[91:].any()
    assert (scores[list(REGIONS["face"].joints)] == 1).all()


def test_a_person_who_leaves_and_returns_is_found_again(estimator, recording):
    empty = np.full_like(recording[0], 200)
    results = list(estimator.estimate([*recording[:6], *[empty] * 6, *recording[6:16]]))
    found = np.array([scores[NOSE] > 0.5 for _, scores in results])
    assert found[:6].all() and found[-6:].all()
    assert not found[8:12].any()


def test_the_largest_person_is_followed_where_holistic_would_take_another(estimator, recording):
    # The larger signer has less contrast: MediaPipe's own detector is surer of the smaller bystander.
    frames = []
    for frame, other in zip(recording[:12], recording[::-1], strict=False):
        image = placed(frame, (1200, 850), contrast=0.5)
        image[283:, 720:] = cv2.resize(other, (480, 567))
        frames.append(image)
    estimator._holistic.reset()
    for frame in frames:
        estimator._holistic.send(frame)
    by_itself = [_wholebody(estimator._holistic.receive(), 0, 1) for _ in frames][-1]
    assert by_itself[0][NOSE, 0] > 0.7, "the case no longer shows what it is for"
    for keypoints, scores in estimator.estimate(frames):
        assert scores[NOSE] > 0.5 and keypoints[NOSE, 0] < 0.5


def test_who_joins_later_does_not_take_over_and_coordinates_stay_the_frames(estimator, recording, alone):
    canvas = (1440, 850)
    frames = []
    for index, frame in enumerate(recording[:24]):
        image = placed(frame, canvas)
        if index >= 5:
            image[:, 720:] = recording[-index]  # as large and as central, beside the signer
        frames.append(image)
    results = list(estimator.estimate(frames))
    for (keypoints, scores), (expected, confident) in zip(results[-8:], alone[16:24], strict=True):
        sure = (scores > 0.3) & (confident > 0.3)
        sure[11:23] = False  # below the frame's border it is guesswork
        assert sure.sum() > 50
        pixels = keypoints[sure] * canvas - expected[sure] * (720, 850)
        assert np.median(np.linalg.norm(pixels, axis=1)) < 8  # of 287 between the shoulders


def test_the_cut_never_goes_through_the_signers_shoulders():
    signer = (0.2, 0.0, 0.6, 0.9)  # 0.4 wide, its middle at 0.4
    twice, beside, behind = (0.22, 0.0, 0.62, 0.9), (0.6, 0.1, 1.0, 0.9), (0.3, 0.2, 0.6, 0.7)
    for others, view in (
        ([], None),
        ([twice], None),
        ([behind], None),
        ([beside], (0, 600)),
        ([twice, beside], (0, 600)),
    ):
        assert _columns(np.array([signer, *others]), 0, None, 1000) == view
    assert _columns(np.array([signer]), 0, (0, 600), 1000) == (0, 600)  # the neighbour may only be hidden
    assert _columns(np.array([beside]), 0, (0, 600), 1000) is None  # the signer walked out of it


def test_an_empty_room_scores_zero(estimator):
    for keypoints, scores in estimator.estimate([np.full((120, 160, 3), 128, np.uint8)] * 3):
        assert not keypoints.any() and not scores.any()


def test_nothing_is_printed(shared_data):
    code = (
        "from itertools import islice; from signet_runtime.sources.video import Video;"
        "from signet_runtime.pose.estimators import load_estimator;"
        "e = load_estimator('auto', 'mediapipe', offline=True);"
        f"v = Video({str(shared_data / 'wlasl_01214.mp4')!r});"
        "n = sum(s.any() for _, s in e.estimate(islice(v, 12))); assert n == 12, n; e.close()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")
