"""Keypoints of other programs: the same signer is read from each of their files, and what is missing is named."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from signet_runtime.errors import InputError
from signet_runtime.pose.files import is_keypoints, read_keypoints
from signet_runtime.pose.holistic_files import _BODY_NAMES, _HAND_NAMES, _MESH
from signet_runtime.pose.mediapipe_landmarks import BODY_LANDMARKS, FACE_LANDMARKS, to_wholebody
from signet_runtime.pose.openpose import BODY_18, BODY_25
from signet_runtime.pose.people import Asked
from signet_runtime.skeleton import REGIONS

FRAMES, SIZE = 6, (640, 480)


@pytest.fixture
def landmarks() -> dict[str, np.ndarray]:
    """MediaPipe's, in fractions; the right hand is not found in the second frame."""
    random = np.random.default_rng(0)
    parts = {"face": 468, "left_hand": 21, "pose": 33, "right_hand": 21}
    made = {name: random.uniform(0.1, 0.9, (FRAMES, count, 3)) for name, count in parts.items()}
    made["right_hand"][1] = np.nan
    return made


def expected(landmarks: dict[str, np.ndarray], visibility: float) -> tuple[np.ndarray, np.ndarray]:
    xy = {name: part[..., :2] for name, part in landmarks.items()}
    frames = [
        to_wholebody(
            xy["pose"][t],
            np.full(33, visibility),
            xy["face"][t],
            xy["left_hand"][t],
            None if np.isnan(xy["right_hand"][t]).any() else xy["right_hand"][t],
        )
        for t in range(FRAMES)
    ]
    return np.stack([f[0] for f in frames]), np.stack([f[1] for f in frames])


def dump(landmarks: dict[str, np.ndarray]) -> np.ndarray:
    pose = np.concatenate([landmarks["pose"], np.full((FRAMES, 33, 1), 0.9)], axis=-1)
    rest = [np.nan_to_num(landmarks[name]).reshape(FRAMES, -1) for name in ("face", "left_hand", "right_hand")]
    return np.concatenate([pose.reshape(FRAMES, -1), *rest], axis=1)


def test_dumps_of_1662_numbers_in_one_file_or_one_a_frame(tmp_path: Path, landmarks: dict[str, np.ndarray]) -> None:
    keypoints, scores = expected(landmarks, 0.9)
    np.save(tmp_path / "a.npy", dump(landmarks))
    (tmp_path / "hello").mkdir()
    for number, frame in enumerate(dump(landmarks)):
        np.save(tmp_path / "hello" / f"{number}.npy", frame)
    for path in (tmp_path / "a.npy", tmp_path / "hello"):
        notes: list[str] = []
        assert is_keypoints(path)
        sequence = read_keypoints(path, Asked(notes=notes))
        np.testing.assert_allclose(sequence.keypoints, keypoints, atol=1e-6)
        np.testing.assert_allclose(sequence.scores, scores, atol=1e-6)
        assert (sequence.fps, sequence.source) == (25, "mediapipe")
        assert ["25 a second are assumed" in note for note in notes] == [True, False]
        assert read_keypoints(path, Asked(fps=30)).fps == 30


def test_points_of_the_sign_recognition_competition(tmp_path: Path, landmarks: dict[str, np.ndarray]) -> None:
    pa, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    rows = [
        {"frame": 20 + t, "row_id": f"{t}", "type": kind, "landmark_index": i, "x": x, "y": y, "z": z}
        for t in range(FRAMES)
        for kind, part in landmarks.items()
        for i, (x, y, z) in enumerate(part[t])
    ]
    parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    points = np.concatenate([landmarks[name] for name in ("face", "left_hand", "pose", "right_hand")], axis=1)
    np.save(tmp_path / "a.npy", points)
    for name in ("a.parquet", "a.npy"):
        sequence = read_keypoints(tmp_path / name, Asked(fps=30))
        np.testing.assert_allclose(sequence.keypoints, expected(landmarks, 1)[0], atol=1e-6)
        np.testing.assert_allclose(sequence.scores, expected(landmarks, 1)[1], atol=1e-6)
    parquet.write_table(pa.table({"frame": [1], "text": ["x"]}), tmp_path / "b.parquet")
    with pytest.raises(InputError, match=r"b\.parquet: not a table of MediaPipe's landmarks: no column type"):
        read_keypoints(tmp_path / "b.parquet")


def whole_body() -> tuple[np.ndarray, np.ndarray]:
    """(T, 133, 2) in pixels and (T, 133), without feet."""
    random = np.random.default_rng(1)
    points = random.uniform(50, 400, (FRAMES, 133, 2)).round(2)
    scores = random.uniform(0.5, 1, (FRAMES, 133)).round(3)
    scores[:, 17:23] = 0
    return np.where(scores[..., None] > 0, points, 0), scores


def openpose_person(
    points: np.ndarray, scores: np.ndarray, body: tuple[int, ...], faces: int
) -> dict[str, list[float]]:
    def flat(first: int, count: int) -> list[float]:
        part = np.concatenate([points[first : first + count], scores[first : first + count, None]], axis=1)
        return [float(n) for n in part.ravel()]

    joints = np.zeros((25 if body is BODY_25 else 18, 3))
    joints[list(body), :2], joints[list(body), 2] = points[:17], scores[:17]
    return {
        "pose_keypoints_2d": [float(n) for n in joints.ravel()],
        "face_keypoints_2d": flat(23, 68) + [0.0] * 3 * (faces - 68),
        "hand_left_keypoints_2d": flat(91, 21),
        "hand_right_keypoints_2d": flat(112, 21),
    }


@pytest.mark.parametrize(("body", "faces"), [(BODY_25, 70), (BODY_18, 68)])
def test_a_folder_of_openpose(tmp_path: Path, body: tuple[int, ...], faces: int) -> None:
    points, scores = whole_body()
    for t in range(FRAMES):
        frame = {"version": 1.3, "people": [openpose_person(points[t], scores[t], body, faces)]}
        (tmp_path / f"clip_{t:012}_keypoints.json").write_text(json.dumps(frame))
    (tmp_path / f"._clip_{0:012}_keypoints.json").write_bytes(b"\0")
    notes: list[str] = []
    sequence = read_keypoints(tmp_path, Asked(fps=24, notes=notes))
    side = np.ceil(points.max())
    np.testing.assert_allclose(sequence.keypoints, points / side, atol=1e-5)
    np.testing.assert_allclose(sequence.scores, scores, atol=1e-6)
    assert (sequence.fps, sequence.source) == (24, "openpose")
    assert notes == [f"its frames' size is not stated; a square of {int(side)} pixels is assumed"]


def test_openpose_in_one_file_with_a_canvas_and_nobody_in_a_frame(tmp_path: Path) -> None:
    points, scores = whole_body()
    frames = [
        {"people": [openpose_person(p, s, BODY_18, 70)], "canvas_width": SIZE[0], "canvas_height": SIZE[1]}
        for p, s in zip(points, scores, strict=True)
    ]
    frames[2] = {"people": [], "canvas_width": SIZE[0], "canvas_height": SIZE[1]}
    frames[3]["people"][0]["hand_left_keypoints_2d"] = None  # type: ignore[index]
    (tmp_path / "a.json").write_text(json.dumps(frames))
    sequence = read_keypoints(tmp_path / "a.json", Asked(fps=25))
    np.testing.assert_allclose(sequence.keypoints[[0, 1]], points[[0, 1]] / SIZE, atol=1e-5)
    assert not sequence.scores[2].any() and not sequence.scores[3, 91:112].any() and sequence.size == SIZE


def test_mmpose_as_json_and_npz(tmp_path: Path) -> None:
    points, scores = whole_body()
    instances = [
        {"frame_id": t, "instances": [{"keypoints": points[t].tolist(), "keypoint_scores": scores[t].tolist()}]}
        for t in range(FRAMES)
    ]
    content = {"meta_info": {}, "instance_info": instances, "size": list(SIZE), "fps": 12.5}
    (tmp_path / "a.json").write_text(json.dumps(content))
    np.savez(tmp_path / "a.npz", keypoints=points[:, None], scores=scores[:, None], fps=12.5, size=SIZE)
    np.savez(tmp_path / "b.npz", keypoints=np.dstack([points, scores]), fps=12.5, w_h=SIZE)
    for name in ("a.json", "a.npz", "b.npz"):
        sequence = read_keypoints(tmp_path / name)
        np.testing.assert_allclose(sequence.keypoints, points / SIZE, atol=1e-5)
        np.testing.assert_allclose(sequence.scores, scores, atol=1e-6)
        assert (sequence.fps, sequence.size) == (12.5, SIZE)


def test_what_dwpose_draws(tmp_path: Path) -> None:
    points, _ = whole_body()
    points /= SIZE
    bodies = np.full((FRAMES, 18, 2), -1.0)
    bodies[:, list(BODY_18)] = points[:, :17]
    hands = np.stack([points[:, 91:112], points[:, 112:]], axis=1)
    hands[0, 1] = -1
    np.savez(tmp_path / "a.npz", bodies=bodies, hands=hands, faces=points[:, None, 23:91])
    sequence = read_keypoints(tmp_path / "a.npz", Asked(fps=25))
    used = [joint for region in REGIONS.values() for joint in region.joints]
    np.testing.assert_allclose(sequence.keypoints[1:, used], points[1:, used], atol=1e-6)
    assert (sequence.scores[1:, used] == 1).all() and not sequence.scores[0, 112:].any()


def test_several_people_are_said(tmp_path: Path) -> None:
    points, scores = whole_body()
    np.savez(
        tmp_path / "a.npz", keypoints=np.stack([points, points / 4], 1), scores=np.stack([scores] * 2, 1), size=SIZE
    )
    notes: list[str] = []
    read_keypoints(tmp_path / "a.npz", Asked(fps=25, notes=notes))
    assert notes == ["2 people are in it; who moves their hands most is followed, --signer takes another"]


def reduced(path: Path, body: list[str], mesh: list[int], right: list[str] = _HAND_NAMES) -> Path:
    from pose_format import Pose
    from pose_format.numpy import NumPyPoseBody
    from pose_format.pose_header import PoseHeader, PoseHeaderComponent, PoseHeaderDimensions

    parts = {
        "POSE_LANDMARKS": body,
        "FACE_LANDMARKS": [str(vertex) for vertex in mesh],
        "LEFT_HAND_LANDMARKS": _HAND_NAMES,
        "RIGHT_HAND_LANDMARKS": right,
    }
    components = [PoseHeaderComponent(name, points, [], [], "XYZC") for name, points in parts.items()]
    count = sum(map(len, parts.values()))
    data = np.random.default_rng(2).uniform(10, 90, (4, 1, count, 3)).astype(np.float32)
    with path.open("wb") as file:
        header = PoseHeader(0.1, PoseHeaderDimensions(*SIZE, 0), components)
        Pose(header, NumPyPoseBody(25, data, np.full((4, 1, count), 0.9, np.float32))).write(file)
    return path


_ARMS = ["LEFT_SHOULDER", "RIGHT_SHOULDER", "LEFT_ELBOW", "RIGHT_ELBOW", "LEFT_WRIST", "RIGHT_WRIST"]


def test_a_reduced_pose_file_is_read_where_no_used_joint_is_missing(tmp_path: Path) -> None:
    from pose_format import Pose

    path = reduced(tmp_path / "a.pose", _ARMS, sorted(_MESH))
    data = Pose.read(path.read_bytes()).body.data.data[:, 0, :, :2] / SIZE
    sequence = read_keypoints(path)
    used = [joint for region in REGIONS.values() for joint in region.joints]
    assert (sequence.scores[:, used] > 0).all()
    np.testing.assert_allclose(sequence.keypoints[:, 9], data[:, 4], atol=1e-6)
    nose = len(_ARMS) + sorted(_MESH).index(FACE_LANDMARKS[53])
    np.testing.assert_allclose(sequence.keypoints[:, 0], data[:, nose], atol=1e-6)
    assert BODY_LANDMARKS[9] == 15 and _BODY_NAMES[15] == "LEFT_WRIST"


def test_what_a_reduced_pose_file_lacks_is_named(tmp_path: Path) -> None:
    contour = sorted(_MESH - {4})
    with pytest.raises(InputError, match=r"reads: NOSE of POSE_LANDMARKS \(or 4 of FACE_LANDMARKS\)$"):
        read_keypoints(reduced(tmp_path / "a.pose", _ARMS, contour))
    with pytest.raises(InputError, match=r"reads: LEFT_ELBOW of POSE_LANDMARKS$"):
        read_keypoints(reduced(tmp_path / "b.pose", [n for n in _ARMS if n != "LEFT_ELBOW"], sorted(_MESH)))
    with pytest.raises(InputError, match=r"reads: PINKY_TIP of RIGHT_HAND_LANDMARKS$"):
        read_keypoints(reduced(tmp_path / "c.pose", _ARMS, sorted(_MESH), _HAND_NAMES[:-1]))
    notes: list[str] = []
    sequence = read_keypoints(reduced(tmp_path / "d.pose", ["NOSE", *_ARMS], contour), Asked(notes=notes))
    assert (sequence.scores[:, [0, 3, 4]] > 0).all() and not sequence.scores[:, 23:91].any()
    assert notes == ["its face is left out: 1 of the 20 vertices that SIGNET reads are missing"]


def test_files_that_are_none_of_these(tmp_path: Path) -> None:
    np.save(tmp_path / "shape.npy", np.zeros((3, 100)))
    np.save(tmp_path / "text.npy", np.array(["x"]))
    (tmp_path / "cut.npy").write_bytes(b"\x93NUMPY")
    (tmp_path / "list.json").write_text("[1, 2]")
    (tmp_path / "cut.json").write_text('{"people": [')
    (tmp_path / "person.json").write_text('{"people": [{"pose_keypoints_2d": [1, 2, 3]}]}')
    (tmp_path / "joints.json").write_text('[{"instances": [{"keypoints": [[1, 2]], "keypoint_scores": [1]}]}]')
    (tmp_path / "empty.pose").write_bytes(b"")
    (tmp_path / "cut.parquet").write_bytes(b"PAR1")
    np.savez(tmp_path / "joints.npz", keypoints=np.zeros((2, 17, 2)), scores=np.zeros((2, 17)))
    for name, message in (
        ("shape.npy", r"shape \(3, 100\); MediaPipe Holistic's are"),
        ("text.npy", "not an array of numbers"),
        ("cut.npy", "not an array that numpy saved"),
        ("list.json", "neither OpenPose's keypoints"),
        ("cut.json", "not JSON"),
        ("person.json", r"frame 0: not OpenPose's, .*a part of 1 joints"),
        ("joints.json", r"frame 0: not MMPose's of 133 joints"),
        ("empty.pose", "not a .pose file"),
        ("cut.parquet", "damaged"),
        ("joints.npz", r"shape \(2, 1, 17, 2\)"),
    ):
        with pytest.raises(InputError, match=rf"{name}: .*{message}") as error:
            read_keypoints(tmp_path / name)
        assert "\n" not in str(error.value)


def test_frames_of_openpose_are_in_the_order_of_their_numbers_and_of_one_recording(tmp_path: Path) -> None:
    points, scores = whole_body()
    order = [8, 9, 10, 11, 99, 100]
    for number, t in zip(order, range(FRAMES), strict=True):
        person = openpose_person(points[t], scores[t], BODY_25, 70)
        (tmp_path / f"clip_2_{number}_keypoints.json").write_text(json.dumps({"people": [person]}))
    sequence = read_keypoints(tmp_path)
    np.testing.assert_allclose(sequence.keypoints * sequence.size, points, atol=1e-2)
    (tmp_path / "clip_3_0_keypoints.json").write_text(json.dumps({"people": []}))
    with pytest.raises(InputError, match=r"frames of several recordings \(clip_2, clip_3"):
        read_keypoints(tmp_path)


@pytest.mark.parametrize("step", [1, 2])
def test_frames_that_are_missing_keep_their_time(tmp_path: Path, landmarks: dict[str, np.ndarray], step: int) -> None:
    pa, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    lost = [2, 3]
    kept = [t for t in range(FRAMES) if t not in lost]
    points, scores = whole_body()
    for name in ("openpose", "npy"):
        (tmp_path / name).mkdir()
    rows = []
    for t in kept:
        person = openpose_person(points[t], scores[t], BODY_25, 70)
        (tmp_path / "openpose" / f"v_{20 + step * t}_keypoints.json").write_text(json.dumps({"people": [person]}))
        np.save(tmp_path / "npy" / f"{20 + step * t}.npy", dump(landmarks)[t])
        for kind, part in landmarks.items():
            for i, (x, y, _) in enumerate(part[t]):
                rows.append({"frame": 20 + step * t, "type": kind, "landmark_index": i, "x": x, "y": y})
    parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    for name in ("openpose", "npy", "a.parquet"):
        notes: list[str] = []
        sequence = read_keypoints(tmp_path / name, Asked(fps=25, notes=notes))
        assert len(sequence) == FRAMES
        assert [bool(frame.any()) for frame in sequence.scores] == [t not in lost for t in range(FRAMES)]
        assert notes[0] == "2 of its 6 frames are missing; nobody is seen in them"


@pytest.mark.parametrize("numbers", [[0, 1, 3, 4, 900], [0, 3, 5, 9], [7]])
def test_frames_without_a_step_are_taken_one_after_the_other(tmp_path: Path, numbers: list[int]) -> None:
    points, scores = whole_body()
    for t, number in enumerate(numbers):
        person = openpose_person(points[t], scores[t], BODY_25, 70)
        (tmp_path / f"v_{number}_keypoints.json").write_text(json.dumps({"people": [person]}))
    notes: list[str] = []
    assert len(read_keypoints(tmp_path, Asked(fps=25, notes=notes))) == len(numbers)
    assert not any("missing" in note for note in notes)
