"""Where RTMPose's weights lie on this machine: found, or downloaded by rtmlib."""

from __future__ import annotations

import contextlib
import io
import os
from pathlib import Path
from typing import Any

from signet_runtime.errors import EngineError, first_line
from signet_runtime.pose.installed import missing_library


def get_weights(mode: str, *, offline: bool, weights: Path | None = None) -> dict[str, Path]:
    """Return the files of `find_weights`, having downloaded into rtmlib's cache what is missing there.

    Raises:
        EngineError: they are missing, and a directory of the user's own was named, or nothing may be downloaded, or
            the download fails; or rtmlib cannot be loaded.
    """
    urls = import_rtmlib().Wholebody.MODE[mode]
    return {
        part: path or _download(urls[part], mode, offline=offline, weights=weights)
        for part, path in find_weights(mode, weights).items()
    }


def find_weights(mode: str, weights: Path | None = None) -> dict[str, Path | None]:
    """Return where a mode's detector ("det") and pose model ("pose") lie on this machine, None if nowhere.

    They are looked for in the directory ``weights``, or the one that ``SIGNET_RTMPOSE`` names, under the names
    ``detector.onnx`` and ``pose.onnx`` (models of one's own) or rtmlib's; without such a directory in
    rtmlib's cache, ``~/.cache/rtmlib/hub/checkpoints``.

    Raises:
        EngineError: rtmlib cannot be loaded, or the directory is none.
    """
    rtmlib = import_rtmlib()
    directory = weights_directory(weights)
    found: dict[str, Path | None] = {}
    for part, own_name in (("det", "detector.onnx"), ("pose", "pose.onnx")):
        name = Path(rtmlib.Wholebody.MODE[mode][part]).stem + ".onnx"
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
