"""Keypoint files: our own `.npz`, and what other programs and published archives keep them in."""

from __future__ import annotations

import contextlib
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from signet_runtime.boundary import look, open_regular, read_json, reading
from signet_runtime.errors import InputError, OutputError
from signet_runtime.files import whole_file
from signet_runtime.limits import check_limit
from signet_runtime.pose import holistic_files, mmpose, openpose
from signet_runtime.pose.arrays import read_arrays
from signet_runtime.pose.hdf5 import read_hdf5
from signet_runtime.pose.people import Asked
from signet_runtime.pose.sequence import PoseSequence
from signet_runtime.pose.shards import read_clip
from signet_runtime.pose.store import split_location
from signet_runtime.pose.unisign import read_unisign

KEYPOINT_SUFFIXES = {".npz", ".pose", ".pkl", ".h5"}

# Of other programs: what has these suffixes among a corpus' files need not be keypoints.
_OTHERS_SUFFIXES = {".npy", ".parquet", ".json"}


def is_keypoints(path: Path) -> bool:
    """Whether a path is keypoints by its name, or a folder of OpenPose's or MediaPipe's by the names in it."""
    if _is_directory(path):
        return _folder_reader(path) is not None
    if path.suffix.lower() == ".arrow" or split_location(str(path))[1] is not None:
        return True
    return path.suffix.lower() in KEYPOINT_SUFFIXES | _OTHERS_SUFFIXES


def read_keypoints(path: str | Path, asked: Asked | None = None) -> PoseSequence:
    """Return the keypoints of one signer from a file, by its suffix.

    - ``.npz``: what `write_keypoints` writes; or MMPose's or DWPose's, see `signet_runtime.pose.mmpose`.
    - ``.pose``: MediaPipe Holistic landmarks in pose-format's layout, perhaps reduced.
    - ``.pkl``: Uni-Sign's layout, see `read_unisign`. Nothing in a pickle is ever executed: only numbers, strings,
      arrays and containers are admitted.
    - ``.h5``: as the paper's authors lay them out, see `read_hdf5`; needs h5py.
    - ``.npy``, ``.parquet``: MediaPipe Holistic landmarks, see `signet_runtime.pose.holistic_files`.
    - ``poses.arrow#ID``: a clip of a pose store, see `signet_runtime.pose.store`; needs pyarrow.
    - ``.json``: OpenPose's or MMPose's; and folders of OpenPose's JSON files or MediaPipe's arrays, a frame each.

    Where a file holds several people, the signer is followed as in a video (see `SignerTracker`).

    Args:
        asked: the rate of a file that states none, and whom to follow; takes the notes.

    Raises:
        InputError: no such file, not of its kind, damaged, unsafe, or without any confident joint.
    """
    path, asked = Path(path), asked or Asked()
    suffix = path.suffix.lower()
    if not _is_directory(path) and (suffix == ".arrow" or split_location(str(path))[1] is not None):
        return _usable(read_clip(str(path)))
    if stat.S_ISDIR(look(path).st_mode):
        reader = _folder_reader(path)
        if reader is None:
            raise InputError(f"{path}: is a directory, not a keypoint file")
        with _naming(str(path)):
            return _usable(reader(path, asked))
    if suffix not in KEYPOINT_SUFFIXES | _OTHERS_SUFFIXES:
        raise InputError(f"{path}: not a keypoint file ({', '.join(sorted(KEYPOINT_SUFFIXES | _OTHERS_SUFFIXES))})")
    if suffix == ".json":
        content = read_json(path, "json_bytes", InputError, _IN_JSON, encoding="utf-8-sig")
        with _naming(str(path)):
            return _usable(_from_json(content, asked))
    with open_regular(path, InputError, "a keypoint file") as file:
        return parse_keypoints(file, suffix, str(path), asked)


def parse_keypoints(file: BinaryIO, suffix: str, name: str, asked: Asked | None = None) -> PoseSequence:
    """Return the keypoints of one signer from an open file, which may be inside of an archive.

    Args:
        file: read from where it is; seekable.
        suffix: one of `KEYPOINT_SUFFIXES`, ``.npy`` or ``.parquet``, in either case.
        name: what errors call the file.
        asked: see `read_keypoints`.

    Raises:
        InputError: not of its kind, damaged, unsafe, or without any confident joint.
    """
    with _naming(name):
        return _usable(_READERS[suffix.lower()](file, asked or Asked()))


@contextlib.contextmanager
def _naming(name: str) -> Iterator[None]:
    try:
        yield
    except InputError as error:
        raise InputError(f"{name}: {error}") from error


def _usable(sequence: PoseSequence) -> PoseSequence:
    """See that somebody is in it, at a rate, a size and a time that a recording can have."""
    check_limit("frames", len(sequence), "", InputError)
    check_limit("rate_low", sequence.fps, "", InputError)
    check_limit("rate_high", sequence.fps, "", InputError)
    check_limit("seconds", sequence.start, "", InputError)
    check_limit("pixels", sequence.size[0] * sequence.size[1], "", InputError)
    if not sequence.scores.any():
        raise InputError(f"no person in any of its {len(sequence)} frames")
    return sequence


_Reader = Callable[[Path, Asked], PoseSequence]


def _is_directory(path: Path) -> bool:
    try:
        return path.is_dir()
    except (OSError, ValueError):  # a name that is too long, a folder that may not be looked into
        return False


def _folder_reader(path: Path) -> _Reader | None:
    """Who reads a folder of keypoints, a file a frame; None where it is none."""
    try:
        names = [entry.name for entry in path.iterdir() if not entry.name.startswith(".")]
    except OSError:
        return None
    if any(name.endswith(openpose.SUFFIX) for name in names):
        return openpose.read_folder
    if any(name.endswith(".npy") and name[:-4].isdecimal() for name in names):
        return holistic_files.read_npy_folder
    return None


_IN_JSON = "JSON"


def _from_json(content: object, asked: Asked) -> PoseSequence:
    if openpose.is_openpose(content):
        return openpose.read_frames(content if isinstance(content, list) else [content], asked)
    if mmpose.is_mmpose(content):
        return mmpose.read_json(content, asked)
    raise InputError("JSON, but neither OpenPose's keypoints (people) nor MMPose's (instances)")


def write_keypoints(path: str | Path, sequence: PoseSequence, recording: str | None = None) -> None:
    """Write a ``.npz`` that is there whole or not at all.

    Args:
        recording: what they were found in, for whoever wants to know (see `signet_train.data.recordings`).

    Raises:
        OutputError: not a ``.npz`` path, or the file cannot be written (no such directory, no permission,
            disk full).
    """
    path = Path(path)
    if path.suffix.lower() != ".npz":
        raise OutputError(f"{path}: keypoints are written as .npz")
    with whole_file(path, "cannot write the keypoints ({})") as temporary, temporary.open("wb") as file:
        arrays: dict[str, Any] = {
            "keypoints": sequence.keypoints,
            "scores": sequence.scores,
            "fps": np.float64(sequence.fps),
            "size": np.array(sequence.size, np.int64),
            "source": np.array(sequence.source),
            "start": np.float64(sequence.start),
        }
        if recording is not None:
            arrays["recording"] = np.array(recording)
        np.savez(file, **arrays)


_WRITTEN = ("keypoints", "scores", "fps", "size", "source")


def _read_npz(file: BinaryIO, asked: Asked) -> PoseSequence:
    with reading("", InputError, "a keypoint file that signet wrote"):
        arrays = read_arrays(file, {*_WRITTEN, "start", *mmpose.ARRAYS})
        others = "source" not in arrays and ("keypoints" in arrays or "bodies" in arrays)
        if not others:
            width, height = (int(n) for n in arrays["size"])
            fps, source = float(arrays["fps"]), str(arrays["source"])
            start = float(arrays["start"]) if "start" in arrays else 0.0  # files of before do not say it
            keypoints, scores = (arrays[name].astype(np.float32, copy=False) for name in ("keypoints", "scores"))
    if others:
        return mmpose.read_npz(arrays, asked)
    return PoseSequence(keypoints, scores, fps, (width, height), source, start)


_READERS: dict[str, Callable[[BinaryIO, Asked], PoseSequence]] = {
    ".npz": _read_npz,
    ".pose": holistic_files.read_pose,
    ".h5": read_hdf5,
    ".pkl": read_unisign,
    ".npy": holistic_files.read_npy,
    ".parquet": holistic_files.read_parquet,
}
