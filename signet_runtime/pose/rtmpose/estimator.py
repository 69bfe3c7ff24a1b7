"""RTMPose whole-body through rtmlib: a person detector (YOLOX), then 133 keypoints in the signer's box."""

from __future__ import annotations

import contextlib
import io
import os
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from signet_runtime.errors import EngineError
from signet_runtime.pose.rtmpose.signer_box import SignerBox
from signet_runtime.skeleton import NUM_KEYPOINTS
from signet_runtime.sources.deferred import deferred_errors
from signet_runtime.sources.prefetch import prefetch

# rtmlib's model sets; "performance" is the x-size model that the paper used.
MODES = ("lightweight", "balanced", "performance")

# Frames whose crops go through the pose model together, where the model takes batches.
_BATCH = 8


class RTMPoseEstimator:
    """rtmlib's whole-body models on ONNX Runtime, with rtmlib's own pre- and post-processing.

    rtmlib is fed BGR, the order of the OpenCV frames it was written for and of the published keypoint
    archives made with it. Only the signer (see `SignerTracker`) is posed; frames without the signer score 0. Scores
    are SimCC peaks, which overshoot 1 a little, clipped to [0, 1].

    Args:
        mode: one of `MODES`.
        offline: use only weights that are here; otherwise rtmlib may download what is missing.
        device: "cpu", "cuda" or "cuda:1".
        weights: directory of the weights, see `find_weights`.
        detect_every: look for people in every so many frames, and pose the signer in the same box until then (see
            `SignerBox`). 1, every frame, is what the published archives were made with.

    Raises:
        EngineError: rtmlib or OpenCV cannot be loaded, the weights are missing, cannot be downloaded or are
            no such models, or ONNX Runtime does not run them on ``device``.
    """

    def __init__(
        self, mode: str, *, offline: bool, device: str = "cpu", weights: Path | None = None, detect_every: int = 1
    ) -> None:
        rtmlib = _import_rtmlib()
        _check_device(device)
        self.name = f"rtmpose-{mode}"
        self._detect_every = detect_every
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

    def estimate(self, frames: Iterable[np.ndarray], *, live: bool = False) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Keypoints and scores frame by frame; see `PoseEstimator.estimate`."""
        box = SignerBox(self._detect_every)
        with deferred_errors(frames) as readable:
            images = (np.ascontiguousarray(frame[..., ::-1]) for frame in readable)  # BGR
            if self._detect_every > 1:
                yield from self._held(images, box, 1 if live else self._batch)
                return
            crops: Iterator[_Crop] = (self._crop(image, self._detect(image, box)) for image in images)
            if not live:
                crops = prefetch(crops, self._batch)  # people are looked for in the next frames while some are posed
            while some := list(islice(crops, 1 if live else self._batch)):
                yield from self._keypoints(some)

    def close(self) -> None:
        """Drops the sessions."""
        del self._detector, self._pose

    def _held(
        self, images: Iterator[np.ndarray], box: SignerBox, batch: int
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Keypoints in a box that serves for several frames, for as long as they fit it."""
        waiting: deque[np.ndarray] = deque()
        together = batch
        while waiting or (waiting := deque(islice(images, 1))):
            detected = box.serves == 0
            if detected:
                self._detect(waiting[0], box)
            some = min(together, box.serves)
            waiting.extend(islice(images, max(0, some - len(waiting))))
            crops = [self._crop(image, box.corners) for image in islice(waiting, some)]
            for crop, (keypoints, scores) in zip(crops, self._keypoints(crops), strict=True):
                if not box.fits(keypoints * crop.size, scores, crop.region, crop.size):
                    together = 1  # the others' poses are lost: no more at once until one has fitted
                    break
                waiting.popleft()
                yield keypoints, scores
            else:
                together = together if detected else min(2 * together, batch)

    def _detect(self, image: np.ndarray, box: SignerBox) -> np.ndarray | None:
        found = np.asarray(self._detector(image)).reshape(-1, 4)
        return box.update(found, (image.shape[1], image.shape[0]))

    def _crop(self, image: np.ndarray, corners: np.ndarray | None) -> _Crop:
        size = np.array([image.shape[1], image.shape[0]], np.float64)
        if corners is None:
            return _Crop(size)
        pixels, centre, scale = self._pose.preprocess(image, corners)
        return _Crop(size, pixels.transpose(2, 0, 1).astype(np.float32), centre, scale)

    def _keypoints(self, crops: list[_Crop]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Keypoints in fractions of the frame (133, 2) and scores (133,) of every crop; zeros for an empty one."""
        images = [crop.pixels for crop in crops if crop.pixels is not None]
        outputs: list[np.ndarray] = []
        if images:
            session = self._pose.session
            names = [out.name for out in session.get_outputs()]
            outputs = session.run(names, {session.get_inputs()[0].name: np.stack(images)})
        of_image = zip(*(np.split(out, len(images)) for out in outputs), strict=True)
        for crop in crops:
            if crop.pixels is None:
                yield np.zeros((NUM_KEYPOINTS, 2), np.float32), np.zeros(NUM_KEYPOINTS, np.float32)
            else:
                keypoints, scores = self._pose.postprocess(list(next(of_image)), crop.centre, crop.scale)
                yield (keypoints[0] / crop.size).astype(np.float32), np.clip(scores[0], 0, 1).astype(np.float32)


@dataclass(frozen=True)
class _Crop:
    """The signer as rtmlib's preprocessing cuts them out of a frame of ``size``, or nothing where there is none."""

    size: np.ndarray
    pixels: np.ndarray | None = None  # float32 (3, H, W)
    centre: np.ndarray | None = None
    scale: np.ndarray | None = None

    @property
    def region(self) -> np.ndarray | None:
        """What the pose model sees: left, top, right, bottom in pixels of the frame."""
        if self.centre is None or self.scale is None:
            return None
        return np.concatenate([self.centre - self.scale / 2, self.centre + self.scale / 2])


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
