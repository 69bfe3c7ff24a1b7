"""Keypoint files come back as they were; unsafe or damaged ones are refused without being executed."""

from __future__ import annotations

import errno
import io
import os
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from signet_runtime.errors import InputError, OutputError
from signet_runtime.pose.files import parse_keypoints, read_keypoints, write_keypoints
from signet_runtime.pose.mediapipe_landmarks import BODY_LANDMARKS, FACE_LANDMARKS
from signet_runtime.pose.sequence import PoseSequence

FRAMES = 6


@pytest.fixture
def sequence() -> PoseSequence:
    rng = np.random.default_rng(0)
    return PoseSequence(
        rng.uniform(0.2, 0.8, (FRAMES, 133, 2)), rng.uniform(0, 1, (FRAMES, 133)), 29.97, (720, 850), "rtmpose-balanced"
    )


def pickled(path: Path, content, protocol: int = 4) -> Path:
    path.write_bytes(pickle.dumps(content, protocol=protocol))
    return path


def unisign(sequence: PoseSequence, **extra) -> dict:
    keypoints = list(sequence.keypoints[:, None].astype(np.float64))
    return {"keypoints": keypoints, "scores": list(sequence.scores[:, None]), **extra}


def test_npz_round_trip_is_exact(tmp_path, sequence):
    path = tmp_path / "Gebärde 1.npz"
    write_keypoints(path, sequence)
    again = read_keypoints(path)
    np.testing.assert_array_equal(again.keypoints, sequence.keypoints)
    np.testing.assert_array_equal(again.scores, sequence.scores)
    assert (again.fps, again.size, again.source) == (sequence.fps, sequence.size, sequence.source)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_a_full_disk_leaves_the_old_file_and_nothing_else(tmp_path, sequence, monkeypatch):
    path = tmp_path / "a.npz"
    write_keypoints(path, sequence)
    before = path.read_bytes()

    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match="No space left") as error:
        write_keypoints(path, sequence)
    assert "\n" not in str(error.value)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


def test_places_that_cannot_be_written(tmp_path, sequence):
    for path in (tmp_path / "none" / "a.npz", tmp_path / "a.txt"):
        with pytest.raises(OutputError, match=str(path)):
            write_keypoints(path, sequence)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("protocol", range(6))
def test_published_pickles_of_any_protocol(tmp_path, sequence, protocol):
    again = read_keypoints(pickled(tmp_path / "a.pkl", unisign(sequence), protocol))
    np.testing.assert_array_equal(again.keypoints, sequence.keypoints)
    np.testing.assert_array_equal(again.scores, sequence.scores)
    assert again.fps == 25 and len(again) == FRAMES


def test_pickles_of_pixels_lists_and_a_part_of_the_recording(tmp_path, sequence):
    pixels = [frame * sequence.size for frame in sequence.keypoints[:, None].astype(np.float64)]
    content = {
        "keypoints": [frame.tolist() for frame in pixels],
        "scores": [s[None].tolist() for s in sequence.scores],
        "w_h": [720, 850],
        "start": 1,
        "end": np.int64(5),
        "fps": np.float32(50),
    }
    again = read_keypoints(pickled(tmp_path / "a.pkl", content))
    np.testing.assert_allclose(again.keypoints, sequence.keypoints[1:5], atol=1e-6)
    assert again.size == (720, 850) and again.fps == 50
    del content["w_h"]
    with pytest.raises(InputError, match="w_h"):
        read_keypoints(pickled(tmp_path / "a.pkl", content))


def test_the_signer_is_taken_from_several_people(tmp_path, sequence):
    small = 0.1 * sequence.keypoints
    frames = [
        (np.stack([small[t], sequence.keypoints[t]][: 1 + (t != 3)]), np.ones((1 + (t != 3), 133)))
        for t in range(FRAMES)
    ]
    content = {"keypoints": [k for k, _ in frames], "scores": [s for _, s in frames]}
    again = read_keypoints(pickled(tmp_path / "a.pkl", content))
    for t in range(FRAMES):
        if t == 3:
            assert not again.scores[t].any()  # only the other person was there
        else:
            np.testing.assert_array_equal(again.keypoints[t], sequence.keypoints[t])


class _Malicious:
    def __init__(self, function, *arguments) -> None:
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", [0, 2, 5])
def test_a_malicious_pickle_is_refused_and_never_executed(tmp_path, protocol):
    trap = tmp_path / "trap"
    for attack in (
        _Malicious(os.system, f"touch {trap}"),
        _Malicious(eval, f"open({str(trap)!r}, 'w')"),
        _Malicious(np.load, str(trap)),
        {"keypoints": [np.zeros((1, 133, 2))], "scores": _Malicious(os.mkdir, str(trap))},
        np.array([_Malicious(os.mkdir, str(trap))], dtype=object),
    ):
        with pytest.raises(InputError, match="refused") as error:
            read_keypoints(pickled(tmp_path / "a.pkl", attack, protocol))
        assert error.value.exit_code == 3
        assert not trap.exists()


def test_an_array_of_forged_object_pointers_is_refused(tmp_path):
    # The object dtype's flags, cleared by the pickle itself, would make numpy take raw bytes for pointers.
    class Forged:
        def __reduce__(self):
            return (np.dtype, ("O8", False, True), (3, "|", None, None, None, -1, -1, 0))

    class Pointers:
        def __reduce__(self):
            return (np.core.multiarray._reconstruct, (np.ndarray, (0,), b"b"), (1, (1,), Forged(), False, b"\x41" * 8))

    content = {"keypoints": Pointers(), "scores": Pointers()}
    with pytest.raises(InputError):
        read_keypoints(pickled(tmp_path / "a.pkl", content, protocol=2))


def test_damaged_and_foreign_files_are_one_line(tmp_path, sequence):
    write_keypoints(tmp_path / "whole.npz", sequence)
    whole = (tmp_path / "whole.npz").read_bytes()
    good = pickle.dumps(unisign(sequence))
    np.savez(tmp_path / "foreign.npz", a=np.zeros(3))
    files = {
        "cut.npz": whole[: len(whole) // 2],
        "empty.npz": b"",
        "cut.pkl": good[: len(good) // 2],
        "empty.pkl": b"",
        "list.pkl": pickle.dumps([1, 2]),
        "keys.pkl": pickle.dumps({"a": 1}),
        "text.pose": b"hello",
        "empty.pose": b"",
        "none.pkl": pickle.dumps({"keypoints": [], "scores": []}),
        "a.json": b"{}",
        "shape.pkl": pickle.dumps({"keypoints": [np.zeros((1, 17, 2))], "scores": [np.zeros((1, 17))]}),
        "nobody.pkl": pickle.dumps({"keypoints": [np.zeros((1, 133, 2))], "scores": [np.zeros((1, 133))]}),
        "nan.pkl": pickle.dumps({"keypoints": [np.full((1, 133, 2), np.nan)], "scores": [np.ones((1, 133))]}),
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    for name in (*files, "foreign.npz", "missing.npz", "."):
        with pytest.raises(InputError) as error:
            read_keypoints(tmp_path / name)
        message = str(error.value)
        assert str(tmp_path / name) in message and "\n" not in message and message.count(str(tmp_path)) == 1


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(-900, 900), st.integers(0, 255)), min_size=1, max_size=4), st.booleans())
def test_a_damaged_npz_is_refused_or_still_a_sequence(sequence, damages, compressed):
    file = io.BytesIO()
    arrays = {"keypoints": sequence.keypoints, "scores": sequence.scores}
    (np.savez_compressed if compressed else np.savez)(file, fps=25.0, size=(640, 480), source="a", **arrays)
    data = bytearray(file.getvalue())
    for at, value in damages:
        data[at % len(data)] = value
    try:
        assert np.isfinite(parse_keypoints(io.BytesIO(data), ".npz", "a.npz").keypoints).all()
    except InputError as error:
        assert str(error).startswith("a.npz: ") and "\n" not in str(error)


def holistic(tmp_path: Path, face_points: list[str], people: int = 1) -> Path:
    from pose_format import Pose
    from pose_format.numpy import NumPyPoseBody
    from pose_format.pose_header import PoseHeader, PoseHeaderComponent, PoseHeaderDimensions

    names = {
        "POSE_LANDMARKS": [f"p{i}" for i in range(33)],
        "FACE_LANDMARKS": face_points,
        "LEFT_HAND_LANDMARKS": [f"l{i}" for i in range(21)],
        "RIGHT_HAND_LANDMARKS": [f"r{i}" for i in range(21)],
    }
    components = [PoseHeaderComponent(name, points, [], [], "XYZC") for name, points in names.items()]
    header = PoseHeader(0.1, PoseHeaderDimensions(200, 100, 0), components)
    total = 33 + len(face_points) + 42
    data = np.random.default_rng(1).uniform(10, 90, (4, people, total, 3)).astype(np.float32)
    confidence = np.ones((4, people, total), np.float32)
    confidence[:, :, :33] = 0.8
    confidence[1, :, -21:] = 0  # the right hand is missing in the second frame
    path = tmp_path / "a.pose"
    with path.open("wb") as file:
        Pose(header, NumPyPoseBody(30, data, confidence)).write(file)
    return path


def test_pose_files_of_mediapipe_holistic(tmp_path):
    from pose_format import Pose

    path = holistic(tmp_path, [str(i) for i in range(478)])
    data = Pose.read(path.read_bytes()).body.data.data[:, 0, :, :2] / (200, 100)
    sequence = read_keypoints(path)
    assert (len(sequence), sequence.fps, sequence.size, sequence.source) == (4, 30, (200, 100), "mediapipe")
    np.testing.assert_allclose(sequence.keypoints[:, 9], data[:, BODY_LANDMARKS[9]], atol=1e-6)
    np.testing.assert_allclose(sequence.scores[:, 9], 0.8, atol=1e-6)
    np.testing.assert_allclose(sequence.keypoints[:, 31], data[:, 33 + FACE_LANDMARKS[31]], atol=1e-6)
    np.testing.assert_allclose(sequence.keypoints[:, 91:112], data[:, -42:-21], atol=1e-6)
    np.testing.assert_allclose(sequence.keypoints[0, 112:], data[0, -21:], atol=1e-6)
    assert (sequence.scores[:, 112:].max(axis=1) == [1, 0, 1, 1]).all()


def test_pose_files_with_a_reduced_face_keep_the_rest(tmp_path):
    sequence = read_keypoints(holistic(tmp_path, ["0", "7", "13"]))
    assert not sequence.scores[:, 23:91].any() and (sequence.scores[:, 91:112] == 1).all()
    assert (sequence.scores[:, 0] > 0).all()


def test_the_real_pickle_is_read_in_its_videos_frame(shared_data):
    sequence = read_keypoints(shared_data / "lis_news_0.pkl")
    assert len(sequence) == 126 and sequence.scores.max() <= 1
    assert sequence.size == (720, 850)  # it stores height before width
    assert 0.3 < sequence.keypoints[:, 0].mean() < 0.7


def test_a_npz_keeps_when_the_recording_starts(tmp_path, sequence):
    late = replace(sequence, start=4.04)
    write_keypoints(tmp_path / "a.npz", late)
    assert read_keypoints(tmp_path / "a.npz").start == 4.04
    assert late.take(np.arange(2, len(late))).start == pytest.approx(4.04 + 2 / late.fps)
    assert late.resample(late.fps / 2).start == 4.04
    with np.load(tmp_path / "a.npz") as arrays:
        parts = dict(arrays)
    del parts["start"]  # as files of before
    np.savez(tmp_path / "b.npz", **parts)
    assert read_keypoints(tmp_path / "b.npz").start == 0
    for wrong in (-1.0, np.inf, np.nan):
        np.savez(tmp_path / "c.npz", **parts, start=wrong)
        with pytest.raises(InputError, match=r"c\.npz: .*a recording starts at 0 s or later"):
            read_keypoints(tmp_path / "c.npz")
