"""Where RTMPose's weights lie on this machine: found, or pulled as the catalogue of models has them."""

from __future__ import annotations

import contextlib
import hashlib
import io
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from signet_runtime.errors import EngineError, SignetError, first_line, one_line
from signet_runtime.models.catalogue import Catalogue, ModelFile, built_in
from signet_runtime.models.downloads import is_offline
from signet_runtime.models.fetch import load_catalogue
from signet_runtime.models.home import Home
from signet_runtime.models.pull import Wishes, pull
from signet_runtime.models.reference import Reference
from signet_runtime.pose.installed import missing_library

logger = logging.getLogger("signet_runtime")

X_VARIABLE = "SIGNET_RTMPOSE_X"

# The published RTMW-x; the paper says that its keypoints are of the x-size model. rtmlib has no mode for it.
_X_NAME = "rtmw-x_simcc-cocktail13_pt-ucoco_270e-384x288-0949e3a9_20230925.onnx"

# SHA-256 of published files, by the names that rtmlib gives them. rtmlib itself checks nothing that it downloads.
KNOWN = {
    file.path: file.sha256
    for entry in built_in().models.values()
    if entry.format == "zipped-onnx"
    for file in entry.files
    if file.sha256 is not None
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
    """Return the files of `find_weights`, having pulled what is missing, as `signet-models pull rtmpose-MODE` does.

    A file under a published name is checked against the hash of it that is known: the catalogue's, or its own when it
    was pulled. One that was put there in another way, and that nobody has a hash of, is named in a warning.

    Raises:
        EngineError: they are missing, and a directory of the user's own was named, or nothing may be downloaded, or
            the download fails; or one is another file than was published; or rtmlib cannot be loaded.
    """
    found = find_weights(mode, weights)
    if None in found.values():
        _unpack_downloaded(mode, weights)
        found = find_weights(mode, weights)
    if None in found.values():
        _pull(mode, offline=offline, weights=weights)
        found = find_weights(mode, weights)
    files = {part: path for part, path in found.items() if path is not None}
    for path in files.values():
        _check(path, f"rtmpose-{mode}")
    return files


def _check(path: Path, name: str) -> None:
    if path.name in _OWN_NAMES.values():
        return
    expected = KNOWN.get(path.name)
    pulled = Home.default().installed(name)
    if expected is None and pulled is not None and path.is_relative_to(Home.default().directory(name)):
        expected = pulled.files[f"files/{path.name}"].sha256
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
    ``detector.onnx`` and ``pose.onnx`` (models of one's own) or rtmlib's; without such a directory among the models
    that were pulled (``signet-models path rtmpose-MODE``), then in rtmlib's cache, ``~/.cache/rtmlib/hub/checkpoints``.

    Raises:
        EngineError: rtmlib cannot be loaded, or the directory is none.
    """
    models = model_set(mode)
    directory = weights_directory(weights)
    found: dict[str, Path | None] = {}
    for part, own_name in _OWN_NAMES.items():
        name = Path(models[part]).stem + ".onnx"
        pulled = Home.default().directory(f"rtmpose-{mode}") / "files"
        candidates = [directory / own_name, directory / name] if directory else [pulled / name, _rtmlib_cache() / name]
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


def _unpack_downloaded(mode: str, weights: Path | None) -> None:
    """Let rtmlib unpack archives that lie in its cache."""
    if weights_directory(weights) is not None:
        return
    from rtmlib.tools.file import download_checkpoint

    urls = model_set(mode)
    for url in (urls[part] for part in _OWN_NAMES):
        if not (_rtmlib_cache() / Path(url).name).is_file():
            continue
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                download_checkpoint(url)
        except Exception as error:  # rtmlib lets through whatever zipfile and the file system raise
            raise EngineError(
                f"{_rtmlib_cache() / Path(url).name}: cannot be unpacked ({first_line(error)}); remove it to have it "
                "downloaded again"
            ) from error


def _pull(mode: str, *, offline: bool, weights: Path | None) -> None:
    """Pull both of a mode's files, each with its hash."""
    urls = model_set(mode)
    names = {part: Path(urls[part]).stem + ".onnx" for part in _OWN_NAMES}
    directory = weights_directory(weights)
    missing = next(names[part] for part, path in find_weights(mode, weights).items() if path is None)
    if directory is not None:
        raise EngineError(f"{directory}: no {missing} (nor detector.onnx and pose.onnx) for rtmpose-{mode}")
    if "://" not in urls["pose"]:
        raise EngineError(
            f"rtmlib has no weights for rtmpose-{mode}: put {names['pose']} into {_rtmlib_cache()}, name a directory "
            f"with detector.onnx and pose.onnx in SIGNET_RTMPOSE, or the URL of the weights in {X_VARIABLE}"
        )
    if is_offline(offline):
        raise EngineError(
            f"no RTMPose weights for rtmpose-{mode} and no download while offline: put {missing} into "
            f"{_rtmlib_cache()}, name its directory in SIGNET_RTMPOSE, or where there is a network: "
            f"signet-models pull rtmpose-{mode}"
        )
    home, name = Home.default(), f"rtmpose-{mode}"
    catalogue = load_catalogue(home=home)
    if name not in catalogue.models:  # its URL is the user's
        known = catalogue.entry("rtmpose-performance")
        files = tuple(ModelFile(path=names[part], url=urls[part], sha256=KNOWN.get(names[part])) for part in names)
        entry = known.model_copy(update={"summary": "weights from one's own URL", "files": files})
        catalogue = catalogue.with_own(Catalogue(models={name: entry}))
    try:
        pull(Reference(name, name, catalogue), home, Wishes(report=logger.info))
    except SignetError as error:
        raise EngineError(f"cannot download the RTMPose weights for rtmpose-{mode}: {one_line(error)}") from error


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
