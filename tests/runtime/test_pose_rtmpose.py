"""RTMPose through rtmlib: what is painted is found where it was painted, for one signer, in clean silence."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from rtmpose_models import (
    LIGHT,
    RTMW_L,
    SIZE,
    YOLOX_M,
    check,
    paint,
    person,
    write_detector,
    write_pose,
    write_random_pose,
)

from signet_runtime.errors import EngineError
from signet_runtime.pose.rtmpose.estimator import RTMPoseEstimator


@pytest.fixture
def estimator(weights: Path) -> RTMPoseEstimator:
    return RTMPoseEstimator("lightweight", offline=True, weights=weights)


def test_markers_are_found_to_sub_pixel_in_a_sequence_longer_than_a_batch(estimator):
    people = [person(150 + t, 50, t) for t in range(19)]
    results = list(estimator.estimate(paint(SIZE, {"green": p}) for p in people))
    assert len(results) == 19
    for result, marked in zip(results, people, strict=True):
        check(result, marked)


def test_batched_frames_equal_rtmlib_one_at_a_time(estimator, weights, capsys):
    from rtmlib import YOLOX, RTMPose

    frames = [paint(SIZE, {"green": person(150 + 2 * t, 50, t)}) for t in range(10)]
    detector = YOLOX(str(weights / "detector.onnx"), model_input_size=(416, 416))
    pose = RTMPose(str(weights / "pose.onnx"), model_input_size=(192, 256))
    capsys.readouterr()
    for frame, (keypoints, scores) in zip(frames, estimator.estimate(frames), strict=True):
        bgr = np.ascontiguousarray(frame[..., ::-1])
        expected, expected_scores = pose(bgr, detector(bgr))
        np.testing.assert_array_equal(keypoints, (expected[0] / SIZE).astype(np.float32))
        np.testing.assert_array_equal(scores, np.clip(expected_scores[0], 0, 1).astype(np.float32))


@pytest.mark.parametrize(
    ("detector", "pose", "frames"),
    [(LIGHT, LIGHT, 11), pytest.param(YOLOX_M, RTMW_L, 19, marks=pytest.mark.slow)],
    ids=["light", "true size"],
)
def test_random_weights_behind_the_real_interface_tell_batches_from_frames_by_rounding_only(
    tmp_path, capsys, detector, pose, frames
):
    from rtmlib import Wholebody

    write_detector(tmp_path / "detector.onnx", 640, detector)
    write_random_pose(tmp_path / "pose.onnx", (288, 384), pose)
    pictures = [paint(SIZE, {"green": person(150 + t, 50, t), "blue": person(5, 90)}) for t in range(frames)]
    # As rtmlib poses a video, and the published archives were made: one frame after another, everybody in it.
    sequential = Wholebody(
        det=str(tmp_path / "detector.onnx"),
        det_input_size=(640, 640),
        pose=str(tmp_path / "pose.onnx"),
        pose_input_size=(288, 384),
        backend="onnxruntime",
        device="cpu",
    )
    estimator = RTMPoseEstimator("performance", offline=True, weights=tmp_path)
    boxes, detect = [], estimator._detector
    estimator._detector = lambda image: boxes.append(detect(image)) or boxes[-1]
    batches, run = [], estimator._pose.session
    estimator._pose.session = Recording(run, batches)
    for picture, (keypoints, scores) in zip(pictures, estimator.estimate(pictures), strict=True):
        image = np.ascontiguousarray(picture[..., ::-1])
        expected_boxes = sequential.det_model(image)
        np.testing.assert_array_equal(boxes.pop(0), expected_boxes)
        expected, expected_scores = sequential(image)
        _, _, scale = sequential.pose_model.preprocess(image, expected_boxes[0])
        bin_size = scale / (2 * np.array([288, 384]))
        assert (np.abs(keypoints * SIZE - expected[0]) <= 1.01 * bin_size).all()
        assert np.abs(scores - np.clip(expected_scores[0], 0, 1)).max() <= 1e-5
        assert np.ptp(expected[0], axis=0).min() > 50  # the answers are not all the same
    assert len(batches) < frames and sum(batches) == frames


class Recording:
    """A session that notes how many crops are posed together."""

    def __init__(self, session, sizes: list[int]) -> None:
        self._session, self._sizes = session, sizes

    def run(self, names, inputs):
        self._sizes.append(len(next(iter(inputs.values()))))
        return self._session.run(names, inputs)

    def __getattr__(self, name):
        return getattr(self._session, name)


class Seen:
    """What an estimator that detects in every eighth frame finds, and in which frames it looked for people."""

    def __init__(self, weights: Path, frames: list[np.ndarray], *, live: bool = False) -> None:
        estimator = RTMPoseEstimator("lightweight", offline=True, weights=weights, detect_every=8)
        self.detected: list[int] = []
        self.asked = 0
        detect = estimator._detector
        numbers = {np.ascontiguousarray(frame[..., ::-1]).tobytes(): n for n, frame in enumerate(frames)}

        def counting(image):
            self.detected.append(numbers[image.tobytes()])
            return detect(image)

        def asking():
            for frame in frames:
                self.asked += 1
                yield frame

        estimator._detector = counting
        self.found = []
        for found in estimator.estimate(asking(), live=live):
            self.found.append(found)
            assert not live or self.asked == len(self.found)  # answered before the next one is asked for
        assert len(self.found) == len(frames)


@pytest.mark.parametrize(
    ("detection", "posing", "found_in"),
    [(0.010, 0.1, 1), (0.025, 0.1, 1), (0.026, 0.1, 2), (0.1, 0.1, 4), (3.0, 0.1, 8)],
)
def test_on_a_cpu_detection_left_to_the_estimator_costs_a_quarter_of_posing_and_is_said(
    weights, monkeypatch, detection, posing, found_in
):
    costs = iter([detection, posing])
    monkeypatch.setattr("signet_runtime.pose.rtmpose.estimator._seconds", lambda work: (work(), next(costs))[1])
    estimator = RTMPoseEstimator("lightweight", offline=True, weights=weights, detect_every=None)
    looked, detect = [], estimator._detector
    estimator._detector = lambda image: looked.append(1) or detect(image)
    people = [person(150 + t % 7, 50, t // 3) for t in range(16)]
    assert len(list(estimator.estimate(paint(SIZE, {"green": p}) for p in people))) == 16
    assert len(looked) == 16 // found_in
    assert [f"one frame of {found_in}" in note for note in estimator.notes] == [True] * (found_in > 1)


@pytest.mark.parametrize("live", [False, True])
def test_a_box_serves_for_several_frames_while_the_signer_stays(weights, live):
    people = [person(150 + t % 7, 50, t // 3) for t in range(30)]
    seen = Seen(weights, [paint(SIZE, {"green": p}) for p in people], live=live)
    assert seen.detected == [0, 8, 16, 24]
    for result, marked in zip(seen.found, people, strict=True):
        check(result, marked)


@pytest.mark.parametrize("live", [False, True])
def test_a_signer_who_is_elsewhere_is_found_in_the_same_frame(weights, live):
    people = [person((20 if t < 11 else 300) + t % 7, 50, t // 3) for t in range(26)]
    seen = Seen(weights, [paint(SIZE, {"green": p}) for p in people], live=live)
    assert seen.detected == [0, 8, 11, 19]
    for result, marked in zip(seen.found, people, strict=True):
        check(result, marked)


def test_a_signer_who_walks_is_looked_for_as_often_as_it_takes(weights):
    wide = (1600, 360)
    people = [person(20 + 30 * t, 50) for t in range(44)]
    seen = Seen(weights, [paint(wide, {"green": p}) for p in people])
    for result, marked in zip(seen.found, people, strict=True):
        check(result, marked, wide)
    assert 6 < len(seen.detected) < 30


def test_a_signer_who_leaves_scores_zero_and_is_found_in_the_frame_of_their_return(weights):
    there = paint(SIZE, {"green": person(150, 50)})
    frames = [there] * 5 + [np.full_like(there, 90)] * 6 + [there] * 5
    frames = [np.where(np.arange(480)[None, :, None] == n, 91, frame) for n, frame in enumerate(frames)]
    frames = [frame.astype(np.uint8) for frame in frames]  # all different, to tell them apart
    seen = Seen(weights, frames)
    assert seen.detected == [0, *range(5, 12)]
    for n, result in enumerate(seen.found):
        if 5 <= n < 11:
            assert not result[0].any() and not result[1].any()
        else:
            check(result, person(150, 50))


def test_two_people_who_cross_are_told_apart_as_by_detection_in_every_frame(weights, estimator):
    wide = (1000, 360)
    frames = [
        paint(wide, {"blue": person(700 - 20 * t, 55), "green": person(330 + 10 * t, 50)})  # green is in front
        for t in range(30)
    ]
    seen = Seen(weights, frames)
    every = list(estimator.estimate(frames))
    for (keypoints, scores), (expected, confidence) in zip(seen.found, every, strict=True):
        # Where both are in the crop, the model mixes their markers; the two people are up to 370 pixels apart.
        np.testing.assert_allclose(keypoints * wide, expected * wide, atol=3)
        np.testing.assert_array_equal(scores, confidence)
    assert len(seen.detected) < 30  # and it looked for them less often
    check(seen.found[-1], person(330 + 10 * 29, 50), wide)


def test_live_each_frame_is_answered_before_the_next_is_asked_for(estimator):
    asked = []
    frames = [paint(SIZE, {"green": person(150, 50, t)}) for t in range(10)]
    live = estimator.estimate((asked.append(1) or frame for frame in frames), live=True)
    for n, (result, (keypoints, scores)) in enumerate(zip(live, estimator.estimate(frames), strict=True), 1):
        assert len(asked) == n
        np.testing.assert_array_equal(result[0], keypoints)
        np.testing.assert_array_equal(result[1], scores)


def test_a_model_without_a_batch_axis_gives_the_same(weights, tmp_path):
    write_detector(tmp_path / "detector.onnx")
    write_pose(tmp_path / "pose.onnx", batch=1)
    frames = [paint(SIZE, {"green": person(150, 50, t)}) for t in range(3)]
    one = RTMPoseEstimator("lightweight", offline=True, weights=tmp_path).estimate(frames)
    many = RTMPoseEstimator("lightweight", offline=True, weights=weights).estimate(frames)
    for (a, b), (c, d) in zip(one, many, strict=True):
        np.testing.assert_array_equal(a, c)
        np.testing.assert_array_equal(b, d)


def test_a_pose_model_of_another_input_size_is_posed_in_its_own(tmp_path):
    write_detector(tmp_path / "detector.onnx")
    write_pose(tmp_path / "pose.onnx", size=(288, 384))
    estimator = RTMPoseEstimator("lightweight", offline=True, weights=tmp_path)
    check(next(estimator.estimate([paint(SIZE, {"green": person(150, 50)})])), person(150, 50))


def test_only_the_signer_is_posed_when_two_people_are_in_view(estimator):
    wide = (800, 360)
    frames = [
        paint(wide, {"blue": person(40, 60), "green": person(330, 50, t)})  # green stands in the middle
        for t in range(5)
    ]
    for t, result in enumerate(estimator.estimate(frames)):
        check(result, person(330, 50, t), wide)


def test_the_signer_leaves_and_returns_while_a_bystander_stays(estimator):
    wide = (800, 360)
    bystander = {"blue": ((60, 200, 110, 290), (85, 230), (85, 260))}
    frames = [paint(wide, {**bystander, "green": person(330, 50)})] * 3
    frames += [paint(wide, bystander)] * 4
    frames += [paint(wide, {**bystander, "green": person(500, 60)})] * 3
    results = list(estimator.estimate(frames))
    for result in results[:3]:
        check(result, person(330, 50), wide)
    assert all((scores == 0).all() for _, scores in results[3:7])  # never the bystander's keypoints
    for result in results[7:]:
        check(result, person(500, 60), wide)


def test_an_empty_frame_scores_zero_instead_of_posing_the_background(estimator):
    (keypoints, scores), *rest = estimator.estimate([np.full((360, 480, 3), 90, np.uint8)] * 9)
    assert not keypoints.any() and not scores.any() and len(rest) == 8


def test_every_call_starts_anew(estimator):
    list(estimator.estimate([paint(SIZE, {"blue": person(20, 50)})]))
    both = paint(SIZE, {"blue": person(10, 50), "green": person(180, 50)})
    check(next(estimator.estimate([both])), person(180, 50))


def test_nothing_is_printed(weights):
    code = (
        "import sys, numpy as np; from pathlib import Path;"
        "from signet_runtime.pose.estimators import load_estimator;"
        f"e = load_estimator('rtmpose', 'mediapipe', offline=True, weights=Path({str(weights)!r}));"
        "list(e.estimate([np.zeros((64, 64, 3), np.uint8)])); e.close()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")


def test_cuda_that_is_not_there_is_an_error_and_never_the_cpu(weights, monkeypatch):
    import onnxruntime

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(EngineError, match="no CUDA"):
        RTMPoseEstimator("lightweight", offline=True, device="cuda", weights=weights)


def test_a_silent_fall_back_to_the_cpu_is_noticed(weights, monkeypatch):
    import onnxruntime

    # The provider is listed, but its libraries do not load: ONNX Runtime then gives the CPU without a word.
    monkeypatch.setattr(
        onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"]
    )
    real = onnxruntime.InferenceSession

    def fall_back(path_or_bytes, providers):
        return real(path_or_bytes, providers=["CPUExecutionProvider"])

    monkeypatch.setattr(onnxruntime, "InferenceSession", fall_back)
    with pytest.raises(EngineError, match="fell back to CPUExecutionProvider"):
        RTMPoseEstimator("lightweight", offline=True, device="cuda", weights=weights)
