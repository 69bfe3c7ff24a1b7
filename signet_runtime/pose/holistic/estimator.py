"""MediaPipe Holistic on LiteRT: the default estimator."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np

from signet_runtime.pose.holistic.parts import (
    LEFT_HAND,
    RIGHT_HAND,
    Body,
    BodyPart,
    FacePart,
    HandPart,
    person_detector,
)
from signet_runtime.pose.holistic.people import People, View
from signet_runtime.pose.mediapipe_landmarks import to_wholebody
from signet_runtime.pose.models import find_models, model_directory
from signet_runtime.pose.signer import LookAhead
from signet_runtime.skeleton import NUM_KEYPOINTS
from signet_runtime.sources.deferred import deferred_errors

# Frames at work at a time: a part that waits for a core then keeps none of the others waiting.
_IN_FLIGHT = 6

# Live, where nothing else is at work while a frame's body is looked for, so many threads do it.
_LIVE_THREADS = 2


def load(name: str, *, offline: bool, signer: str = "active") -> HolisticEstimator:
    """Load the estimator, which has no variants, with models that `find_models` finds."""
    return HolisticEstimator(find_models(offline=offline), signer)


def describe_weights(name: str) -> str:
    """Return where the models are, for doctor."""
    return str(model_directory(find_models(offline=True)))


class _Scene(NamedTuple):
    """One frame with what its body says.

    Attributes:
        picture: the part of the frame that the signer is looked for in.
        view: where it is in the frame.
        anew: this is another part than before, so nothing is where it was.
        body: in pixels of the picture.
    """

    picture: np.ndarray
    view: View
    anew: bool
    body: Body | None


class HolisticEstimator:
    """The models of `mp.solutions.holistic` (video mode, model complexity 1, face mesh with attention).

    Scores: a body joint's is BlazePose's visibility (low where a joint is hidden or beyond the frame's border);
    hands and face score 1 where they were found and 0 where not.

    Body, hands and face are each followed from frame to frame and, but for the body, need no more of each other than
    the body of their frame. So each has a thread: while one frame's hands are looked for, the next one's body is.
    LiteRT holds no lock while it works. What is found is the same as one after the other, bit by bit.

    One person is followed (see `People`), in a part of the frame where nobody else's middle is, and which a signer who
    is small in the frame fills; all crops are of the frame in its own resolution.

    Args:
        models: the model files by name (see `find_models`).
        signer: whom to follow, see `SignerTracker`.

    Attributes:
        notes: what is to be said of the recording that was posed last.

    Raises:
        EngineError: LiteRT is not there or cannot read a model.
    """

    name = "mediapipe"

    def __init__(self, models: Mapping[str, Path], signer: str = "active") -> None:
        self._signer = signer
        self.notes: list[str] = []
        self._detect = person_detector(models)
        self._models = models
        self._body = BodyPart(models, self._detect)
        self._live_body: BodyPart | None = None
        self._parts: tuple[FacePart | HandPart, ...] = (
            FacePart(models),
            HandPart(models, LEFT_HAND),
            HandPart(models, RIGHT_HAND),
        )
        self._threads = [ThreadPoolExecutor(1, thread_name_prefix="signet-pose") for _ in range(4)]

    def estimate(self, frames: Iterable[np.ndarray], *, live: bool = False) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield keypoints and scores frame by frame; see `PoseEstimator.estimate`.

        A frame must not be written to before its keypoints are there.
        """
        self.notes = []
        body = self._body_live() if live else self._body
        waiting: deque[tuple[Future[_Scene], list[Future[np.ndarray | None]]]] = deque()
        with deferred_errors(frames) as readable:
            images = LookAhead(readable, _IN_FLIGHT + 1)
            people, previous = People(self._detect, self._signer, self.notes, None if live else images), None
            try:
                for image in images:
                    previous = self._threads[0].submit(_pose, body, people, image, previous)
                    parts = [
                        thread.submit(_look_for, part, previous)
                        for thread, part in zip(self._threads[1:], self._parts, strict=True)
                    ]
                    waiting.append((previous, parts))
                    if len(waiting) >= (1 if live else _IN_FLIGHT):
                        yield _wholebody(image.shape, *waiting.popleft())
                while waiting:
                    yield _wholebody(image.shape, *waiting.popleft())
            finally:
                for scene, parts in waiting:  # nobody wants to know any more
                    for part in parts:
                        part.cancel()
                    scene.cancel()

    def close(self) -> None:
        """Stop the threads."""
        for thread in self._threads:
            thread.shutdown(cancel_futures=True)

    def _body_live(self) -> BodyPart:
        if self._live_body is None:
            self._live_body = BodyPart(self._models, self._detect, _LIVE_THREADS)
        return self._live_body


def _pose(body: BodyPart, people: People, frame: np.ndarray, before: Future[_Scene] | None) -> _Scene:
    last = before.result() if before is not None else None
    frame = np.ascontiguousarray(frame)
    view = people.view(frame, lost=last is None or last.body is None)
    anew = last is None or view != last.view
    if anew:
        body.reset()
    picture = np.ascontiguousarray(view.of(frame))
    return _Scene(picture, view, anew, body(picture))


def _look_for(part: FacePart | HandPart, found: Future[_Scene]) -> np.ndarray | None:
    scene = found.result()
    if scene.anew:
        part.reset()
    return part(scene.picture, scene.body)


def _wholebody(
    shape: tuple[int, ...], found: Future[_Scene], parts: list[Future[np.ndarray | None]]
) -> tuple[np.ndarray, np.ndarray]:
    """Return what was found in one frame in COCO-WholeBody order, in fractions of the frame."""
    scene = found.result()
    face, left, right = (part.result() for part in parts)
    if scene.body is None:
        return np.zeros((NUM_KEYPOINTS, 2), np.float32), np.zeros(NUM_KEYPOINTS, np.float32)
    size = (shape[1], shape[0])

    def fractions(points: np.ndarray | None) -> np.ndarray | None:
        return None if points is None else (points + scene.view[:2]) / size

    body = fractions(scene.body.points)
    assert body is not None
    return to_wholebody(body, scene.body.visibility, fractions(face), fractions(left), fractions(right))
