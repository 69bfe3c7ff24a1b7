"""Keypoint files of every kind that the runtime reads, from the file to what a model is given."""

from __future__ import annotations

import functools
import io
import json
import pickle
import random
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from signet_runtime.pose.files import parse_keypoints, read_keypoints
from signet_runtime.pose.people import Asked
from signet_runtime.pose.sequence import PoseSequence
from signet_runtime.pose.store import PoseStore, schema
from signet_runtime.regions import prepare
from tests.fuzz.mutations import edit_json, edit_npy, edit_zip
from tests.fuzz.target import Target, as_file

FRAMES = 4


@dataclass(frozen=True)
class _Model:
    frame_rate: float | None = 6.25
    max_frames: int = 64
    long_clips: str = "sampled"
    normalisation: str = "unisign"


def _use(sequence: PoseSequence) -> None:
    """Do what is done with all keypoints: the clock, the regions, and times that are written."""
    prepare(sequence, _Model())
    f"{round((sequence.start + sequence.duration) * 1000):d}"


def _parse(suffix: str) -> Callable[[bytes], None]:
    def parse(data: bytes) -> None:
        _use(parse_keypoints(io.BytesIO(data), suffix, f"input{suffix}", Asked()))

    return parse


def _read(name: str) -> Callable[[bytes], None]:
    def parse(data: bytes) -> None:
        _use(read_keypoints(as_file(data, name), Asked()))

    return parse


def _read_folder(data: bytes) -> None:
    _use(read_keypoints(as_file(data, "folder/a_000000000001_keypoints.json").parent, Asked()))


def _numbers(*shape: int) -> np.ndarray:
    return np.random.default_rng(1).uniform(0.2, 0.8, shape)


def _npz(**arrays: object) -> bytes:
    file = io.BytesIO()
    np.savez(file, **arrays)  # type: ignore[arg-type]
    return file.getvalue()


def _npz_seeds() -> list[bytes]:
    points, scores = _numbers(FRAMES, 133, 2).astype("f4"), _numbers(FRAMES, 133).astype("f4")
    rest = {"fps": np.float64(25), "size": np.array([64, 48]), "source": np.array("mediapipe"), "start": np.float64(0)}
    return [
        _npz(keypoints=points, scores=scores, **rest),
        _npz(keypoints=points[:, None], scores=scores[:, None], fps=np.array([25.0])),
        _npz(keypoints=np.concatenate([points, scores[..., None]], axis=2), size=np.array([64, 48])),
        _npz(bodies=_numbers(2, 18, 2), hands=_numbers(2, 42, 2), faces=_numbers(2, 68, 2)),
    ]


def _pickle_seeds() -> list[bytes]:
    points, scores = [_numbers(1, 133, 2) for _ in range(2)], [_numbers(1, 133) for _ in range(2)]
    lists = {"keypoints": [p.tolist() for p in points], "scores": [s.tolist() for s in scores]}
    contents = [
        ({"keypoints": points, "scores": scores}, 4),
        ({"keypoints": points, "scores": scores, "fps": np.float32(50), "start": 0, "end": np.int64(2)}, 2),
        ({**lists, "w_h": [64, 48]}, 5),
        ({**lists, "w_h": (64, 48)}, 0),
        ({"keypoints": np.stack(points), "scores": np.stack(scores)}, 3),
    ]
    return [pickle.dumps(content, protocol) for content, protocol in contents]


def _pose_seeds() -> list[bytes]:
    from pose_format import Pose
    from pose_format.numpy import NumPyPoseBody
    from pose_format.pose_header import PoseHeader, PoseHeaderComponent, PoseHeaderDimensions

    from signet_runtime.pose.holistic_files import _MESH

    made = []
    for people, face in ((1, [str(vertex) for vertex in sorted(_MESH)]), (2, ["0", "7"])):
        names = {
            "POSE_LANDMARKS": [f"p{i}" for i in range(33)],
            "FACE_LANDMARKS": face,
            "LEFT_HAND_LANDMARKS": [f"l{i}" for i in range(21)],
            "RIGHT_HAND_LANDMARKS": [f"r{i}" for i in range(21)],
        }
        components = [PoseHeaderComponent(name, points, [], [], "XYZC") for name, points in names.items()]
        total = 33 + len(face) + 42
        body = NumPyPoseBody(25, 90 * _numbers(2, people, total, 3), np.ones((2, people, total)))
        file = io.BytesIO()
        Pose(PoseHeader(0.1, PoseHeaderDimensions(200, 100, 0), components), body).write(file)
        made.append(file.getvalue())
    return made


def _h5_seeds() -> list[bytes]:
    import h5py

    made = []
    for size in ({}, {"width": 64, "height": 48}):
        file = io.BytesIO()
        with h5py.File(file, "w") as content:
            content.attrs.update(num_frames=2, **size)
            content["keypoints"], content["keypoint_scores"] = _numbers(2, 133, 2), _numbers(2, 133)
        made.append(file.getvalue())
    return made


def _npy_seeds() -> list[bytes]:
    made = []
    for array in (_numbers(2, 1662).astype("f4"), _numbers(2, 543, 3), _numbers(1662)):
        file = io.BytesIO()
        np.save(file, array)
        made.append(file.getvalue())
    return made


def _parquet_seeds() -> list[bytes]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    counts = {"face": 468, "left_hand": 21, "pose": 33, "right_hand": 21}
    rows = [(frame, kind, index) for frame in (3, 4) for kind, count in counts.items() for index in range(count)]
    frame, kind, index = (list(column) for column in zip(*rows, strict=True))
    x, y = _numbers(2, len(rows))
    table = pa.table({"frame": frame, "type": kind, "landmark_index": index, "x": x, "y": y})
    made = []
    for compression in ("none", "snappy"):
        file = io.BytesIO()
        pq.write_table(table, file, compression=compression)
        made.append(file.getvalue())
    return made


def _json_seeds() -> list[bytes]:
    def triples(count: int) -> list[float]:
        return [round(float(n), 3) for n in _numbers(count * 3)]

    hands = {"hand_left_keypoints_2d": triples(21), "hand_right_keypoints_2d": triples(21)}
    openpose = {"people": [{"pose_keypoints_2d": triples(25), "face_keypoints_2d": triples(70), **hands}]}
    canvas = {"people": [{"pose_keypoints_2d": triples(18), **hands}] * 2, "canvas_width": 64, "canvas_height": 48}
    person = {"keypoints": _numbers(133, 2).round(3).tolist(), "keypoint_scores": _numbers(133).round(3).tolist()}
    mmpose = {"instance_info": [{"frame_id": n, "instances": [person]} for n in range(2)], "fps": 25, "size": [64, 48]}
    contents = (openpose, [canvas, {"people": []}], mmpose, [{"instances": [person]}], [person, person])
    return [json.dumps(content).encode() for content in contents]


def _openpose_seeds() -> list[bytes]:
    return [seed for seed in _json_seeds() if seed.startswith(b'{"people"')]


def _store_seeds() -> list[bytes]:
    import pyarrow as pa

    frames = np.random.default_rng(1).integers(0, 65535, (2, 3 * 133 * 2), dtype=np.uint16).astype("<u2")
    rows = {"id": ["a", "b/c"], "source": ["mediapipe", "rtmpose"], "fps": [25.0, 6.25], "width": [64, 1]}
    rows |= {"height": [48, 1], "low_x": [0.0, 0.1], "low_y": [0.0, 0.1], "step_x": [1e-5] * 2, "step_y": [1e-5] * 2}
    rows |= {"levels": [frames[0].tobytes(), frames[:1].tobytes()]}
    sink = io.BytesIO()
    with pa.ipc.new_file(sink, schema()) as writer:
        writer.write_table(pa.table(rows, schema=schema()))
    return [sink.getvalue()]


def _parse_store(data: bytes) -> None:
    store = PoseStore(as_file(data, "input.arrow"))
    for clip in store.ids[:4]:
        _use(store[clip])


def _edit_pickle(rng: random.Random, data: bytes) -> bytes:
    """Repeat or exchange whole instructions, numbers above all."""
    import pickletools

    try:
        parts = [position for _, _, position in pickletools.genops(data) if position is not None]
    except Exception:
        return data[: rng.randrange(len(data) + 1)]
    if len(parts) < 2:
        return data
    at = rng.randrange(len(parts) - 1)
    start, end = parts[at], parts[at + 1]
    other = rng.randrange(len(parts) - 1)
    taken = data[parts[other] : parts[other + 1]]
    numbers = (b"L" + b"9" * 5000 + b"L\n", b"I-1\n", b"F1e999\n", b"Fnan\n", b"\x8a\xff" + b"\x7f" * 255, b"N")
    match rng.randrange(5):
        case 0:
            return data[:start] + data[end:]
        case 1:
            return data[:end] + data[start:end] * rng.choice((1, 3, 1000)) + data[end:]
        case 2:
            return data[:start] + taken + data[end:]
        case 3:
            return data[:start] + rng.choice(numbers) + data[end:]
        case _:
            return data[:start] + bytes([rng.randrange(256)]) + data[start + 1 :]


_cached = functools.cache

TARGETS = (
    Target("keypoints-npz", _parse(".npz"), _cached(_npz_seeds), edit_zip(edit_npy)),
    Target("keypoints-pickle", _parse(".pkl"), _cached(_pickle_seeds), _edit_pickle),
    Target("keypoints-pose", _parse(".pose"), _cached(_pose_seeds)),
    Target("keypoints-h5", _parse(".h5"), _cached(_h5_seeds)),
    Target("keypoints-npy", _read("input.npy"), _cached(_npy_seeds), edit_npy),
    Target("keypoints-parquet", _read("input.parquet"), _cached(_parquet_seeds)),
    Target("keypoints-json", _read("input.json"), _cached(_json_seeds), edit_json),
    Target("keypoints-openpose", _read_folder, _cached(_openpose_seeds), edit_json),
    Target("pose-store", _parse_store, _cached(_store_seeds)),
)
