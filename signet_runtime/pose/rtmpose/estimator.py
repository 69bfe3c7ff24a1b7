"""RTMPose whole-body through rtmlib: a person detector (YOLOX), then 133 keypoints in the signer's box."""

from __future__ import annotations

import contextlib
import io
import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from signet_runtime.errors import EngineError, first_line
from signet_runtime.pose.rtmpose.detected_box import DetectedBox
from signet_runtime.pose.rtmpose.weights import find_weights, get_weights, import_rtmlib, model_set
from signet_runtime.pose.signer import LookAhead, SignerTracker
from signet_runtime.skeleton import NUM_KEYPOINTS
from signet_runtime.sources.deferred import deferred_errors
from signet_runtime.sources.prefetch import prefetch

# Frames whose crops go through the pose model together, where the model takes batches.
_BATCH = 8

# How much of posing's time detection may take where that is left to the estimator, and for how many frames a box is
# held at most: a third of a second, in which a signer leaves what the pose model sees of it hardly ever.
_DETECTION_SHARE = 0.25
_HELD_AT_MOST = 8


def load(name: str, **options: Any) -> RTMPoseEstimator:
    """Load the estimator of a name, ``"rtmpose-MODE"``; see `RTMPoseEstimator`, whose keywords these are."""
    return RTMPoseEstimator(name.removeprefix("rtmpose-"), **options)


def describe_weights(name: str) -> str:
    """Return where the weights of an estimator of this name are, for doctor."""
    return " and ".join(str(path) for path in find_weights(name.removeprefix("rtmpose-")).values())


class RTMPoseEstimator:
    """rtmlib's whole-body models on ONNX Runtime, with rtmlib's own pre- and post-processing.

    rtmlib is fed BGR, the order of the OpenCV frames it was written for and of the published keypoint
    archives made with it. Only the signer (see `SignerTracker`) is posed; frames without the signer score 0. Scores
    are SimCC peaks, which overshoot 1 a little, clipped to [0, 1].

    Args:
        mode: of rtmlib's model sets "lightweight", "balanced" or "performance", which is RTMW-l distilled from x; or
            "x", RTMW-x itself, see `signet_runtime.pose.rtmpose.weights.model_set`.
        offline: use only weights that are here; otherwise rtmlib may download what is missing.
        device: "cpu", "cuda" or "cuda:1".
        weights: directory of the weights, see `signet_runtime.pose.rtmpose.weights.find_weights`.
        detect_every: look for people in every so many frames, and pose the signer in the same box until then (see
            `DetectedBox`). 1, every frame, is what rtmlib does. None is that too, but on a CPU takes as many as it
            needs there for detection to cost a quarter of posing at most, and says so.
        signer: whom to follow, see `SignerTracker`.

    Raises:
        EngineError: rtmlib or OpenCV cannot be loaded, the weights are missing, cannot be downloaded or are
            no such models, or ONNX Runtime does not run them on ``device``.
    """

    def __init__(
        self,
        mode: str,
        *,
        offline: bool,
        device: str = "cpu",
        weights: Path | None = None,
        detect_every: int | None = 1,
        signer: str = "active",
    ) -> None:
        self.notes: list[str] = []
        self._signer = signer
        rtmlib = import_rtmlib()
        _check_device(device)
        self.name = f"rtmpose-{mode}"
        files = get_weights(mode, offline=offline, weights=weights)
        sizes = model_set(mode)
        self._detector = _load_model(rtmlib.YOLOX, files["det"], sizes["det_input_size"], device)
        self._pose = _load_model(rtmlib.RTMPose, files["pose"], sizes["pose_input_size"], device)
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
        self._choices: list[str] = []
        if detect_every is None:
            detect_every = self._affordable() if device == "cpu" else 1
        self._detect_every = detect_every

    def estimate(self, frames: Iterable[np.ndarray], *, live: bool = False) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield keypoints and scores frame by frame; see `PoseEstimator.estimate`."""
        self.notes = list(self._choices)
        with deferred_errors(frames) as readable:
            ahead = LookAhead(readable)
            tracker = SignerTracker(self._signer, self.notes)
            box = DetectedBox(self._detect_every, tracker, None if live else ahead.motion_since_last)
            images = (np.ascontiguousarray(frame[..., ::-1]) for frame in ahead)  # BGR
            if self._detect_every > 1:
                yield from self._pose_in_held_box(images, box, 1 if live else self._batch)
                return
            crops: Iterator[_Crop] = (self._crop(image, self._detect(image, box)) for image in images)
            if not live:
                crops = prefetch(crops, self._batch)  # people are looked for in the next frames while some are posed
            while some := list(islice(crops, 1 if live else self._batch)):
                yield from self._pose_crops(some)

    def close(self) -> None:
        """Drop the sessions."""
        del self._detector, self._pose

    def _affordable(self) -> int:
        """Return in how many frames people are looked for once, by what that and posing cost here; and say so."""
        height, width = self._detector.model_input_size
        empty = np.zeros((height, width, 3), np.uint8)
        crop = _Crop(np.array([width, height]), *self._preprocess(empty, np.array([0, 0, width, height])))
        detection = _seconds(lambda: self._detector(empty))
        posing = _seconds(lambda: list(self._pose_crops([crop])))
        frames = min(math.ceil(detection / (_DETECTION_SHARE * posing)), _HELD_AT_MOST)
        if frames > 1:
            self._choices.append(
                f"people are looked for in one frame of {frames}, as that takes {detection / posing:.1f} times as long "
                "as posing one on this processor (--detect-every 1 looks in every frame)"
            )
        return frames

    def _pose_in_held_box(
        self, images: Iterator[np.ndarray], box: DetectedBox, batch: int
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield keypoints and scores from a box that serves for several frames, for as long as they fit it."""
        waiting: deque[np.ndarray] = deque()
        together = batch
        while waiting or (waiting := deque(islice(images, 1))):
            detected = box.frames_left == 0
            if detected:
                self._detect(waiting[0], box)
            some = min(together, box.frames_left)
            waiting.extend(islice(images, max(0, some - len(waiting))))
            crops = [self._crop(image, box.corners) for image in islice(waiting, some)]
            for crop, (keypoints, scores) in zip(crops, self._pose_crops(crops), strict=True):
                if not box.fits(keypoints * crop.size, scores, crop.region, crop.size):
                    together = 1  # the others' poses are lost: no more at once until one has fitted
                    break
                waiting.popleft()
                yield keypoints, scores
            else:
                together = together if detected else min(2 * together, batch)

    def _detect(self, image: np.ndarray, box: DetectedBox) -> np.ndarray | None:
        found = np.asarray(self._detector(image)).reshape(-1, 4)
        return box.update(found, (image.shape[1], image.shape[0]))

    def _crop(self, image: np.ndarray, corners: np.ndarray | None) -> _Crop:
        size = np.array([image.shape[1], image.shape[0]], np.float64)
        if corners is None:
            return _Crop(size)
        return _Crop(size, *self._preprocess(image, corners))

    def _preprocess(self, image: np.ndarray, corners: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        pixels, centre, scale = self._pose.preprocess(image, corners)
        return pixels.transpose(2, 0, 1).astype(np.float32), centre, scale

    def _pose_crops(self, crops: list[_Crop]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield every crop's keypoints (133, 2) in fractions of the frame and scores (133,); zeros for an empty one."""
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


def _seconds(work: Callable[[], object]) -> float:
    """Return what one call takes; the first, which prepares memory, does not count."""
    work()
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _provider(device: str) -> str:
    return "CPUExecutionProvider" if device == "cpu" else "CUDAExecutionProvider"


def _check_device(device: str) -> None:
    """See that this ONNX Runtime can have the device at all, before anything is downloaded or loaded."""
    import onnxruntime

    if device != "cpu" and device.split(":")[0] != "cuda":
        raise EngineError(f"RTMPose runs on cpu or cuda, not on '{device}'")
    if _provider(device) not in onnxruntime.get_available_providers():
        raise EngineError(
            "this ONNX Runtime has no CUDA: pip uninstall -y onnxruntime onnxruntime-gpu && "
            "pip install onnxruntime-gpu (never both), or use --device cpu"
        )


def _load_model(tool: Any, path: Path, size: tuple[int, int], device: str) -> Any:
    """Load an rtmlib tool with its session, on the provider that was asked for and no other."""
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # rtmlib prints what it loads
            loaded = tool(str(path), model_input_size=size, backend="onnxruntime", device=device)
    except Exception as error:  # ONNX Runtime has an exception of its own for every kind of bad model
        raise EngineError(f"{path}: not an RTMPose model that ONNX Runtime can load ({first_line(error)})") from error
    providers = loaded.session.get_providers()
    if providers[0] != _provider(device):
        raise EngineError(
            f"{path}: asked for {device}, but ONNX Runtime fell back to {providers[0]}; "
            "install the CUDA and cuDNN libraries that this onnxruntime-gpu wants, or use --device cpu"
        )
    return loaded


def _input_shape(tool: Any) -> list[int | str]:
    """Return an image model's (N, 3, H, W); strings and None are free dimensions."""
    shape = tool.session.get_inputs()[0].shape
    if len(shape) != 4:
        raise EngineError(f"{tool.onnx_model}: not an RTMPose model (its input is {shape}, not N, 3, H, W)")
    return shape
