"""Keypoints in HDF5, as the reader of the paper's authors lays them out (github.com/elsobhano/SIGNET)."""

from __future__ import annotations

from typing import Any, BinaryIO

from signet_runtime.boundary import reading
from signet_runtime.errors import InputError
from signet_runtime.limits import check_limit
from signet_runtime.pose.people import Asked
from signet_runtime.pose.sequence import PoseSequence
from signet_runtime.pose.unisign import from_content
from signet_runtime.skeleton import NUM_KEYPOINTS


def read_hdf5(file: BinaryIO, asked: Asked | None = None) -> PoseSequence:
    """Read the signer's keypoints from an HDF5 file.

    The attribute ``num_frames`` says how many frames there are, ``keypoints`` (T, 133, 2) and ``keypoint_scores``
    (T, 133) hold one person of each: theirs takes row t for frame t, whoever else was found. Numbers are read as those
    of a pickle of Uni-Sign's, see `read_unisign`; ``width`` and ``height`` may be attributes, where they are pixels.

    Raises:
        InputError: h5py is not installed; not HDF5, or damaged; a name that is missing or of another shape; more people
            than frames, of whom nothing says who is where; or numbers in another file than this one.
    """
    try:
        import h5py
    except ImportError as error:
        raise InputError("reading .h5 files needs h5py: pip install h5py") from error
    with reading("", InputError, "an HDF5 file"), h5py.File(file, "r") as content:
        arrays = _read(h5py, content)
    return from_content(arrays, asked)


def _read(h5py: Any, content: Any) -> dict[str, Any]:
    frames = content.attrs.get("num_frames")
    try:
        frames = int(frames)
    except (TypeError, ValueError):
        raise InputError("not a keypoint file: it has no attribute 'num_frames'") from None
    if frames <= 0:
        raise InputError(f"its num_frames is {frames}, which is no clip's")
    check_limit("frames", frames, "", InputError)
    found = {}
    for name, key, shape in (
        ("keypoints", "keypoints", (NUM_KEYPOINTS, 2)),
        ("keypoint_scores", "scores", (NUM_KEYPOINTS,)),
    ):
        if name not in content:
            raise InputError(f"not a keypoint file: it has no {name!r}")
        array = content[name] if isinstance(content.get(name, getlink=True), h5py.HardLink) else None
        # What an external or virtual data set holds is in a file of anybody's choice.
        if not isinstance(array, h5py.Dataset) or array.external or array.is_virtual:
            raise InputError(f"{name!r} is not an array in this file")
        if array.shape[1:] != shape or array.dtype.kind != "f":
            expected = ", ".join(map(str, ("frames", *shape)))
            raise InputError(f"{name!r} has the shape {array.shape} of {array.dtype}, not ({expected}) of floats")
        if len(array) != frames:
            raise InputError(
                f"{name!r} has {len(array)} rows and num_frames is {frames}: it must be one person of each frame"
            )
        found[key] = array[()]
    if {"width", "height"} <= set(content.attrs):
        found["w_h"] = [float(content.attrs["width"]), float(content.attrs["height"])]
    return found
