"""Keypoint files: our own `.npz`, pose-format's `.pose`, and the `.pkl` of published archives."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

import numpy as np

from signet_runtime.errors import InputError, OutputError
from signet_runtime.files import whole_file
from signet_runtime.pose.mediapipe_landmarks import FACE_LANDMARKS, HEAD_LANDMARKS, to_wholebody
from signet_runtime.pose.sequence import PoseSequence
from signet_runtime.pose.signer import follow_signer
from signet_runtime.pose.unisign import read_unisign
from signet_runtime.skeleton import NUM_KEYPOINTS

KEYPOINT_SUFFIXES = {".npz", ".pose", ".pkl"}


def read_keypoints(path: str | Path) -> PoseSequence:
    """Return the keypoints of one signer from a file, by its suffix.

    - ``.npz``: what `write_keypoints` writes.
    - ``.pose``: MediaPipe Holistic landmarks in pose-format's layout.
    - ``.pkl``: Uni-Sign's layout, see `read_unisign`. Nothing in a pickle is ever executed: only numbers, strings,
      arrays and containers are admitted.

    Where a file holds several people, the signer is followed as in a video (see `SignerTracker`).

    Raises:
        InputError: no such file, not of its kind, damaged, unsafe, or without any confident joint.
    """
    path = Path(path)
    if path.is_dir():
        raise InputError(f"{path}: is a directory, not a keypoint file")
    if not path.exists():
        raise InputError(f"{path}: no such file")
    if path.suffix.lower() not in KEYPOINT_SUFFIXES:
        raise InputError(f"{path}: not a keypoint file ({', '.join(sorted(KEYPOINT_SUFFIXES))})")
    try:
        with path.open("rb") as file:
            return parse_keypoints(file, path.suffix, str(path))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from error


def parse_keypoints(file: BinaryIO, suffix: str, name: str) -> PoseSequence:
    """Return the keypoints of one signer from an open file, which may be inside of an archive.

    Args:
        file: read from where it is; seekable.
        suffix: one of `KEYPOINT_SUFFIXES`, in either case.
        name: what errors call the file.

    Raises:
        InputError: not of its kind, damaged, unsafe, or without any confident joint.
    """
    readers = {".npz": _read_npz, ".pose": _read_pose, ".pkl": read_unisign}
    try:
        sequence = readers[suffix.lower()](file)
        if not sequence.scores.any():
            raise InputError(f"no person in any of its {len(sequence)} frames")
        return sequence
    except InputError as error:
        raise InputError(f"{name}: {error}") from error


def write_keypoints(path: str | Path, sequence: PoseSequence) -> None:
    """Write a ``.npz`` that is there whole or not at all.

    Raises:
        OutputError: not a ``.npz`` path, or the file cannot be written (no such directory, no permission,
            disk full).
    """
    path = Path(path)
    if path.suffix.lower() != ".npz":
        raise OutputError(f"{path}: keypoints are written as .npz")
    with whole_file(path, "cannot write the keypoints ({})") as temporary, temporary.open("wb") as file:
        np.savez(
            file,
            keypoints=sequence.keypoints,
            scores=sequence.scores,
            fps=np.float64(sequence.fps),
            size=np.array(sequence.size, np.int64),
            source=np.array(sequence.source),
        )


def _read_npz(file: BinaryIO) -> PoseSequence:
    try:
        with np.load(file, allow_pickle=False) as arrays:
            width, height = (int(n) for n in arrays["size"])
            return PoseSequence(
                arrays["keypoints"], arrays["scores"], float(arrays["fps"]), (width, height), str(arrays["source"])
            )
    except (InputError, OSError):
        raise
    except Exception as error:  # a forged or cut-off archive can fail in any way: zip, zlib, numpy's header, …
        raise InputError("not a keypoint file that signet wrote, or a damaged one") from error


def _read_pose(file: BinaryIO) -> PoseSequence:
    try:
        from pose_format import Pose
    except ImportError as error:
        raise InputError("reading .pose files needs pose-format: pip install pose-format") from error
    try:
        pose = Pose.read(file.read())
    except OSError:
        raise
    except Exception as error:  # pose-format has no error of its own: struct, numpy, unicode, …
        raise InputError("not a .pose file, or a damaged one") from error
    parts, first = {}, 0
    for component in pose.header.components:
        parts[component.name] = (slice(first, first + len(component.points)), component.points)
        first += len(component.points)
    if "POSE_LANDMARKS" not in parts or len(parts["POSE_LANDMARKS"][1]) != 33:
        raise InputError(f"not MediaPipe Holistic landmarks (it has {', '.join(parts) or 'nothing'})")
    size = (pose.header.dimensions.width, pose.header.dimensions.height)
    confidence = np.asarray(pose.body.confidence)
    data = np.ma.getdata(pose.body.data)[..., :2] / np.array(size, np.float64)
    data = np.where(confidence[..., None] > 0, data, 0)  # what was not found may be NaN
    frames, people = confidence.shape[:2]
    keypoints = np.zeros((frames, people, NUM_KEYPOINTS, 2), np.float32)
    scores = np.zeros((frames, people, NUM_KEYPOINTS), np.float32)
    for t in range(frames):
        for person in range(people):
            keypoints[t, person], scores[t, person] = _wholebody(parts, data[t, person], confidence[t, person])
    one_keypoints, one_scores = follow_signer(keypoints, scores)
    return PoseSequence(one_keypoints, one_scores, float(pose.body.fps), size, "mediapipe")


def _wholebody(
    parts: dict[str, tuple[slice, list[str]]], data: np.ndarray, confidence: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return one person's keypoints (133, 2) and scores (133,) in one frame.

    A component that is missing, reduced beyond use or all 0 was not found.
    """

    def found(name: str) -> np.ndarray | None:
        where = parts[name][0] if name in parts else slice(0)
        return data[where] if (confidence[where] > 0).any() else None

    face = found("FACE_LANDMARKS")
    if face is not None:
        # Files may keep only some of the mesh's vertices; their names are the vertices' numbers.
        position = {name: i for i, name in enumerate(parts["FACE_LANDMARKS"][1])}
        needed = {*FACE_LANDMARKS.values(), *HEAD_LANDMARKS.values()}
        if all(str(vertex) in position for vertex in needed):
            mesh = np.zeros((478, 2))
            for vertex in needed:
                mesh[vertex] = face[position[str(vertex)]]
            face = mesh
        else:
            face = None
    body = parts["POSE_LANDMARKS"][0]
    return to_wholebody(data[body], confidence[body], face, found("LEFT_HAND_LANDMARKS"), found("RIGHT_HAND_LANDMARKS"))
