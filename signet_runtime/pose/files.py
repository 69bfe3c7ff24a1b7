"""Keypoint files: our own `.npz`, pose-format's `.pose`, and the `.pkl` of published keypoint archives."""

from __future__ import annotations

import os
import pickle
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from signet_runtime.errors import InputError
from signet_runtime.pose.landmarks import FACE_LANDMARKS, HEAD_LANDMARKS, to_wholebody
from signet_runtime.pose.sequence import PoseSequence
from signet_runtime.pose.signer import follow_signer
from signet_runtime.skeleton import NUM_KEYPOINTS

KEYPOINT_SUFFIXES = {".npz", ".pose", ".pkl"}

# The pickles do not say; 25 is the rate of most of the archives that have this layout.
UNKNOWN_FRAME_RATE = 25.0

_PIXELS = 10.0  # no normalised coordinate is this far out of the frame, and some joint's pixel always is
_CONFIDENCE = 0.3


def read_keypoints(path: str | Path) -> PoseSequence:
    """Keypoints of one signer from a file, by its suffix.

    - ``.npz``: what `write_keypoints` writes.
    - ``.pose``: MediaPipe Holistic landmarks in pose-format's layout.
    - ``.pkl``: ``keypoints``, a list over frames of (people, 133, 2), and ``scores``, of (people, 133);
      optional ``start`` and ``end`` (frames in use), ``w_h`` (frame size) and ``fps`` (else 25). Coordinates
      are fractions of the frame, or pixels together with ``w_h``. Without ``w_h`` the size reads (1, 1).
      Nothing in a pickle is ever executed: only numbers, strings, arrays and containers are admitted.

    Where a file holds several people, the signer is followed as in a video (see `SignerTracker`).

    Raises:
        InputError: no such file, not of its kind, damaged, unsafe, or without any confident joint.
    """
    path = Path(path)
    if path.is_dir():
        raise InputError(f"{path}: is a directory, not a keypoint file")
    if not path.exists():
        raise InputError(f"{path}: no such file")
    readers = {".npz": _read_npz, ".pose": _read_pose, ".pkl": _read_pickle}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise InputError(f"{path}: not a keypoint file ({', '.join(sorted(KEYPOINT_SUFFIXES))})")
    try:
        sequence = reader(path)
    except InputError as error:
        message = str(error)
        raise InputError(message if message.startswith(str(path)) else f"{path}: {message}") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from error
    if not sequence.scores.any():
        raise InputError(f"{path}: no person in any of its {len(sequence)} frames")
    return sequence


def write_keypoints(path: str | Path, sequence: PoseSequence) -> None:
    """Writes a ``.npz`` that is there whole or not at all.

    Raises:
        InputError: not a ``.npz`` path, or the file cannot be written (no such directory, no permission,
            disk full).
    """
    path = Path(path)
    if path.suffix.lower() != ".npz":
        raise InputError(f"{path}: keypoints are written as .npz")
    temporary: Path | None = None
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
            temporary = Path(file.name)
            np.savez(
                file, keypoints=sequence.keypoints, scores=sequence.scores, fps=np.float64(sequence.fps),
                size=np.array(sequence.size, np.int64), source=np.array(sequence.source),
            )  # fmt: skip
            file.flush()
            os.fsync(file.fileno())
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)  # a temporary file is private, a result is not
        temporary.replace(path)
        temporary = None
    except OSError as error:
        raise InputError(f"{path}: cannot write the keypoints ({error.strerror or error})") from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def _read_npz(path: Path) -> PoseSequence:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            width, height = (int(n) for n in arrays["size"])
            return PoseSequence(
                arrays["keypoints"], arrays["scores"], float(arrays["fps"]), (width, height), str(arrays["source"])
            )
    except (KeyError, ValueError, TypeError, EOFError, AttributeError, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: not a keypoint file that signet wrote, or a damaged one") from error


def _read_pose(path: Path) -> PoseSequence:
    try:
        from pose_format import Pose
    except ImportError as error:
        raise InputError(f"{path}: reading .pose files needs pose-format: pip install pose-format") from error
    try:
        pose = Pose.read(path.read_bytes())
    except OSError:
        raise
    except Exception as error:  # pose-format has no error of its own: struct, numpy, unicode, …
        raise InputError(f"{path}: not a .pose file, or a damaged one") from error
    parts, first = {}, 0
    for component in pose.header.components:
        parts[component.name] = (slice(first, first + len(component.points)), component.points)
        first += len(component.points)
    if "POSE_LANDMARKS" not in parts or len(parts["POSE_LANDMARKS"][1]) != 33:
        raise InputError(f"{path}: not MediaPipe Holistic landmarks (it has {', '.join(parts) or 'nothing'})")
    size = (pose.header.dimensions.width, pose.header.dimensions.height)
    confidence = np.asarray(pose.body.confidence)
    data = np.ma.getdata(pose.body.data)[..., :2] / np.array(size, np.float64)
    data = np.where(confidence[..., None] > 0, data, 0)  # what was not found may be NaN
    frames, people = confidence.shape[:2]
    keypoints = np.zeros((frames, people, NUM_KEYPOINTS, 2), np.float32)
    scores = np.zeros((frames, people, NUM_KEYPOINTS), np.float32)
    for t in range(frames):
        for person in range(people):
            keypoints[t, person], scores[t, person] = _holistic(parts, data[t, person], confidence[t, person])
    one_keypoints, one_scores = follow_signer(keypoints, scores)
    return PoseSequence(one_keypoints, one_scores, float(pose.body.fps), size, "mediapipe")


def _holistic(
    parts: dict[str, tuple[slice, list[str]]], data: np.ndarray, confidence: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """One person in one frame; a component that is missing, reduced beyond use or all 0 was not found."""

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


def _read_pickle(path: Path) -> PoseSequence:
    content = _load_pickle(path)
    try:
        start, end = content.get("start"), content.get("end")
        frames = slice(None if start is None else int(start), None if end is None else int(end))
        keypoints, scores = _stack_people(content["keypoints"][frames], content["scores"][frames])
        w_h = None if content.get("w_h") is None else np.asarray(content["w_h"], np.float64).reshape(-1, 2)[0]
        fps = float(content.get("fps") or UNKNOWN_FRAME_RATE)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise InputError(f"{path}: not a keypoint pickle (frames of (people, 133, 2) keypoints and scores)") from error
    confident = keypoints[scores > _CONFIDENCE]
    if len(confident) and np.abs(confident).max() > _PIXELS:
        if w_h is None:
            raise InputError(f"{path}: its keypoints are pixels and it has no w_h, the frame's width and height")
        w_h = _upright(w_h, confident)
        keypoints = keypoints / w_h
    size = (1, 1) if w_h is None else (int(w_h[0]), int(w_h[1]))
    one_keypoints, one_scores = follow_signer(keypoints, scores)
    return PoseSequence(one_keypoints, one_scores, fps, size, "rtmpose")


def _stack_people(keypoints: Any, scores: Any) -> tuple[np.ndarray, np.ndarray]:
    """(T, P, 133, 2) and (T, P, 133) from frames with any number of people; who is missing scores 0."""
    frames = [np.asarray(frame, np.float64).reshape(-1, NUM_KEYPOINTS, 2) for frame in keypoints]
    confidence = [np.asarray(frame, np.float64).reshape(-1, NUM_KEYPOINTS) for frame in scores]
    people = max((len(frame) for frame in frames), default=0)
    all_keypoints = np.zeros((len(frames), people, NUM_KEYPOINTS, 2))
    all_scores = np.zeros((len(frames), people, NUM_KEYPOINTS))
    for t, (points, values) in enumerate(zip(frames, confidence, strict=True)):
        if len(points) != len(values):
            raise ValueError("as many people in the scores as in the keypoints")
        all_keypoints[t, : len(points)], all_scores[t, : len(values)] = points, values
    return all_keypoints, all_scores


def _upright(w_h: np.ndarray, confident: np.ndarray) -> np.ndarray:
    """The frame's width and height: some archives store ``w_h`` as height and width.

    The order as named, unless fewer joints would lie outside the frame the other way round.
    """

    def outside(size: np.ndarray) -> int:
        return int(((confident < 0) | (confident > size)).any(axis=-1).sum())

    return w_h[::-1] if outside(w_h[::-1]) < outside(w_h) else w_h


# --- Reading a pickle without trusting it ---------------------------------------------------------------
# numpy's own constructors are not safe on forged input (a dtype's flags can be set from the pickle), so not
# even they are called: they are recorded, and arrays of plain numbers are then built from what was recorded.

_NUMPY_NAMES = {
    **{(f"numpy.{core}.multiarray", name): name for core in ("core", "_core") for name in ("_reconstruct", "scalar")},
    **{(f"numpy.{core}.numeric", "_frombuffer"): "_frombuffer" for core in ("core", "_core")},
    ("numpy", "ndarray"): "ndarray",
    ("numpy", "dtype"): "dtype",
    ("_codecs", "encode"): "encode",  # how old protocols write bytes
}


class _Recorded:
    """A call that the pickle asked for, with the state it set afterwards; nothing has been called."""

    def __init__(self, name: str, arguments: tuple[Any, ...]) -> None:
        self.name, self.arguments = name, arguments
        self.state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Recorder:
    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(self, *arguments: Any) -> _Recorded:
        return _Recorded(self.name, arguments)


class _RefusedError(Exception):
    pass


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _NUMPY_NAMES:
            raise _RefusedError(f"{module}.{name}")
        return _Recorder(_NUMPY_NAMES[module, name])


def _load_pickle(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            content = _resolve(_Unpickler(file, encoding="latin1").load())
    except _RefusedError as error:
        raise InputError(f"{path}: refused, its pickle asks for {error}, and only numbers and arrays may") from error
    except OSError:
        raise
    except Exception as error:  # a forged or cut-off pickle can fail in any way
        raise InputError(f"{path}: not a keypoint pickle, or a damaged one") from error
    if not isinstance(content, dict):
        raise InputError(f"{path}: not a keypoint pickle (it holds a {type(content).__name__}, not a dict)")
    return content


def _resolve(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _resolve(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_resolve(item) for item in value]
    if not isinstance(value, _Recorded):
        return value
    if value.name == "_reconstruct":  # the state is (version, shape, dtype, Fortran order, data)
        _, shape, dtype, fortran, data = value.state
        return _array(data, dtype, shape, "F" if fortran else "C")
    if value.name == "_frombuffer":
        return _array(*value.arguments)
    if value.name == "scalar":
        return _array(value.arguments[1], value.arguments[0], (1,), "C")[0]
    raise ValueError(value.name)


def _array(data: Any, dtype: _Recorded, shape: tuple[int, ...], order: str) -> np.ndarray:
    spec = dtype.arguments[0]
    if dtype.name != "dtype" or not isinstance(spec, str):
        raise ValueError("dtype")
    if spec.startswith("O"):  # an array of objects is their list
        return np.array(_resolve(data)).reshape(shape)
    byteorder = dtype.state[1] if dtype.state else "="
    plain = np.dtype(spec).newbyteorder(">" if byteorder == ">" else "<" if byteorder == "<" else "=")
    if plain.kind not in "fiub":
        raise ValueError(spec)
    if isinstance(data, _Recorded):
        data = data.arguments[0].encode("latin1")
    return np.frombuffer(data, plain).reshape(shape, order="F" if order == "F" else "C")
