"""RTMPose whole-body through rtmlib: a person detector (YOLOX), then 133 keypoints in the signer's box."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from signet_runtime.errors import EngineError
from signet_runtime.pose.signer import SignerTracker
from signet_runtime.skeleton import NUM_KEYPOINTS

# rtmlib's model sets; "performance" is the x-size model that the paper used.
MODES = ("lightweight", "balanced", "performance")

# Frames whose crops go through the pose model together, where the model takes batches.
_BATCH = 8


class RTMPoseEstimator:
    """rtmlib's whole-body models on ONNX Runtime, with rtmlib's own pre- and post-processing.

    rtmlib is fed BGR, the order of the OpenCV frames it was written for and of the published keypoint
    archives made with it. Everybody in view is detected in every frame, and only the signer (see
    `SignerTracker`) is posed; frames without the signer score 0. Scores are SimCC peaks, which overshoot 1
    a little, clipped to [0, 1].

    Args:
        mode: one of `MODES`.
        offline: use only weights that are here; otherwise rtmlib may download what is missing.
        device: "cpu", "cuda" or "cuda:1".
        weights: directory of the weights, see `find_weights`.

    Raises:
        EngineError: rtmlib or OpenCV cannot be loaded, the weights are missing, cannot be downloaded or are
            no such models, or ONNX Runtime does not run them on ``device``.
    """

    def __init__(self, mode: str, *, offline: bool, device: str = "cpu", weights: Path | None = None) -> None:
        rtmlib = _import_rtmlib()
        _check_device(device)
        self.name = f"rtmpose-{mode}"
        files = find_weights(mode, weights)
        for part, path in files.items():
            if path is None:
                files[part] = _download(rtmlib.Wholebody.MODE[mode][part], mode, offline=offline, weights=weights)
        sizes = rtmlib.Wholebody.MODE[mode]
        self._detector = _load(rtmlib.YOLOX, files["det"], sizes["det_input_size"], device)
        self._pose = _load(rtmlib.RTMPose, files["pose"], sizes["pose_input_size"], device)
        joints = [out.shape[1] for out in self._pose.session.get_outputs() if len(out.shape) == 3]
        if joints != [NUM_KEYPOINTS, NUM_KEYPOINTS]:
            raise EngineError(f"{files['pose']}: not a whole-body model (SimCC of x and of y for 133 joints)")
        batch, _, height, width = _input_shape(self._pose)
        if isinstance(height, int) and isinstance(width, int):  # a model of one's own may have another size
            self._pose.model_input_size = (width, height)
        _, _, height, width = _input_shape(self._detector)
        if isinstance(height, int) and isinstance(width, int):
            self._detector.model_input_size = (height, width)  # rtmlib's order differs between the two
        self._batch = 1 if isinstance(batch, int) else _BATCH

    def estimate(self, frames: Iterable[np.ndarray]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Keypoints and scores frame by frame; see `PoseEstimator.estimate`."""
        signer = SignerTracker()
        images = iter(frames)
        while batch := [self._crop(image, signer) for image in islice(images, self._batch)]:
            found = self._keypoints([crop for crop, _ in batch if crop is not None])
            for crop, size in batch:
                if crop is None:
                    yield np.zeros((NUM_KEYPOINTS, 2), np.float32), np.zeros(NUM_KEYPOINTS, np.float32)
                else:
                    keypoints, scores = next(found)
                    yield (keypoints / size).astype(np.float32), np.clip(scores, 0, 1).astype(np.float32)

    def close(self) -> None:
        """Drops the sessions."""
        del self._detector, self._pose

    def _crop(self, image: np.ndarray, signer: SignerTracker) -> tuple[tuple[Any, ...] | None, np.ndarray]:
        """The signer's crop as rtmlib prepares it (image, centre, scale), or None; and the frame's size."""
        size = np.array([image.shape[1], image.shape[0]], np.float64)
        bgr = np.ascontiguousarray(image[..., ::-1])
        boxes = np.asarray(self._detector(bgr)).reshape(-1, 4)
        chosen = signer.update(boxes / np.tile(size, 2))
        return (None if chosen is None else self._pose.preprocess(bgr, boxes[chosen])), size

    def _keypoints(self, crops: list[tuple[Any, ...]]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Keypoints in pixels (133, 2) and scores (133,) of every crop."""
        if not crops:
            return
        images = np.stack([image.transpose(2, 0, 1) for image, _, _ in crops]).astype(np.float32)
        session = self._pose.session
        outputs = session.run([out.name for out in session.get_outputs()], {session.get_inputs()[0].name: images})
        for i, (_, centre, scale) in enumerate(crops):
            keypoints, scores = self._pose.postprocess([out[i : i + 1] for out in outputs], centre, scale)
            yield keypoints[0], scores[0]


def find_weights(mode: str, weights: Path | None = None) -> dict[str, Path | None]:
    """Where the detector ("det") and the pose model ("pose") of a mode lie on this machine, None if nowhere.

    Looked for in the directory ``weights``, or the one that ``SIGNET_RTMPOSE`` names, under the names
    ``detector.onnx`` and ``pose.onnx`` (models of one's own) or rtmlib's; without such a directory in
    rtmlib's cache, ``~/.cache/rtmlib/hub/checkpoints``.
    """
    rtmlib = _import_rtmlib()
    directory = weights_directory(weights)
    found: dict[str, Path | None] = {}
    for part, own_name in (("det", "detector.onnx"), ("pose", "pose.onnx")):
        name = Path(rtmlib.Wholebody.MODE[mode][part]).stem + ".onnx"
        candidates = [directory / own_name, directory / name] if directory else [_cache() / name]
        found[part] = next((path for path in candidates if path.is_file()), None)
    return found


def weights_directory(weights: Path | None = None) -> Path | None:
    """The user's own directory of weights, None for rtmlib's cache.

    Raises:
        EngineError: it is not a directory.
    """
    named = weights or os.environ.get("SIGNET_RTMPOSE")
    if not named:
        return None
    if not Path(named).is_dir():
        raise EngineError(f"{named}: not a directory of RTMPose weights (detector.onnx and pose.onnx)")
    return Path(named)


def _cache() -> Path:
    from rtmlib.tools.file import _get_rtmhub_dir

    return Path(_get_rtmhub_dir()) / "checkpoints"


def _download(url: str, mode: str, *, offline: bool, weights: Path | None) -> Path:
    from rtmlib.tools.file import download_checkpoint

    name = Path(url).stem + ".onnx"
    directory = weights_directory(weights)
    if directory is not None:
        raise EngineError(f"{directory}: no {name} (nor detector.onnx and pose.onnx) for rtmpose-{mode}")
    unpacked_by_rtmlib = (_cache() / Path(url).name).is_file()
    if (offline or os.environ.get("SIGNET_OFFLINE") == "1") and not unpacked_by_rtmlib:
        raise EngineError(
            f"no RTMPose weights for rtmpose-{mode} and no download while offline: put {name} into {_cache()}, "
            f"or name its directory in SIGNET_RTMPOSE (from {url})"
        )
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            return Path(download_checkpoint(url))
    except Exception as error:  # rtmlib lets through whatever urllib, zipfile and the file system raise
        raise EngineError(
            f"cannot download the RTMPose weights for rtmpose-{mode} ({_first_line(error)}): fetch {url} yourself, "
            f"and put the .zip into {_cache()}"
        ) from error


def _import_rtmlib() -> Any:
    try:
        import rtmlib
    except ModuleNotFoundError as error:
        raise EngineError(f"rtmlib is not installed ({error}): pip install 'rtmlib==0.0.16'") from error
    except ImportError as error:
        raise EngineError(missing_library(error)) from error
    return rtmlib


def missing_library(error: ImportError) -> str:
    """One line for an import that fails although the package is there."""
    if "libGL" in str(error):
        return "OpenCV needs libGL: install it (Debian, Ubuntu: apt-get install libgl1 libglib2.0-0)"
    return f"a pose library cannot be loaded: {_first_line(error)}"


def _provider(device: str) -> str:
    return "CPUExecutionProvider" if device == "cpu" else "CUDAExecutionProvider"


def _check_device(device: str) -> None:
    """Before anything is downloaded or loaded: can this ONNX Runtime have the device at all?"""
    import onnxruntime

    if device != "cpu" and device.split(":")[0] != "cuda":
        raise EngineError(f"RTMPose runs on cpu or cuda, not on '{device}'")
    if _provider(device) not in onnxruntime.get_available_providers():
        raise EngineError(
            "this ONNX Runtime has no CUDA: pip uninstall -y onnxruntime onnxruntime-gpu && "
            "pip install onnxruntime-gpu (never both), or use --device cpu"
        )


def _load(tool: Any, path: Path | None, size: tuple[int, int], device: str) -> Any:
    """An rtmlib tool with its session, on the provider that was asked for and no other."""
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # rtmlib prints what it loads
            loaded = tool(str(path), model_input_size=size, backend="onnxruntime", device=device)
    except Exception as error:  # ONNX Runtime has an exception of its own for every kind of bad model
        raise EngineError(f"{path}: not an RTMPose model that ONNX Runtime can load ({_first_line(error)})") from error
    providers = loaded.session.get_providers()
    if providers[0] != _provider(device):
        raise EngineError(
            f"{path}: asked for {device}, but ONNX Runtime fell back to {providers[0]}; "
            "install the CUDA and cuDNN libraries that this onnxruntime-gpu wants, or use --device cpu"
        )
    return loaded


def _input_shape(tool: Any) -> list[int | str]:
    """Of an image model, (N, 3, H, W); strings and None are free dimensions."""
    shape = tool.session.get_inputs()[0].shape
    if len(shape) != 4:
        raise EngineError(f"{tool.onnx_model}: not an RTMPose model (its input is {shape}, not N, 3, H, W)")
    return shape


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
