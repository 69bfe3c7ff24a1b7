"""MediaPipe Holistic: the estimator whose weights come inside its wheel."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby
from operator import itemgetter

import numpy as np

from signet_runtime.pose.mediapipe.graph import MAX_IN_FLIGHT, Crop, Holistic, filter_startup_log, start_errors
from signet_runtime.pose.signer import SignerTracker
from signet_runtime.sources.deferred import deferred_errors

# Every how many frames we look whether other people are in view: often enough to notice somebody joining,
# rarely enough to cost some 2% of the holistic graph.
_DETECT_EVERY = 10

# Two people side by side are a shoulder's width apart or more, about this share of an upper-body box.
_MIN_DISTANCE = 0.35

_PERSON_GRAPH = """
input_stream: "image"
output_stream: "detections"
node { calculator: "PoseDetectionCpu" input_stream: "IMAGE:image" output_stream: "DETECTIONS:detections" }
"""


def load(name: str) -> MediaPipeEstimator:
    """Load the estimator; it has no variants."""
    return MediaPipeEstimator()


def describe_weights(name: str) -> str:
    """Return where the weights are, for doctor."""
    return "weights come with its package"


class MediaPipeEstimator:
    """`mp.solutions.holistic` in video mode, model complexity 1, with the refined face mesh.

    Scores: a body joint's is BlazePose's visibility (low where a joint is hidden or beyond the frame's
    border); hands and face score 1 where the graph found them and 0 where it did not, because presence is
    all that the graph reports about them.

    Holistic follows one person of its own choice. So that this is the signer (see `SignerTracker`), its
    person detector is run on the first and then every tenth frame, and when it sees people side by side the
    frame is cut, in full height, half-way between the signer and each neighbour. A hand that reaches past
    that line is lost, and of two people one before the other holistic still takes the one it likes.

    It runs on the CPU, whatever device the model runs on, and has a few frames in its graph at a time (see
    `Holistic`), which changes nothing of what it finds. Several processes would: a tracker that starts anew in each
    segment of a recording stays some 0.007 shoulder widths away on the body, and on two cores, which this fills
    already, two of them are 1.06 times as fast.

    Raises:
        EngineError: MediaPipe is not there, or does not start.
    """

    name = "mediapipe"

    def __init__(self) -> None:
        self._holistic = Holistic()
        with filter_startup_log(), start_errors():
            from google.protobuf import text_format
            from mediapipe.framework import calculator_pb2
            from mediapipe.python.solution_base import SolutionBase

            graph = text_format.Parse(_PERSON_GRAPH, calculator_pb2.CalculatorGraphConfig())
            self._detector = SolutionBase(graph_config=graph, outputs=["detections"])
            # As in `Holistic`: it starts on threads of its own.
            self._detector.process({"image": np.zeros((64, 64, 3), np.uint8)})

    def estimate(self, frames: Iterable[np.ndarray], *, live: bool = False) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield keypoints and scores frame by frame; see `PoseEstimator.estimate`."""
        with deferred_errors(frames) as images:
            for _, group in groupby(self._crops(images), itemgetter(0)):
                yield from self._holistic.pose(map(itemgetter(1), group), 1 if live else MAX_IN_FLIGHT)

    def close(self) -> None:
        """Free the graphs."""
        self._holistic.close()
        self._detector.close()

    def _crops(self, frames: Iterable[np.ndarray]) -> Iterator[tuple[int, Crop]]:
        """Yield what of every frame holistic may see, and before it how often its columns have changed.

        The graph's tracking is in the coordinates of one crop, so it starts anew with every change.
        """
        signer = SignerTracker()
        kept: tuple[int, int] | None = None  # first and last column
        changes = 0
        for index, frame in enumerate(frames):
            width = frame.shape[1]
            if index % _DETECT_EVERY == 0:
                boxes = self._detect_people(frame)
                columns = _columns(boxes, signer.update(boxes), kept, width)
                changes += columns != kept
                kept = columns
            left, right = kept or (0, width)
            yield changes, Crop(np.ascontiguousarray(frame[:, left:right]), left / width, (right - left) / width)

    def _detect_people(self, frame: np.ndarray) -> np.ndarray:
        """Return upper-body boxes (N, 4): left, top, right, bottom in fractions of the frame."""
        detections = self._detector.process({"image": np.ascontiguousarray(frame)}).detections or []
        size = np.array([frame.shape[1], frame.shape[0]])
        boxes = []
        for detection in detections:
            points = np.array([(p.x, p.y) for p in detection.location_data.relative_keypoints])
            # Points 2 and 3: the middle of the shoulders, and a point on the circle around the upper body.
            radius = np.linalg.norm((points[3] - points[2]) * size) / size
            boxes.append(np.concatenate([points[2] - radius, points[2] + radius]))
        return np.array(boxes).reshape(-1, 4)


def _columns(boxes: np.ndarray, signer: int | None, kept: tuple[int, int] | None, width: int) -> tuple[int, int] | None:
    """Return the first and last column that hold the signer and nobody else's middle; None is the whole frame.

    Those of before are kept for as long as they serve, because changing them restarts the tracking.
    """
    if signer is None:
        return kept
    middle = (boxes[:, 0] + boxes[:, 2]) / 2 * width
    # Nearer than this, a cut would go through the signer's shoulders: somebody in front or behind, or the
    # same person detected twice.
    apart = _MIN_DISTANCE * (boxes[signer, 2] - boxes[signer, 0]) * width
    others = middle[np.abs(middle - middle[signer]) > apart]
    left, right = kept or (0, width)
    if left <= middle[signer] < right and not ((left <= others) & (others < right)).any():
        return kept
    if len(others) == 0:
        return None
    left = int(max(((x + middle[signer]) / 2 for x in others if x < middle[signer]), default=0))
    right = int(min(((x + middle[signer]) / 2 for x in others if x > middle[signer]), default=width))
    return left, right
