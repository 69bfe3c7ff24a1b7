"""Where RTMPose's weights lie on this machine: found, or downloaded by rtmlib, and which files they are."""

from __future__ import annotations

import contextlib
import hashlib
import io
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from signet_runtime.errors import EngineError, first_line
from signet_runtime.pose.installed import missing_library

logger = logging.getLogger("signet_runtime")

X_VARIABLE = "SIGNET_RTMPOSE_X"

# The published RTMW-x; the paper says that its keypoints are of the x-size model. rtmlib has no mode for it.
_X_NAME = "rtmw-x_simcc-cocktail13_pt-ucoco_270e-384x288-0949e3a9_20230925.onnx"

# SHA-256 of published files, by the names that rtmlib gives them. rtmlib itself checks nothing that it downloads.
KNOWN = {
    "rtmw-dw-x-l_simcc-cocktail14_270e-384x288_20231122.onnx": (
        "bd033156e5104c4f5d2edfe0453e02661e30a2f3da453ec93c8764d561b83054"
    ),
    "rtmw-dw-l-m_simcc-cocktail14_270e-256x192_20231122.onnx": (
        "68db326c5c6f3273456f803eae0faf5440478369f2c3ee67258d2f36512e8d76"
    ),
    "yolox_tiny_8xb8-300e_humanart-6f3252f9.onnx": "ceb11c07298f95c50d7c5abeb906d03340c85f23aa79e3e66966e7fb6c307250",
}

_OWN_NAMES = {"det": "detector.onnx", "pose": "pose.onnx"}


def model_set(mode: str) -> Mapping[str, Any]:
    """Return a mode's detector and pose model as rtmlib describes its own: their URLs and the sizes of their inputs.

    "x", which rtmlib does not have, is RTMW-x with the detector of "performance"; ``SIGNET_RTMPOSE_X`` may say where
    it can be downloaded (a .zip with end2end.onnx, as OpenMMLab's, or an .onnx).

    Raises:
        EngineError: rtmlib cannot be loaded.
    """
    modes = import_rtmlib().Wholebody.MODE
    if mode != "x":
        return modes[mode]
    return {**modes["performance"], "pose": os.environ.get(X_VARIABLE) or _X_NAME}


def get_weights(mode: str, *, offline: bool, weights: Path | None = None) -> dict[str, Path]:
    """Return the files of `find_weights`, having downloaded into rtmlib's cache what is missing there.

    A file under a published name is checked against the hash of it that is known, and named in a warning where none is.

    Raises:
        EngineError: they are missing, and a directory of the user's own was named, or nothing may be downloaded, or
            the download fails; or one is another file than was published; or rtmlib cannot be loaded.
    """
    urls = model_set(mode)
    files = {
        part: path or _download(urls[part], mode, offline=offline, weights=weights)
        for part, path in find_weights(mode, weights).items()
    }
    for path in files.values():
        _check(path)
    return files


def _check(path: Path) -> None:
    if path.name in _OWN_NAMES.values():
        return
    expected = KNOWN.get(path.name)
    if expected is None:
        logger.warning("%s: which file this should be is not known, so it is used as it is", path)
        return
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise EngineError(f"{path}: cannot be read ({error.strerror or error})") from error
    if digest != expected:
        raise EngineError(
            f"{path}: not the published file of this name (its SHA-256 begins with {digest[:8]}, not {expected[:8]}): "
            "remove it to have it downloaded again, or use a model of your own as detector.onnx or pose.onnx"
        )


def find_weights(mode: str, weights: Path | None = None) -> dict[str, Path | None]:
    """Return where a mode's detector ("det") and pose model ("pose") lie on this machine, None if nowhere.

    They are looked for in the directory ``weights``, or the one that ``SIGNET_RTMPOSE`` names, under the names
    ``detector.onnx`` and ``pose.onnx`` (models of one's own) or rtmlib's; without such a directory in
    rtmlib's cache, ``~/.cache/rtmlib/hub/checkpoints``.

    Raises:
        EngineError: rtmlib cannot be loaded, or the directory is none.
    """
    models = model_set(mode)
    directory = weights_directory(weights)
    found: dict[str, Path | None] = {}
    for part, own_name in _OWN_NAMES.items():
        name = Path(models[part]).stem + ".onnx"
        candidates = [directory / own_name, directory / name] if directory else [_rtmlib_cache() / name]
        found[part] = next((path for path in candidates if path.is_file()), None)
    return found


def weights_directory(weights: Path | None = None) -> Path | None:
    """Return the user's own directory of weights, None for rtmlib's cache.

    Raises:
        EngineError: it is not a directory.
    """
    named = weights or os.environ.get("SIGNET_RTMPOSE")
    if not named:
        return None
    if not Path(named).is_dir():
        raise EngineError(f"{named}: not a directory of RTMPose weights (detector.onnx and pose.onnx)")
    return Path(named)


def _rtmlib_cache() -> Path:
    from rtmlib.tools.file import _get_rtmhub_dir

    return Path(_get_rtmhub_dir()) / "checkpoints"


def _download(url: str, mode: str, *, offline: bool, weights: Path | None) -> Path:
    from rtmlib.tools.file import download_checkpoint

    name = Path(url).stem + ".onnx"
    directory = weights_directory(weights)
    if directory is not None:
        raise EngineError(f"{directory}: no {name} (nor detector.onnx and pose.onnx) for rtmpose-{mode}")
    if "://" not in url:
        raise EngineError(
            f"rtmlib has no weights for rtmpose-{mode}: put {name} into {_rtmlib_cache()}, name a directory with "
            f"detector.onnx and pose.onnx in SIGNET_RTMPOSE, or the URL of the weights in {X_VARIABLE}"
        )
    unpacked_by_rtmlib = (_rtmlib_cache() / Path(url).name).is_file()
    if (offline or os.environ.get("SIGNET_OFFLINE") == "1") and not unpacked_by_rtmlib:
        raise EngineError(
            f"no RTMPose weights for rtmpose-{mode} and no download while offline: put {name} into {_rtmlib_cache()}, "
            f"or name its directory in SIGNET_RTMPOSE (from {url})"
        )
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            return Path(download_checkpoint(url))
    except Exception as error:  # rtmlib lets through whatever urllib, zipfile and the file system raise
        raise EngineError(
            f"cannot download the RTMPose weights for rtmpose-{mode} ({first_line(error)}): fetch {url} yourself, "
            f"and put the .zip into {_rtmlib_cache()}"
        ) from error


def import_rtmlib() -> Any:
    """Return the package rtmlib.

    Raises:
        EngineError: it is not installed, or OpenCV cannot be loaded.
    """
    try:
        import rtmlib
    except ModuleNotFoundError as error:
        raise EngineError(f"rtmlib is not installed ({error}): pip install 'rtmlib==0.0.16'") from error
    except ImportError as error:
        raise EngineError(missing_library(error)) from error
    return rtmlib
