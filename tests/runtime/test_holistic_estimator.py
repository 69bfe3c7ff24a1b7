"""Holistic on LiteRT: MediaPipe's own landmarks, of the one signer, however small. On real recordings."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from signet_runtime.errors import EngineError
from signet_runtime.pose.files import read_keypoints
from signet_runtime.pose.holistic.detection import anchors, decoded
from signet_runtime.pose.holistic.estimator import HolisticEstimator
from signet_runtime.pose.holistic.model import Model, Network
from signet_runtime.pose.holistic.parts import LEFT_HAND, RIGHT_HAND, BodyPart, FacePart, HandPart, person_detector
from signet_runtime.pose.holistic.pruning import piece
from signet_runtime.pose.holistic.rois import Roi
from signet_runtime.pose.holistic.warp import crop
from signet_runtime.pose.mediapipe_landmarks import FACE_LANDMARKS
from signet_runtime.pose.models import find_models
from signet_runtime.skeleton import REGIONS
from signet_runtime.sources.video import Video

cv2 = pytest.importorskip("cv2")
litert = pytest.importorskip("ai_edge_litert.interpreter")

NOSE = 0
EXAMPLES = Path(__file__).parents[2] / "examples"
SHOULDERS = 287  # pixels between them in the recording


@pytest.fixture(scope="session")
def models() -> Mapping[str, Path]:
    try:
        return find_models(offline=True)
    except EngineError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def estimator(models) -> Iterator[HolisticEstimator]:
    estimator = HolisticEstimator(models)
    yield estimator
    estimator.close()


@pytest.fixture(scope="module")
def recording(shared_data: Path) -> list[np.ndarray]:
    with Video(shared_data / "lis_news_0.mp4") as video:
        return list(islice(video, 40))


@pytest.fixture(scope="module")
def alone(estimator, recording) -> list[tuple[np.ndarray, np.ndarray]]:
    return list(estimator.estimate(recording))


def same(found, expected) -> None:
    for (keypoints, scores), (points, confidence) in zip(found, expected, strict=True):
        np.testing.assert_array_equal(keypoints, points)
        np.testing.assert_array_equal(scores, confidence)


@pytest.mark.parametrize("clip", ["lis_news_0", "wlasl_01214"])
def test_the_landmarks_are_mediapipe_s_own(models, shared_data, clip):
    reference = np.load(shared_data / f"mediapipe_{clip}.npz")
    with Video(shared_data / f"{clip}.mp4") as video:
        frames = list(islice(video, 30))
        size = np.array(video.info.size)
    body = BodyPart(models, person_detector(models))
    parts = {
        "face": FacePart(models),
        "left_hand": HandPart(models, LEFT_HAND),
        "right_hand": HandPart(models, RIGHT_HAND),
    }
    distances: dict[str, list[np.ndarray]] = {}
    differ = 0
    shoulders = np.nanmedian(
        np.linalg.norm((reference["pose"][:, 11, :2] - reference["pose"][:, 12, :2]) * size, axis=-1)
    )
    for t, frame in enumerate(frames):
        pose = body(frame)
        assert pose is not None
        np.testing.assert_allclose(pose.visibility, reference["pose"][t, :, 3], atol=0.03)
        found = {"pose": pose.points, **{name: part(frame, pose) for name, part in parts.items()}}
        for name, points in found.items():
            expected = reference[name][t, :, :2] * size
            if np.isnan(expected[0, 0]) or points is None:
                differ += np.isnan(expected[0, 0]) != (points is None)
                continue
            distances.setdefault(name, []).append(np.linalg.norm(points - expected, axis=-1) / shoulders)
    assert differ <= 3  # of some hundred: a hand that is just about seen or not
    for name, values in distances.items():
        # The reference has the other of MediaPipe's two meshes, without attention.
        assert np.median(values) <= (0.01 if name == "face" else 0.005), name


def test_the_face_is_mediapipe_s_own_mesh_with_attention(models):
    # Jaw, inner lips, nose and corners of the eyes in pixels, by mp.solutions.holistic(refine_face_landmarks=True);
    # the mesh without attention is up to 1.9 pixels from them.
    expected = [
        *([270.33, 136.40], [270.24, 155.44], [273.96, 177.06], [288.47, 197.76], [315.66, 208.94]),
        *([344.20, 198.11], [360.21, 177.18], [364.09, 155.32], [363.94, 136.09]),
        *([301.98, 177.27], [309.27, 175.80], [316.33, 175.61], [323.10, 175.70], [329.79, 177.08]),
        *([323.14, 176.64], [316.26, 176.74], [309.10, 176.67], [314.87, 151.34]),
        *([286.00, 129.95], [304.72, 131.78], [325.61, 131.61], [346.06, 129.62]),
    ]
    body, face = BodyPart(models, person_detector(models)), FacePart(models)
    with Video(EXAMPLES / "psr_falar.mp4") as video:
        *_, found = (face(frame, body(frame)) for frame in islice(video, 11))
    assert found is not None
    vertices = [*FACE_LANDMARKS.values(), 33, 133, 362, 263]
    assert np.linalg.norm(found[vertices] - expected, axis=1).max() <= 0.3


def test_every_region_agrees_with_rtmpose(alone, shared_data):
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


def test_live_each_frame_is_answered_before_the_next_is_asked_for_with_the_same_keypoints(estimator, recording, alone):
    asked = 0

    def frames() -> Iterator[np.ndarray]:
        nonlocal asked
        for frame in recording[:15]:
            asked += 1
            yield frame

    found = []
    for result in estimator.estimate(frames(), live=True):
        found.append(result)
        assert asked == len(found)
    same(found, alone[:15])


def test_leaving_a_recording_in_the_middle_leaves_nothing_for_the_next(estimator, recording, alone):
    assert len(list(islice(estimator.estimate(recording[::-1]), 13))) == 13
    same(estimator.estimate(recording[:8]), alone[:8])


def test_what_was_read_before_a_recording_broke_off_is_given_and_then_the_reason(estimator, recording, alone):
    def broken() -> Iterator[np.ndarray]:
        yield from recording[:5]
        raise OSError("torn")

    found = []
    with pytest.raises(OSError, match="torn"):
        for result in estimator.estimate(broken()):
            found.append(result)
    same(found, alone[:5])


def test_a_frame_that_is_none_raises_and_does_not_wait_for_ever(estimator, recording, alone):
    with pytest.raises((TypeError, ValueError, AttributeError, IndexError)):
        list(estimator.estimate([recording[0], recording[1][:, :0], recording[2]]))
    same(estimator.estimate(recording[:2]), alone[:2])


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


def test_a_frame_that_is_turned_or_flipped_in_memory_is_the_same_picture(estimator, recording, alone):
    views = [np.ascontiguousarray(frame[:, ::-1])[:, ::-1] for frame in recording[:3]]
    same(estimator.estimate(views), alone[:3])
    views = [np.ascontiguousarray(np.rot90(frame))[:] for frame in recording[:3]]
    same(estimator.estimate([np.rot90(view, -1) for view in views]), alone[:3])


def test_mirrored_the_hands_change_sides(estimator, recording, alone):
    found = list(estimator.estimate([frame[:, ::-1] for frame in recording[:8]]))
    keypoints, scores = found[-1]
    expected, confident = alone[7]
    assert scores[91] == confident[112] == 1 and scores[112] == confident[91] == 1
    for ours, theirs in ((slice(91, 112), slice(112, 133)), (slice(112, 133), slice(91, 112))):
        mirrored = (expected[theirs] * (-1, 1) + (1, 0)) * (720, 850)
        assert np.median(np.linalg.norm(keypoints[ours] * (720, 850) - mirrored, axis=1)) < 0.1 * SHOULDERS


def placed(frame: np.ndarray, canvas: tuple[int, int], contrast: float = 1.0) -> np.ndarray:
    """Put the frame at the left of a wider one."""
    image = np.full((canvas[1], canvas[0], 3), 200, np.uint8)
    image[:, : frame.shape[1]] = 128 + (frame.astype(np.float32) - 128) * contrast
    return image


def test_the_largest_person_is_followed_where_the_detector_is_surer_of_another(estimator, recording):
    frames = []
    for frame, other in zip(recording[:12], recording[::-1], strict=False):
        image = placed(frame, (1200, 850), contrast=0.5)
        image[283:, 720:] = cv2.resize(other, (480, 567))
        frames.append(image)
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
        assert np.median(np.linalg.norm(pixels, axis=1)) < 8


@pytest.mark.parametrize("corner", ["left", "right"])
def test_a_signer_of_a_quarter_of_the_height_is_read_beside_someone_still(estimator, recording, alone, corner):
    width, height = 1920, 1080
    small = (229, 270)
    x, y = (0, 0) if corner == "left" else (width - small[0], height - small[1])
    still = (small[0], 0) if corner == "left" else (x - small[0], y)
    canvas = np.full((height, width, 3), 90, np.uint8)
    person = cv2.resize(recording[0][:, ::-1], small, interpolation=cv2.INTER_AREA)
    canvas[still[1] : still[1] + small[1], still[0] : still[0] + small[0]] = person
    frames = []
    for frame in recording:
        image = canvas.copy()
        image[y : y + small[1], x : x + small[0]] = cv2.resize(frame, small, interpolation=cv2.INTER_AREA)
        frames.append(image)
    hands, distances = [], []
    for (keypoints, scores), (expected, confident) in list(zip(estimator.estimate(frames), alone, strict=True))[5:]:
        if confident[91] and confident[112]:
            hands.append(scores[91] and scores[112])
        both = (scores > 0.3) & (confident > 0.3)
        pixels = (keypoints * (width, height) - (x, y)) / small * (720, 850)
        distances.append(np.linalg.norm(pixels - expected * (720, 850), axis=1)[both] / SHOULDERS)
    assert np.mean(hands) >= 0.9
    assert np.median(np.concatenate(distances)) <= 0.08


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (3, 2), (160, 120)])
def test_an_empty_room_of_any_size_scores_zero(estimator, size):
    for keypoints, scores in estimator.estimate([np.full((size[1], size[0], 3), 128, np.uint8)] * 3):
        assert not keypoints.any() and not scores.any()


def test_a_person_in_an_8k_frame_is_found(estimator, recording, alone):
    height, width = 4320, 7680
    frame = np.zeros((height, width, 3), np.uint8)
    frame[:, :3659] = cv2.resize(recording[0], (3659, height))
    (keypoints, scores), *_ = estimator.estimate([frame])
    nose = keypoints[NOSE] * (width, height) / (3659, height)
    assert scores[NOSE] > 0.5
    np.testing.assert_allclose(nose, alone[0][0][NOSE], atol=0.02)


def test_half_a_person_gives_what_there_is(estimator, recording):
    for side in (np.s_[:, 360:], np.s_[:, :360]):
        results = list(estimator.estimate([frame[side] for frame in recording[:6]]))
        assert all(np.isfinite(keypoints).all() and np.isfinite(scores).all() for keypoints, scores in results)


def test_a_model_without_the_outputs_nobody_reads_gives_the_same_of_the_others(models, recording):
    path = models["pose_landmark_full"]
    whole = litert.Interpreter(model_path=str(path), num_threads=1)
    whole.allocate_tensors()
    roi = Roi(360, 500, 900, 0.1)
    ours = Model(path, (0, 3))(recording[0], roi)
    (details,) = whole.get_input_details()
    pixels = np.empty(details["shape"], np.float32)
    crop(recording[0], roi, pixels)
    whole.set_tensor(details["index"], pixels)
    whole.invoke()
    details = whole.get_output_details()
    for found, index in zip(ours, (0, 3), strict=True):
        np.testing.assert_array_equal(found, whole.get_tensor(details[index]["index"])[0])


def test_two_pieces_of_a_model_one_after_the_other_give_what_the_whole_gives(models):
    path, middle = models["hand_recrop"], "add_3__xeno_compat__1"
    whole, first, second = Network(path, (0,)), Network(path, (middle,)), Network(path, (0,), (middle,))
    picture = np.random.default_rng(0).random(whole.shape, np.float32)
    (expected,), (between,) = whole(picture), first(picture)
    (found,) = second(between[None])
    np.testing.assert_array_equal(found, expected)
    operators = [len(network._interpreter._get_ops_details()) for network in (whole, first, second)]
    assert max(operators[1:]) < operators[0]


def test_a_piece_that_a_model_does_not_have_is_said_in_one_line(models):
    for outputs, inputs in ((("no such tensor",), ()), ((0, 0), ()), ((0,), ("output_crop", "output_crop"))):
        with pytest.raises(EngineError, match=r"hand_recrop\.tflite") as raised:
            Network(models["hand_recrop"], outputs, inputs)
        assert "\n" not in str(raised.value)


def test_a_file_that_is_no_model_is_said_in_one_line(models, tmp_path):
    for content in (b"", b"not a model at all", models["hand_recrop"].read_bytes()[:4000]):
        broken = tmp_path / "hand_recrop.tflite"
        broken.write_bytes(content)
        with pytest.raises(EngineError, match=r"hand_recrop\.tflite") as raised:
            Model(broken, (0,))
        assert "\n" not in str(raised.value)
    with pytest.raises(ValueError, match="not a TensorFlow Lite model"):
        piece(b"0123456789", (0,))


def test_nothing_is_printed(models, shared_data):
    code = (
        "from itertools import islice; from signet_runtime.sources.video import Video;"
        "from signet_runtime.pose.holistic.estimator import HolisticEstimator; from pathlib import Path;"
        f"e = HolisticEstimator({{k: Path(v) for k, v in { ({k: str(v) for k, v in models.items()})!r}.items()}});"
        f"v = Video({str(shared_data / 'wlasl_01214.mp4')!r});"
        "n = sum(s.any() for _, s in e.estimate(islice(v, 12))); assert n == 12, n; e.close()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")


def test_the_detectors_have_the_cells_that_their_anchors_are_made_for(models, recording):
    for name, strides in (("pose_detection", (8, 16, 32, 32, 32)), ("face_detection_short_range", (8, 16, 16, 16))):
        model = Model(models[name], (0, 1), low=-1.0)
        values, logits = model(recording[0], Roi(360, 425, 850, 0.0))
        assert len(anchors(model.side, strides)) == len(values) == len(logits)
        assert len(decoded(values, logits[:, 0], anchors(model.side, strides), model.side).scores)
