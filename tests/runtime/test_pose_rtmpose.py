"""RTMPose through rtmlib: what is painted is found where it was painted, for one signer, in clean silence."""

from __future__ import annotations

import hashlib
import io
import subprocess
import sys
import urllib.error
import urllib.request
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hub_server import hub_server
from rtmpose_models import (
    LIGHT,
    OVERSHOOT,
    RTMW_L,
    YOLOX_M,
    paint,
    write_detector,
    write_pose,
    write_random_pose,
)

import signet_runtime.models.fetch
import signet_runtime.pose.rtmpose.weights as weight_files
from signet_runtime.errors import EngineError
from signet_runtime.pose.estimators import load_estimator
from signet_runtime.pose.rtmpose.estimator import RTMPoseEstimator
from signet_runtime.pose.rtmpose.weights import find_weights, import_rtmlib

SIZE = (480, 360)
BODY, HANDS = slice(0, 91), slice(91, 133)

# The pose model answers in half pixels of its 192 x 256 crop. The crop spans 1.25 boxes, so a box of 160 x 260
# makes a crop pixel 1.3 of the frame's: half a bin (0.33) and the warp's interpolation stay below a pixel.
SUBPIXEL = 0.6


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("rtmpose")
    write_detector(directory / "detector.onnx")
    write_pose(directory / "pose.onnx")
    return directory


@pytest.fixture
def estimator(weights: Path) -> RTMPoseEstimator:
    return RTMPoseEstimator("lightweight", offline=True, weights=weights)


def person(x: int, y: int, t: int = 0) -> tuple[tuple[int, ...], tuple[int, int], tuple[int, int]]:
    """A 160 x 260 box at (x, y) whose white marker moves right and whose red one moves up."""
    return (x, y, x + 160, y + 260), (x + 40 + 3 * t, y + 60 + t), (x + 100 + t, y + 200 - 2 * t)


def check(result, marked, size=SIZE) -> None:
    (keypoints, scores), (_, white, red) = result, marked
    pixels = keypoints * size
    assert keypoints.shape == (133, 2) and keypoints.dtype == np.float32 and scores.dtype == np.float32
    assert np.abs(pixels[BODY] - white).max() < SUBPIXEL
    assert np.abs(pixels[HANDS] - red).max() < SUBPIXEL
    assert OVERSHOOT > 1 and (scores == 1).all()  # peaks beyond 1 are clipped


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


def test_rtmlibs_cache_is_found_by_its_own_names(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("TORCH_HOME", raising=False)
    monkeypatch.delenv("SIGNET_RTMPOSE", raising=False)
    checkpoints = tmp_path / "rtmlib" / "hub" / "checkpoints"
    checkpoints.mkdir(parents=True)
    assert find_weights("performance") == {"det": None, "pose": None}
    detector = checkpoints / "yolox_m_8xb8-300e_humanart-c2c7a14a.onnx"
    pose = checkpoints / "rtmw-dw-x-l_simcc-cocktail14_270e-384x288_20231122.onnx"
    detector.touch(), pose.touch()
    assert find_weights("performance") == {"det": detector, "pose": pose}


def test_a_downloaded_archive_in_the_cache_is_unpacked_without_the_network(tmp_path, monkeypatch, weights):
    import zipfile

    from rtmlib import Wholebody

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("TORCH_HOME", raising=False)
    monkeypatch.delenv("SIGNET_RTMPOSE", raising=False)
    checkpoints = tmp_path / "rtmlib" / "hub" / "checkpoints"
    checkpoints.mkdir(parents=True)
    monkeypatch.setattr(weight_files, "KNOWN", {})  # the archives hold models of our own
    for part, own in (("det", "detector.onnx"), ("pose", "pose.onnx")):
        with zipfile.ZipFile(checkpoints / Path(Wholebody.MODE["lightweight"][part]).name, "w") as archive:
            archive.write(weights / own, "some/where/end2end.onnx")
    estimator = RTMPoseEstimator("lightweight", offline=True)
    check(next(estimator.estimate([paint(SIZE, {"green": person(150, 50)})])), person(150, 50))


def in_directory(directory, weights, mode):
    """Our own models under the names of published ones."""
    directory.mkdir()
    for part, own in (("det", "detector.onnx"), ("pose", "pose.onnx")):
        name = Path(weight_files.model_set(mode)[part]).stem + ".onnx"
        (directory / name).write_bytes((weights / own).read_bytes())
    return directory


def test_a_published_name_with_other_content_is_refused(tmp_path, weights):
    directory = in_directory(tmp_path / "there", weights, "lightweight")
    with pytest.raises(EngineError, match=r"yolox_tiny.*\.onnx: not the published file.*SHA-256") as error:
        RTMPoseEstimator("lightweight", offline=True, weights=directory)
    assert "\n" not in str(error.value)


def test_a_known_file_is_used_and_an_unknown_one_named(tmp_path, weights, monkeypatch, caplog):
    directory = in_directory(tmp_path / "there", weights, "lightweight")
    pose = next(directory.glob("rtmw*"))
    monkeypatch.setattr(weight_files, "KNOWN", {pose.name: hashlib.sha256(pose.read_bytes()).hexdigest()})
    RTMPoseEstimator("lightweight", offline=True, weights=directory)
    (warning,) = caplog.messages
    assert "yolox_tiny" in warning and "not known" in warning


@pytest.fixture
def nothing_here(tmp_path, monkeypatch):
    """A machine without weights, and with nothing that says where some are."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("SIGNET_MODELS", str(tmp_path / "models"))
    for name in ("TORCH_HOME", "SIGNET_RTMPOSE", "SIGNET_OFFLINE", "SIGNET_RTMPOSE_X", "SIGNET_CATALOGUE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def server(nothing_here):
    with hub_server() as hub:
        yield hub


def zipped(model: bytes) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("20231122/rtmw/end2end.onnx", model)
        archive.writestr("20231122/rtmw/deploy.json", "{}")
    return packed.getvalue()


def own_catalogue(server, tmp_path, monkeypatch, weights, mode, hashes=True) -> None:
    """The catalogue's entry with our own models at the server, under the names of the published ones."""
    lines = [f"[models.rtmpose-{mode}]", "kind = 'pose-estimator'", "format = 'zipped-onnx'"]
    lines += ["summary = 'ours'", "licence = 'mmpose'"]
    for part, own in (("det", "detector.onnx"), ("pose", "pose.onnx")):
        name, content = Path(weight_files.model_set(mode)[part]).stem, (weights / own).read_bytes()
        server.pages[f"/{name}.zip"] = zipped(content)
        lines += [f"[[models.rtmpose-{mode}.files]]", f"path = '{name}.onnx'", f"url = '{server.url}/{name}.zip'"]
        digest = hashlib.sha256(content).hexdigest()
        lines += [f"sha256 = '{digest}'"] if hashes else []
        monkeypatch.setitem(weight_files.KNOWN, f"{name}.onnx", digest)  # of the built-in catalogue
    (tmp_path / "own.toml").write_text("\n".join(lines))
    monkeypatch.setenv("SIGNET_CATALOGUE", str(tmp_path / "own.toml"))


def test_the_catalogue_has_rtmlibs_urls() -> None:
    from signet_runtime.models.catalogue import built_in

    for mode in ("lightweight", "balanced", "performance"):
        files = built_in().entry(f"rtmpose-{mode}").files
        urls = weight_files.model_set(mode)
        assert [f.url for f in files] == [urls["det"], urls["pose"]]
        assert [f.path for f in files] == [Path(urls[part]).stem + ".onnx" for part in ("det", "pose")]


def test_weights_are_pulled_checked_and_then_found_without_a_network(server, tmp_path, monkeypatch, weights) -> None:
    own_catalogue(server, tmp_path, monkeypatch, weights, "lightweight")
    for offline in (False, True):
        estimator = RTMPoseEstimator("lightweight", offline=offline)
        check(next(estimator.estimate([paint(SIZE, {"green": person(150, 50)})])), person(150, 50))
        server.pages.clear()
    assert find_weights("lightweight")["pose"].is_relative_to(tmp_path / "models" / "rtmpose-lightweight")


@pytest.mark.parametrize("fault", ["wrong bytes", "html", "always cut", "refuse"])
def test_weights_that_come_wrong_are_one_line_and_not_used(server, tmp_path, monkeypatch, weights, fault) -> None:
    own_catalogue(server, tmp_path, monkeypatch, weights, "balanced")
    server.fault = fault
    with pytest.raises(EngineError, match="cannot download the RTMPose weights for rtmpose-balanced") as error:
        RTMPoseEstimator("balanced", offline=False)
    assert "\n" not in str(error.value)
    assert find_weights("balanced") == {"det": None, "pose": None}
    server.fault = None
    RTMPoseEstimator("balanced", offline=False)


def test_weights_without_a_known_hash_are_held_to_the_first(server, tmp_path, monkeypatch, weights, caplog) -> None:
    own_catalogue(server, tmp_path, monkeypatch, weights, "balanced", hashes=False)
    for name in [
        Path(url).stem + ".onnx" for url in weight_files.model_set("balanced").values() if isinstance(url, str)
    ]:
        monkeypatch.delitem(weight_files.KNOWN, name)
    RTMPoseEstimator("balanced", offline=False)
    assert sum("nobody vouches for" in message for message in caplog.messages) == 2
    caplog.clear()
    RTMPoseEstimator("balanced", offline=True)
    assert caplog.messages == []
    pose = find_weights("balanced")["pose"]
    pose.write_bytes(pose.read_bytes() + b"x")
    with pytest.raises(EngineError, match="not the published file"):
        RTMPoseEstimator("balanced", offline=True)


def test_the_x_size_model_comes_from_a_directory_or_a_url(nothing_here, server, tmp_path, weights, monkeypatch):
    for directory in (weights, in_directory(tmp_path / "there", weights, "x")):
        estimator = RTMPoseEstimator("x", offline=True, weights=directory)
        assert estimator.name == "rtmpose-x"
        check(next(estimator.estimate([paint(SIZE, {"green": person(150, 50)})])), person(150, 50))

    with pytest.raises(EngineError, match=r"rtmlib has no weights for rtmpose-x.*rtmw-x_simcc.*SIGNET_RTMPOSE_X"):
        weight_files.get_weights("x", offline=False)
    # Its detector is that of "performance", whose URL is rtmlib's.
    detector = "yolox_m_8xb8-300e_humanart-c2c7a14a"
    performance = {**weight_files.model_set("performance"), "det": f"{server.url}/{detector}.zip"}
    monkeypatch.setattr(import_rtmlib().Wholebody, "MODE", {"performance": performance})
    monkeypatch.setenv("SIGNET_RTMPOSE_X", f"{server.url}/mine.zip")
    server.pages[f"/{detector}.zip"] = zipped((weights / "detector.onnx").read_bytes())
    server.pages["/mine.zip"] = zipped((weights / "pose.onnx").read_bytes())
    found = weight_files.get_weights("x", offline=False)
    assert found["pose"].name == "mine.onnx" and found["pose"].read_bytes() == (weights / "pose.onnx").read_bytes()


@pytest.mark.parametrize("how", ["argument", "environment"])
def test_missing_weights_while_offline_name_the_files_and_never_download(nothing_here, monkeypatch, how):
    import rtmlib.tools.file as downloads

    monkeypatch.setattr(downloads, "download_url_to_file", lambda *_, **__: pytest.fail("tried to download"))
    monkeypatch.setattr(signet_runtime.models.fetch, "download", lambda *_, **__: pytest.fail("tried to download"))
    if how == "environment":
        monkeypatch.setenv("SIGNET_OFFLINE", "1")
    with pytest.raises(EngineError, match=r"yolox_m.*\.onnx into .*checkpoints") as error:
        load_estimator("rtmpose-balanced", "mediapipe", offline=how == "argument")
    assert error.value.exit_code == 5 and "\n" not in str(error.value)


def test_a_failed_download_is_one_line(nothing_here, monkeypatch):
    def fail(*_, **__):
        raise urllib.error.URLError("no route to host\nat all")

    monkeypatch.setattr(urllib.request, "urlopen", fail)
    with pytest.raises(EngineError, match=r"cannot download.*no route to host") as error:
        load_estimator("rtmpose-lightweight", "mediapipe", offline=False)
    assert "\n" not in str(error.value)


def test_unusable_weights_are_one_line(tmp_path):
    (tmp_path / "detector.onnx").write_bytes(b"not a model")
    (tmp_path / "pose.onnx").write_bytes(b"not a model")
    with pytest.raises(EngineError, match=r"detector\.onnx: not an RTMPose model") as error:
        RTMPoseEstimator("balanced", offline=True, weights=tmp_path)
    assert "\n" not in str(error.value)
    with pytest.raises(EngineError, match="not a directory"):
        RTMPoseEstimator("balanced", offline=True, weights=tmp_path / "none")


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
