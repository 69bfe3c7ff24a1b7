"""Which estimator runs, what is said when it cannot be the right one, and poses from a file."""

from __future__ import annotations

import builtins
import functools
import math
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import av
import numpy as np
import pytest
from rtmpose_models import paint, write_detector, write_pose

from signet_runtime.errors import EngineError, InputError
from signet_runtime.pose.estimators import PoseEstimator, load_estimator
from signet_runtime.sentences.keypoints import extract_poses
from signet_runtime.sources.video import Video


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("rtmpose")
    write_detector(directory / "detector.onnx")
    write_pose(directory / "pose.onnx")
    return directory


@pytest.fixture
def no_weights(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for name in ("TORCH_HOME", "SIGNET_RTMPOSE"):
        monkeypatch.delenv(name, raising=False)


def without(monkeypatch, package: str, error: Exception) -> None:
    """The package cannot be imported, as on a machine where it or its system libraries are missing."""
    real = builtins.__import__

    def fail(name, *rest):
        if name.split(".")[0] == package:
            raise error
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", fail)


def write_video(path: Path, images: list[np.ndarray], rate: int = 30) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=rate)
        stream.height, stream.width = images[0].shape[:2]
        stream.pix_fmt = "yuv444p"
        stream.options = {"crf": "1", "preset": "ultrafast"}
        for image in images:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image)))
        container.mux(stream.encode())
    return path


def test_auto_takes_what_the_model_was_trained_on_and_says_nothing(weights, capfd, caplog):
    assert load_estimator("auto", "mediapipe", offline=True).name == "mediapipe"
    estimator = load_estimator("auto", "rtmpose-performance", offline=True, weights=weights)
    assert estimator.name == "rtmpose-performance"
    assert capfd.readouterr() == ("", "")
    assert not caplog.records


def test_auto_says_what_it_took_instead_and_why(no_weights, capfd, caplog):
    assert load_estimator("auto", "rtmpose-performance", offline=True).name == "mediapipe"
    assert capfd.readouterr().out == ""
    (warning,) = caplog.messages
    for said in ("trained on rtmpose-performance", "no RTMPose weights", "using mediapipe", "results may suffer"):
        assert said in warning


def test_auto_without_mediapipe_takes_rtmpose(weights, monkeypatch, caplog):
    without(monkeypatch, "ai_edge_litert", ModuleNotFoundError("No module named 'ai_edge_litert'"))
    assert load_estimator("auto", "mediapipe", offline=True, weights=weights).name == "rtmpose-balanced"
    assert "using rtmpose-balanced instead" in caplog.text


def test_auto_with_nothing_to_run_is_one_line_for_both(no_weights, monkeypatch):
    without(monkeypatch, "ai_edge_litert", ModuleNotFoundError("No module named 'ai_edge_litert'"))
    with pytest.raises(EngineError, match=r"pip install ai-edge-litert.*no RTMPose weights") as error:
        load_estimator("auto", "mediapipe", offline=True)
    assert "\n" not in str(error.value)


def test_rtmpose_means_the_trained_mode_or_balanced(weights):
    for trained_on, name in (("rtmpose-lightweight", "rtmpose-lightweight"), ("mediapipe", "rtmpose-balanced")):
        assert load_estimator("rtmpose", trained_on, offline=True, weights=weights).name == name


def test_an_explicit_choice_that_cannot_run_is_an_error(no_weights, capfd):
    with pytest.raises(EngineError) as error:
        load_estimator("rtmpose-balanced", "mediapipe", offline=True)
    assert error.value.exit_code == 5
    with pytest.raises(EngineError, match="no pose estimator is called 'openpose'"):
        load_estimator("openpose", "mediapipe", offline=True)
    assert capfd.readouterr() == ("", "")


def test_a_missing_libgl_says_what_to_install(monkeypatch):
    without(monkeypatch, "rtmlib", ImportError("libGL.so.1: cannot open shared object file: No such file"))
    with pytest.raises(EngineError, match="apt-get install libgl1"):
        load_estimator("rtmpose", "mediapipe", offline=True)


def test_poses_of_a_file_carry_its_rate_size_and_source(weights, tmp_path):
    people = [((150, 50, 310, 310), (190 + 3 * t, 110), (250, 250)) for t in range(20)]
    path = write_video(tmp_path / "zwei Hände.mp4", [paint((480, 360), {"green": p}) for p in people])
    seen: list[tuple[int, int | None]] = []
    estimator = load_estimator("rtmpose-lightweight", "mediapipe", offline=True, weights=weights)
    sequence = extract_poses(path, estimator, progress=lambda done, total: seen.append((done, total)))
    assert (len(sequence), sequence.fps, sequence.size, sequence.source) == (20, 30, (480, 360), "rtmpose-lightweight")
    white = np.array([p[1] for p in people])
    assert np.abs(sequence.keypoints[:, 0] * (480, 360) - white).max() < 1  # sub-pixel, after the codec too
    assert seen == [(done, 20) for done in range(1, 21)]
    assert len(extract_poses(path, estimator, frame_rate=15)) == 10


def test_nobody_in_any_frame_is_an_input_error(weights, tmp_path):
    path = write_video(tmp_path / "empty.mp4", [paint((480, 360), {})] * 5)
    for choice in ("rtmpose", "mediapipe"):
        estimator = load_estimator(choice, "mediapipe", offline=True, weights=weights)
        with pytest.raises(InputError, match="no person found in any of the 5 frames"):
            extract_poses(path, estimator)


def test_one_frame_with_a_person_is_enough(weights, tmp_path):
    path = write_video(
        tmp_path / "one.mp4", [paint((480, 360), {"green": ((150, 50, 310, 310), (200, 110), (250, 250))})]
    )
    estimator = load_estimator("rtmpose", "mediapipe", offline=True, weights=weights)
    assert len(extract_poses(path, estimator)) == 1


@pytest.fixture(scope="module")
def loaded_once(weights) -> Callable[..., PoseEstimator]:
    return functools.cache(functools.partial(load_estimator, trained_on="mediapipe", offline=True, weights=weights))


WAYS = [("rtmpose-lightweight", {}), ("rtmpose-lightweight", {"detect_every": 8}), ("mediapipe", {})]


def moving(t: int) -> np.ndarray:
    return paint((480, 360), {"green": ((150, 50, 310, 310), (190 + t % 40, 110), (250, 250))})


@pytest.mark.parametrize("choice", ["rtmpose-lightweight", "mediapipe"])
@pytest.mark.parametrize("rate", [1, 120])
def test_slow_and_fast_videos_keep_their_time(loaded_once, tmp_path, shared_data, choice, rate):
    if choice == "mediapipe":
        with Video(shared_data / "wlasl_01214.mp4") as video:
            images = list(islice(video, 12))
    else:
        images = [moving(t) for t in range(30)]
    path = write_video(tmp_path / "a.mp4", images, rate=rate)
    estimator = loaded_once(choice)
    every, at_rate = extract_poses(path, estimator), extract_poses(path, estimator, frame_rate=6.25)
    assert (len(every), every.fps) == (len(images), rate)
    if rate == 1:
        assert (len(at_rate), at_rate.fps) == (len(images), 1)
    else:
        assert (len(at_rate), at_rate.fps) == (math.ceil(len(images) / 120 * 6.25), 6.25)
    assert (every.scores > 0.3).any(axis=1).all()


@pytest.mark.parametrize(("choice", "options"), WAYS)
def test_frames_are_let_go_whatever_the_length_of_the_recording(loaded_once, choice, options):
    alive: list[weakref.ref[np.ndarray]] = []
    most = 0

    def frames() -> Iterator[np.ndarray]:
        nonlocal most
        for t in range(60):
            frame = moving(t)
            alive.append(weakref.ref(frame))
            yield frame
            del frame
            most = max(most, sum(reference() is not None for reference in alive))

    estimator = loaded_once(choice, **options)
    assert len(list(estimator.estimate(frames()))) == 60
    assert most <= 10


@pytest.mark.parametrize(("choice", "options"), WAYS)
@pytest.mark.parametrize("live", [False, True])
def test_a_recording_that_breaks_off_is_posed_up_to_there(loaded_once, choice, options, live):
    def frames() -> Iterator[np.ndarray]:
        for t in range(13):
            yield moving(t)
        raise InputError("unplugged")

    estimator = loaded_once(choice, **options)
    found = []
    with pytest.raises(InputError, match="unplugged"):
        for result in estimator.estimate(frames(), live=live):
            found.append(result)
    assert len(found) == 13


def test_decoding_goes_on_while_poses_are_found(tmp_path, monkeypatch):
    path = write_video(tmp_path / "a.mp4", [moving(t) for t in range(12)])
    decoding: set[str] = set()
    convert = av.VideoFrame.to_ndarray
    ahead_of_pose = []

    class Slow:
        name = "mediapipe"

        def estimate(self, frames, *, live=False):
            for n, _ in enumerate(frames, 1):
                time.sleep(0.02)
                ahead_of_pose.append(len(converted) - n)
                yield np.zeros((133, 2), np.float32), np.ones(133, np.float32)

        def close(self):
            pass

    converted: list[int] = []

    def noted(frame, size=None):
        decoding.add(threading.current_thread().name)
        converted.append(1)
        return convert(frame, format="rgb24")

    monkeypatch.setattr("signet_runtime.sources.video.upright", noted)
    assert len(extract_poses(path, Slow())) == 12
    assert threading.current_thread().name not in decoding
    assert 1 <= max(ahead_of_pose) <= 6  # the next frames wait when they are wanted, and not all of them


def test_importing_loads_no_heavy_package():
    code = (
        "import sys, signet_runtime.sources.video, signet_runtime.pose.estimators, signet_runtime.pose.files,"
        "signet_runtime.pose.holistic.estimator, signet_runtime.pose.rtmpose.estimator;"
        "print([m for m in ('torch', 'cv2', 'ai_edge_litert', 'rtmlib', 'onnxruntime', 'av', 'pose_format')"
        " if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
