"""MediaPipe's holistic graph with several frames in it at once."""

from __future__ import annotations

import os
import re
import sys
import tempfile
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple

import numpy as np

from signet_runtime.errors import EngineError, first_line
from signet_runtime.pose.installed import missing_library
from signet_runtime.pose.mediapipe_landmarks import to_wholebody
from signet_runtime.skeleton import NUM_KEYPOINTS

# How many frames the graph may have at a time: one in its body part, one in its hands and face, one that waits.
MAX_IN_FLIGHT = 3

# Between the timestamps of two frames (us), as the solution itself counts.
_FRAME_INTERVAL = 33333

# How long to wait for a result before looking whether there will be one (s).
_RESULT_TIMEOUT = 1.0

# What MediaPipe's C++ writes to stderr on its first frames whatever the log level.
_NOISE = re.compile(rb"^(INFO: Created TensorFlow|WARNING: All log messages before absl|[IW]\d{4} ).*\n?", re.MULTILINE)


class Crop(NamedTuple):
    """Some columns of a frame, in its full height.

    Attributes:
        image: uint8 RGB (H, W, 3).
        left: where the columns begin, as a fraction of the frame's width.
        width: how many they are, likewise.
    """

    image: np.ndarray
    left: float
    width: float


class Landmarks(NamedTuple):
    """What was found in one image: MediaPipe's landmark lists, None for what was not."""

    pose: Any
    face: Any
    left_hand: Any
    right_hand: Any


class Holistic:
    """`mp.solutions.holistic` in video mode, but its graph may look for one frame's hands while it poses the next body.

    The solution's own `process` waits until the graph is idle, and it is idle in half of it: hands and face need the
    body of their frame and nothing else. What is found is the same, bit by bit, because all that the graph tracks
    follows the frames' times.

    Raises:
        EngineError: MediaPipe is not there, or does not start.
    """

    def __init__(self) -> None:
        with filter_startup_log(), start_errors():
            solutions = load_solutions()
            from mediapipe.python import packet_creator, packet_getter
            from mediapipe.python._framework_bindings.image_frame import ImageFormat

            self._image_frame = lambda image: packet_creator.create_image_frame(image, image_format=ImageFormat.SRGB)
            self._proto = packet_getter.get_proto
            self._solution = solutions.holistic.Holistic(model_complexity=1, refine_face_landmarks=True)
            self._outputs: SimpleQueue[tuple[str, Any]] = SimpleQueue()
            # The graph's threads put every packet into this, and an empty one where a stream has nothing for a frame.
            self._solution._graph_outputs = _PacketQueue(self._outputs)
            self._sent = self._received = 0
            self._answered = dict.fromkeys(Landmarks._fields, 0)
            self._packets: dict[tuple[str, int], Any] = {}
            # The graph starts on threads of its own; a frame through it waits until they have.
            self.send(np.zeros((64, 64, 3), np.uint8))
            self.receive()

    def pose(self, crops: Iterable[Crop], in_flight: int = MAX_IN_FLIGHT) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield keypoints and scores of one person, as `PoseEstimator.estimate` does, followed from crop to crop.

        Args:
            crops: all of the same columns of their frames.
            in_flight: 1 gives a crop's keypoints before it asks for the next.
        """
        places: deque[tuple[float, float]] = deque()
        first = noisy = True  # a new start makes the graph speak again, until all of it has run once
        for image, *place in crops:
            places.append((place[0], place[1]))
            if noisy:
                with filter_startup_log():
                    if first:
                        self.reset()
                        first = False
                    self.send(image)
                    found = self.receive()
                noisy = found.pose is None
                yield _wholebody(found, *places.popleft())
                continue
            self.send(image)
            while len(places) >= in_flight:
                yield _wholebody(self.receive(), *places.popleft())
        while places:
            yield _wholebody(self.receive(), *places.popleft())

    def reset(self) -> None:
        """Track nothing from what was sent before, and drop what was not received."""
        self._solution.reset()
        while not self._outputs.empty():
            self._outputs.get()
        self._packets.clear()
        self._received = self._sent

    def send(self, image: np.ndarray) -> None:
        """Give the graph another frame, uint8 RGB (H, W, 3).

        Raises:
            RuntimeError: the graph has failed.
        """
        self._sent += _FRAME_INTERVAL
        packet = self._image_frame(np.ascontiguousarray(image)).at(self._sent)
        self._solution._graph.add_packet_to_input_stream(stream="image", packet=packet)

    def receive(self) -> Landmarks:
        """Wait for the earliest frame that was sent and not yet received, and return what is in it.

        Raises:
            RuntimeError: the graph has failed.
        """
        if self._received == self._sent:
            raise ValueError("every frame that was sent has been received")
        self._received += _FRAME_INTERVAL
        try:
            while min(time for part, time in self._answered.items() if part != "pose") < self._received:
                self._record(*self._outputs.get(timeout=_RESULT_TIMEOUT))
        except Empty:
            self._drain()
        # Hands and face come after the body, so it is here too, or there is none: then, until the graph has seen its
        # first body, it does not even say so.
        if self._answered["pose"] < self._received:
            self._drain()
        found = (self._packets.pop((name, self._received), None) for name in Landmarks._fields)
        return Landmarks(*(None if packet is None else self._proto(packet) for packet in found))

    def close(self) -> None:
        """Free the graph."""
        self._solution.close()

    def _drain(self) -> None:
        """Take in all that the graph will ever say about what it was given; raise why it cannot."""
        self._solution._graph.wait_until_idle()
        while not self._outputs.empty():
            self._record(*self._outputs.get())

    def _record(self, stream: str, packet: Any) -> None:
        part, time = stream.removesuffix("_landmarks"), packet.timestamp.value
        if part in self._answered:
            self._answered[part] = max(self._answered[part], time)
            if not packet.is_empty():
                self._packets[part, time] = packet


class _PacketQueue:
    """A dict to the graph, which sets items of it; they end up in a queue."""

    def __init__(self, queue: SimpleQueue[tuple[str, Any]]) -> None:
        self._queue = queue

    def __setitem__(self, stream: str, packet: Any) -> None:
        self._queue.put((stream, packet))


def load_solutions() -> Any:
    """Return `mediapipe.solutions`.

    Raises:
        EngineError: MediaPipe is not there, or is another one.
    """
    try:
        # MediaPipe's parts read these when they are first imported.
        os.environ.setdefault("GLOG_minloglevel", "2")
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        import mediapipe

        return mediapipe.solutions
    except ModuleNotFoundError as error:
        raise EngineError(f"MediaPipe is not installed ({error}): pip install 'mediapipe==0.10.21'") from error
    except AttributeError as error:  # 1.x has neither solutions nor models in its wheel
        raise EngineError("this MediaPipe has no holistic solution: pip install 'mediapipe==0.10.21'") from error
    except ImportError as error:
        raise EngineError(missing_library(error)) from error


@contextmanager
def start_errors() -> Iterator[None]:
    """Raise what a graph that does not start raises as an EngineError of one line."""
    try:
        yield
    except (AttributeError, RuntimeError, ValueError, OSError) as error:
        raise EngineError(
            f"MediaPipe does not start ({first_line(error)}): pip install 'mediapipe==0.10.21' 'protobuf<5'"
        ) from error


def _wholebody(result: Landmarks, left: float, width: float) -> tuple[np.ndarray, np.ndarray]:
    """Return keypoints and scores in COCO-WholeBody order; x from the crop's fraction to the frame's."""
    if result.pose is None:
        return np.zeros((NUM_KEYPOINTS, 2), np.float32), np.zeros(NUM_KEYPOINTS, np.float32)

    def points(found: Any) -> np.ndarray:
        return np.array([(left + width * p.x, p.y) for p in found.landmark])

    return to_wholebody(
        points(result.pose),
        np.array([p.visibility for p in result.pose.landmark]),
        *(points(part) if part is not None else None for part in (result.face, result.left_hand, result.right_hand)),
    )


@contextmanager
def filter_startup_log() -> Iterator[None]:
    """Take MediaPipe's start-up chatter out of stderr; anything else written meanwhile is passed on.

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
