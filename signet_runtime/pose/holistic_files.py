"""MediaPipe Holistic's landmarks as others keep them: pose-format's `.pose`, `.npy` dumps, a competition's `.parquet`.

Arrays are of two layouts: 1662 numbers a frame (33 body points with x, y, z and visibility, then 468 of the face, 21 of
the left hand and 21 of the right one with x, y, z), where zeros were not found; or 543 points a frame (face, left hand,
body, right hand) with x, y and perhaps z, where NaN was not found. The parquet has the latter, a point a row.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from signet_runtime.boundary import open_regular, read_open, reading
from signet_runtime.errors import InputError
from signet_runtime.limits import check_limit, limits
from signet_runtime.pose.arrays import read_array
from signet_runtime.pose.mediapipe_landmarks import BODY_LANDMARKS, FACE_LANDMARKS, HEAD_LANDMARKS, to_wholebody
from signet_runtime.pose.people import Asked, Person, check_people, frame_rate, frame_size, in_step, signer_of
from signet_runtime.pose.sequence import PoseSequence
from signet_runtime.pose.signer import follow_signer, several
from signet_runtime.skeleton import NUM_KEYPOINTS, REGIONS

_BODY, _FACE, _LEFT, _RIGHT = (f"{part}_LANDMARKS" for part in ("POSE", "FACE", "LEFT_HAND", "RIGHT_HAND"))

# BlazePose's names of the points that `BODY_LANDMARKS` takes, and of a hand's.
_BODY_NAMES = {
    0: "NOSE",
    7: "LEFT_EAR",
    8: "RIGHT_EAR",
    2: "LEFT_EYE",
    5: "RIGHT_EYE",
    11: "LEFT_SHOULDER",
    12: "RIGHT_SHOULDER",
    13: "LEFT_ELBOW",
    14: "RIGHT_ELBOW",
    15: "LEFT_WRIST",
    16: "RIGHT_WRIST",
    23: "LEFT_HIP",
    24: "RIGHT_HIP",
    25: "LEFT_KNEE",
    26: "RIGHT_KNEE",
    27: "LEFT_ANKLE",
    28: "RIGHT_ANKLE",
}
_HAND_NAMES = ["WRIST", "THUMB_CMC", "THUMB_MCP", "THUMB_IP", "THUMB_TIP"] + [
    f"{finger}_{joint}"
    for finger in ("INDEX_FINGER", "MIDDLE_FINGER", "RING_FINGER", "PINKY")
    for joint in ("MCP", "PIP", "DIP", "TIP")
]
_MESH = {*FACE_LANDMARKS.values(), *HEAD_LANDMARKS.values()}

_DUMP = 33 * 4 + 468 * 3 + 2 * 21 * 3  # numbers a frame: 1662
_POINTS = 468 + 21 + 33 + 21  # points a frame: 543
# A row of a parquet file takes at least a tenth of a byte: two coordinates, which compress badly where they are any.
_ROWS_A_BYTE = 10


def read_pose(file: BinaryIO, asked: Asked) -> PoseSequence:
    """Return the signer's keypoints from pose-format's layout; reduced files serve where no used joint is missing.

    Raises:
        InputError: not that, or joints that SIGNET reads are not in it (they are named).
    """
    try:
        from pose_format import Pose
    except ImportError as error:
        raise InputError("reading .pose files needs pose-format: pip install pose-format") from error
    content = read_open(file, "keypoint_bytes", "", InputError)
    with reading("", InputError, "a .pose file"):
        pose = Pose.read(content)
        confidence = np.asarray(pose.body.confidence)
        frames, people, total = confidence.shape
        data = np.ma.getdata(pose.body.data)
        if data.shape[:3] != (frames, people, total) or data.shape[3] < 2:
            raise ValueError("points and confidence of different shapes")
        rate = float(pose.body.fps)
        size = frame_size(int(pose.header.dimensions.width), int(pose.header.dimensions.height))
    check_people(frames, people)
    places: dict[str, dict[str, int]] = {}
    first = 0
    for component in pose.header.components:
        places[component.name] = {name: first + i for i, name in enumerate(component.points)}
        if len(places[component.name]) < len(component.points):
            raise InputError(f"not a .pose file, or a damaged one ({component.name} has two points of one name)")
        first += len(component.points)
    if _BODY not in places:
        raise InputError(f"not MediaPipe Holistic landmarks (it has {', '.join(places) or 'nothing'})")
    if first != total:
        raise InputError(f"its header names {first} points, and its frames have {total}")
    points = _Points(places, asked.notes)
    data = data[..., :2] / np.array(size, np.float64)
    data[~(confidence > 0)] = 0  # what was not found may be NaN
    keypoints = np.zeros((frames, people, NUM_KEYPOINTS, 2), np.float32)
    scores = np.zeros((frames, people, NUM_KEYPOINTS), np.float32)
    for t in range(frames):
        for person in range(people):
            keypoints[t, person], scores[t, person] = points.wholebody(data[t, person], confidence[t, person])
    if people > 1:
        asked.notes.append(several(people, asked.signer))
    one_keypoints, one_scores = follow_signer(keypoints, scores, asked.signer)
    return PoseSequence(one_keypoints, one_scores, rate, size, "mediapipe")


class _Points:
    """Where a file that may keep only some of the landmarks has those that are used; -1 where it has not."""

    def __init__(self, places: dict[str, dict[str, int]], notes: list[str]) -> None:
        body, face = places[_BODY], places.get(_FACE, {})
        in_order = list(body.values())
        self.body = np.full(33, -1)
        if len(body) == 33:
            self.body[:] = in_order
        else:
            for index, name in _BODY_NAMES.items():
                self.body[index] = body.get(name, -1)
        self.face = np.full(478, -1)
        for vertex in _MESH:
            # Files may keep only some of the mesh's vertices; their names are the vertices' numbers.
            self.face[vertex] = face.get(str(vertex), -1)
        self.has_mesh = bool((self.face[list(_MESH)] >= 0).all())
        missing = [] if self.has_mesh else self._missing_head()
        missing += [
            f"{_BODY_NAMES[BODY_LANDMARKS[joint]]} of {_BODY}"
            for joint in REGIONS["body"].joints
            if joint not in HEAD_LANDMARKS and self.body[BODY_LANDMARKS[joint]] < 0
        ]
        self.hands = []
        for name in (_LEFT, _RIGHT):
            of_hand = places.get(name, {})
            names = list(of_hand) if len(of_hand) == 21 else _HAND_NAMES
            missing += [f"{point} of {name}" for point in names if point not in of_hand]
            self.hands.append(np.array([of_hand.get(point, -1) for point in names]))
        if missing:
            shown = ", ".join(missing[:6]) + (f" and {len(missing) - 6} more" if len(missing) > 6 else "")
            raise InputError(f"it lacks joints that SIGNET reads: {shown}")
        if not self.has_mesh:
            lacking = sum(str(vertex) not in face for vertex in _MESH)
            notes.append(f"its face is left out: {lacking} of the {len(_MESH)} vertices that SIGNET reads are missing")

    def _missing_head(self) -> list[str]:
        """Name the body's nose and ears, if neither the body's points nor the mesh have them."""
        return [
            f"{_BODY_NAMES[BODY_LANDMARKS[joint]]} of {_BODY} (or {vertex} of {_FACE})"
            for joint, vertex in HEAD_LANDMARKS.items()
            if self.body[BODY_LANDMARKS[joint]] < 0 and self.face[vertex] < 0
        ]

    def wholebody(self, data: np.ndarray, confidence: np.ndarray) -> Person:
        """Return one person in one frame; a face or hand whose points are all 0 was not found."""

        def found(where: np.ndarray) -> np.ndarray | None:
            there = where[where >= 0]
            return np.where((where >= 0)[:, None], data[where], 0) if (confidence[there] > 0).any() else None

        face = found(self.face) if self.has_mesh else None
        body = np.where((self.body >= 0)[:, None], data[self.body], 0)
        scores = np.where(self.body >= 0, confidence[self.body], 0)
        keypoints, confident = to_wholebody(body, scores, face, *(found(hand) for hand in self.hands))
        for joint, vertex in HEAD_LANDMARKS.items():
            if self.body[BODY_LANDMARKS[joint]] < 0 and confidence[self.face[vertex]] > 0:
                keypoints[joint], confident[joint] = data[self.face[vertex]], 1
        return keypoints, confident


def read_npy(file: BinaryIO, asked: Asked) -> PoseSequence:
    """Return the keypoints of an array (T, 1662), or (T, 543, 2 or more); fps is not in it.

    Raises:
        InputError: another array, or a damaged one.
    """
    return _from_array(_load(file), asked)


def read_npy_folder(path: Path, asked: Asked) -> PoseSequence:
    """Return the keypoints of a folder of arrays (1662,), a frame each, in the order of the numbers in their names.

    Raises:
        InputError: another array, or a damaged one.
    """
    names = sorted((p for p in path.glob("*.npy") if _is_number(p.stem)), key=lambda p: int(p.stem))
    check_limit("frames", len(names), "", InputError)
    if not names:
        raise InputError("no frame in it has a number for a name")
    frames = []
    for name in names:
        with open_regular(name, InputError, "an array that numpy saved") as file:
            frames.append(_load(file))
    if len({frame.shape for frame in frames}) != 1:
        raise InputError("its arrays are of different shapes, and not the frames of one recording")
    # Zeros, and where there are only points NaN, were not found.
    nobody = np.full(frames[0].shape, 0.0 if frames[0].shape == (_DUMP,) else np.nan)
    placed = in_step([int(name.stem) for name in names], asked)
    return _from_array(np.stack([nobody if n is None else frames[n] for n in placed]), asked)


def _is_number(stem: str) -> bool:
    return stem.isascii() and stem.isdecimal() and len(stem) <= 18


def _load(file: BinaryIO) -> np.ndarray:
    with reading("", InputError, "an array that numpy saved"):
        length = file.seek(0, io.SEEK_END)
        file.seek(0)
        return read_array(file, length, "fiu")


def _from_array(array: np.ndarray, asked: Asked) -> PoseSequence:
    array = array[None] if array.shape == (_DUMP,) else array
    check_limit("frames", array.shape[0] if array.ndim else 0, "", InputError)
    if array.ndim == 2 and array.shape[1] == _DUMP:
        frames = [_dumped(frame) for frame in array.astype(np.float64)]
    elif array.ndim == 3 and array.shape[1] == _POINTS and 2 <= array.shape[2] <= 4:
        frames = [_of_points(frame) for frame in array[..., :2].astype(np.float64)]
    else:
        raise InputError(
            f"an array of shape {array.shape}; MediaPipe Holistic's are (frames, {_DUMP}) or (frames, {_POINTS}, 3)"
        )
    rate = frame_rate(None, asked)
    return signer_of([[frame] for frame in frames], rate, None, "mediapipe", asked)


def _dumped(numbers: np.ndarray) -> Person:
    numbers = np.nan_to_num(numbers)
    body = numbers[:132].reshape(33, 4)
    face, left, right = (part.reshape(-1, 3)[:, :2] for part in np.split(numbers[132:], [1404, 1467]))
    found = [part if part.any() else None for part in (face, left, right)]
    return to_wholebody(body[:, :2], body[:, 3] * body[:, :2].any(), *found)


def _of_points(points: np.ndarray) -> Person:
    face, left, body, right = np.split(points, [468, 489, 522])
    there = np.isfinite(body).all(axis=1)
    found = [p if np.isfinite(p).all() else None for p in (face, left, right)]
    return to_wholebody(np.nan_to_num(body), there.astype(float), *found)


def read_parquet(file: BinaryIO, asked: Asked) -> PoseSequence:
    """Return the keypoints of a table with a landmark a row: frame, type, landmark_index, x, y.

    Raises:
        InputError: another table, a damaged one, or pyarrow is not there.
    """
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise InputError("reading .parquet files needs pyarrow: pip install pyarrow") from error
    columns = ("frame", "type", "landmark_index", "x", "y")
    with reading("", InputError, "a table of MediaPipe's landmarks"):
        length = file.seek(0, io.SEEK_END)
        file.seek(0)
        opened: Any = pyarrow.parquet.ParquetFile(file)
        missing = [column for column in columns if column not in opened.schema_arrow.names]
        if missing:
            raise InputError(f"not a table of MediaPipe's landmarks: no column {missing[0]} ({', '.join(columns)})")
        rows = opened.metadata.num_rows
        if rows > min(_ROWS_A_BYTE * length, _POINTS * limits().people):
            raise InputError(f"it declares {rows} landmarks in {length} bytes")
        table = opened.read(columns=list(columns), use_threads=False)
        frame, kind, index, x, y = (table[column].to_numpy(zero_copy_only=False) for column in columns)
        first = {"face": 0, "left_hand": 468, "pose": 489, "right_hand": 522}
        place = np.array([first[name] for name in kind], np.int64) + index.astype(np.int64)
        numbers, row = np.unique(frame.astype(np.int64), return_inverse=True)
        check_limit("frames", len(numbers), "", InputError)
        placed = in_step(numbers.tolist(), asked)
        points = np.full((len(placed), _POINTS, 2), np.nan)
        points[np.flatnonzero([n is not None for n in placed])[row], place] = np.stack([x, y], axis=-1)
    return _from_array(points, asked)
