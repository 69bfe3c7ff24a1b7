"""MediaPipe Holistic: the estimator whose weights come inside its wheel."""

from __future__ import annotations

import os
import re
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np

from signet_runtime.errors import EngineError
from signet_runtime.pose.landmarks import to_wholebody
from signet_runtime.pose.rtmpose import missing_library
from signet_runtime.pose.signer import SignerTracker
from signet_runtime.skeleton import NUM_KEYPOINTS

# Every how many frames we look whether other people are in view: often enough to notice somebody joining,
# rarely enough to cost some 2% of the holistic graph.
_LOOK_EVERY = 10

# Two people side by side are a shoulder's width apart or more, about this share of an upper-body box.
_APART = 0.35

_PERSON_GRAPH = """
input_stream: "image"
output_stream: "detections"
node { calculator: "PoseDetectionCpu" input_stream: "IMAGE:image" output_stream: "DETECTIONS:detections" }
"""

# What MediaPipe's C++ writes to stderr on its first frames whatever the log level.
_NOISE = re.compile(rb"^(INFO: Created TensorFlow|WARNING: All log messages before absl|[IW]\d{4} ).*\n?", re.MULTILINE)


class MediaPipeEstimator:
    """`mp.solutions.holistic` in video mode, model complexity 1, with the refined face mesh.

    Scores: a body joint's is BlazePose's visibility (low where a joint is hidden or beyond the frame's
    border); hands and face score 1 where the graph found them and 0 where it did not, because presence is
    all that the graph reports about them.

    Holistic follows one person of its own choice. So that this is the signer (see `SignerTracker`), its
    person detector is run on the first and then every tenth frame, and when it sees people side by side the
    frame is cut, in full height, half-way between the signer and each neighbour. A hand that reaches past
    that line is lost, and of two people one before the other holistic still takes the one it likes.

    It runs on the CPU, whatever device the model runs on.
    """

    name = "mediapipe"

    def __init__(self) -> None:
        with _without_native_log():
            try:
                # MediaPipe's parts read these when they are first imported.
                os.environ.setdefault("GLOG_minloglevel", "2")
                os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
                import mediapipe
                from google.protobuf import text_format
                from mediapipe.framework import calculator_pb2
                from mediapipe.python.solution_base import SolutionBase

                solutions = mediapipe.solutions
            except ModuleNotFoundError as error:
                raise EngineError(f"MediaPipe is not installed ({error}): pip install 'mediapipe==0.10.21'") from error
            except AttributeError as error:  # 1.x has neither solutions nor models in its wheel
                raise EngineError(
                    "this MediaPipe has no holistic solution: pip install 'mediapipe==0.10.21'"
                ) from error
            except ImportError as error:
                raise EngineError(missing_library(error)) from error
            try:
                self._holistic = solutions.holistic.Holistic(model_complexity=1, refine_face_landmarks=True)
                graph = text_format.Parse(_PERSON_GRAPH, calculator_pb2.CalculatorGraphConfig())
                self._detector = SolutionBase(graph_config=graph, outputs=["detections"])
                # The graphs start on threads of their own; a frame through them waits until they have.
                blank = np.zeros((64, 64, 3), np.uint8)
                self._holistic.process(blank)
                self._detector.process({"image": blank})
            except (AttributeError, RuntimeError, ValueError, OSError) as error:
                reason = str(error).splitlines()[0]
                raise EngineError(
                    f"MediaPipe does not start ({reason}): pip install 'mediapipe==0.10.21' 'protobuf<5'"
                ) from error

    def estimate(self, frames: Iterable[np.ndarray]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Keypoints and scores frame by frame; see `PoseEstimator.estimate`."""
        signer = SignerTracker()
        view: tuple[int, int] | None = None  # first and last column that holistic may see
        restart = noisy = True
        for index, frame in enumerate(frames):
            width = frame.shape[1]
            if index % _LOOK_EVERY == 0:
                boxes = self._people(frame)
                columns = _columns(boxes, signer.update(boxes), view, width)
                restart = restart or columns != view  # holistic's tracking is in the old view's coordinates
                view = columns
            noisy = noisy or restart  # a new start makes the graph speak again, until all of it has run once
            with _without_native_log() if noisy else nullcontext():
                if restart:
                    self._holistic.reset()
                    restart = False
                left, right = view or (0, width)
                result = self._holistic.process(np.ascontiguousarray(frame[:, left:right]))
            noisy = noisy and result.pose_landmarks is None
            yield _wholebody(result, left / width, (right - left) / width)

    def close(self) -> None:
        """Frees the graphs."""
        self._holistic.close()
        self._detector.close()

    def _people(self, frame: np.ndarray) -> np.ndarray:
        """Upper-body boxes (N, 4) in fractions of the frame."""
        detections = self._detector.process({"image": np.ascontiguousarray(frame)}).detections or []
        size = np.array([frame.shape[1], frame.shape[0]])
        boxes = []
        for detection in detections:
            points = np.array([(p.x, p.y) for p in detection.location_data.relative_keypoints])
            # Points 2 and 3: the middle of the shoulders, and a point on the circle around the upper body.
            radius = np.linalg.norm((points[3] - points[2]) * size) / size
            boxes.append(np.concatenate([points[2] - radius, points[2] + radius]))
        return np.array(boxes).reshape(-1, 4)


def _columns(boxes: np.ndarray, signer: int | None, view: tuple[int, int] | None, width: int) -> tuple[int, int] | None:
    """The columns that hold the signer and nobody else's middle; None is the whole frame.

    The present view stays for as long as it serves, because changing it restarts the tracking.
    """
    if signer is None:
        return view
    middle = (boxes[:, 0] + boxes[:, 2]) / 2 * width
    # Nearer than this, a cut would go through the signer's shoulders: somebody in front or behind, or the
    # same person detected twice.
    apart = _APART * (boxes[signer, 2] - boxes[signer, 0]) * width
    others = middle[np.abs(middle - middle[signer]) > apart]
    left, right = view or (0, width)
    if left <= middle[signer] < right and not ((left <= others) & (others < right)).any():
        return view
    if len(others) == 0:
        return None
    left = int(max(((x + middle[signer]) / 2 for x in others if x < middle[signer]), default=0))
    right = int(min(((x + middle[signer]) / 2 for x in others if x > middle[signer]), default=width))
    return left, right


def _wholebody(result: Any, offset: float, scale: float) -> tuple[np.ndarray, np.ndarray]:
    """One holistic result in COCO-WholeBody order; x from the view's fraction to the frame's."""
    if result.pose_landmarks is None:
        return np.zeros((NUM_KEYPOINTS, 2), np.float32), np.zeros(NUM_KEYPOINTS, np.float32)

    def points(found: Any) -> np.ndarray:
        return np.array([(offset + scale * p.x, p.y) for p in found.landmark])

    return to_wholebody(
        points(result.pose_landmarks),
        np.array([p.visibility for p in result.pose_landmarks.landmark]),
        *(points(part) if part is not None else None
          for part in (result.face_landmarks, result.left_hand_landmarks, result.right_hand_landmarks)),
    )  # fmt: skip


@contextmanager
def _without_native_log() -> Iterator[None]:
    """Takes MediaPipe's start-up chatter out of stderr; anything else written meanwhile is passed on.

    The C++ code writes to the file descriptor itself, so replacing `sys.stderr` would not reach it.
    """
    sys.stderr.flush()
    with tempfile.TemporaryFile() as caught:
        stderr = os.dup(2)
        os.dup2(caught.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(stderr, 2)
            os.close(stderr)
            caught.seek(0)
            rest = _NOISE.sub(b"", caught.read())
            if rest:
                os.write(2, rest)
