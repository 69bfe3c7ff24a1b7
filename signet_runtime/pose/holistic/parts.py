"""Body, hand and face of one person, each followed from frame to frame as MediaPipe's holistic graph does it.

Every part has a state of its own and needs nothing of this frame but the picture and, for hands and face, the body.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from signet_runtime.pose.holistic.attention import AttentionMesh
from signet_runtime.pose.holistic.detection import Detections, anchors, decoded, merged
from signet_runtime.pose.holistic.landmarks import points_in_crop, refined, sigmoid
from signet_runtime.pose.holistic.model import Model
from signet_runtime.pose.holistic.rois import (
    Drift,
    Roi,
    aligned,
    around,
    hand_from_body,
    hand_from_hand,
    still_there,
)
from signet_runtime.pose.holistic.smoothing import LowPass, OneEuro

# MediaPipe's solution takes every two frames for this much apart, whatever the recording's clock: smoothing is by the
# frame, and keypoints of old and new bundles are the same.
FRAME_RATE = 1e6 / 33333

_PRESENT, _SURELY_PRESENT = 0.5, 0.98
_WRIST_VISIBLE = 0.1
_UP = math.pi / 2

# BlazePose's landmarks of a hand: wrist, little finger, index finger.
LEFT_HAND, RIGHT_HAND = (15, 17, 19), (16, 18, 20)


class Body(NamedTuple):
    """BlazePose's 33 landmarks in pixels, and how visible each is in [0, 1]."""

    points: np.ndarray
    visibility: np.ndarray


class Detector:
    """A single-shot detector."""

    def __init__(self, path: Path, strides: tuple[int, ...]) -> None:
        self._model = Model(path, (0, 1), low=-1.0, zero_border=True)
        self._cells = anchors(self._model.side, strides)

    def __call__(self, picture: np.ndarray, roi: Roi) -> Detections:
        """Return what is in a square of the picture, surest first, in pixels of the picture."""
        values, logits = self._model(picture, roi)
        found = merged(decoded(values, logits[:, 0], self._cells, self._model.side))
        corners = found.boxes.reshape(len(found.scores), 2, 2)[:, [[0, 0], [1, 0], [1, 1], [0, 1]], [0, 1]]
        corners = roi.to_picture(corners)
        boxes = np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1)
        return Detections(found.scores, boxes, roi.to_picture(found.points))


def person_detector(models: Mapping[str, Path]) -> Detector:
    """Return the detector of people; points: hips' middle, full body's rim, shoulders' middle, upper body's rim."""
    return Detector(models["pose_detection"], (8, 16, 32, 32, 32))


def whole(picture: np.ndarray) -> Roi:
    """Return the square that holds all of a picture."""
    height, width = picture.shape[:2]
    return Roi(width / 2, height / 2, float(max(height, width)), 0.0)


class BodyPart:
    """The body: detected where nobody is followed, then looked for where the last frame had it (PoseLandmarkCpu).

    Args:
        models: the model files by name.
        detect: finds people.
        threads: see `Network`.
    """

    def __init__(self, models: Mapping[str, Path], detect: Detector, threads: int = 1) -> None:
        self._detect = detect
        # Landmarks, presence and heatmaps; not the segmentation mask and the landmarks in metres.
        self._model = Model(models["pose_landmark_full"], (0, 1, 3), threads=threads)
        self._visibility = LowPass()
        self._points = OneEuro(FRAME_RATE, min_cutoff=0.05, beta=80.0)
        self._circle = OneEuro(FRAME_RATE, min_cutoff=0.01, beta=10.0)
        self._roi: Roi | None = None

    def reset(self) -> None:
        """Follow nobody."""
        self._visibility.reset()
        self._lose()

    def _lose(self) -> None:
        # The graph's filter of visibilities is not told that there was nobody, and goes on from where it was.
        self._points.reset()
        self._circle.reset()
        self._roi = None

    def __call__(self, picture: np.ndarray) -> Body | None:
        """Return the body in the next frame, or None."""
        roi = self._roi or self._detected(picture)
        if roi is None or not roi.exists():
            self._lose()
            return None
        values, presence, heatmap = self._model(picture, roi)
        if presence[0] < _PRESENT:
            self._lose()
            return None
        # 33 landmarks of the body, then two of the circle around it; 4 more are not used.
        points = roi.to_picture(refined(points_in_crop(values, 39, self._model.side), heatmap)[:35])
        body, circle = points[:33], points[33:]
        diameter = 2 * float(np.linalg.norm(circle[1] - circle[0]))
        if diameter > 1e-6:
            body, circle = self._points(body, diameter), self._circle(circle, diameter)
        self._roi = aligned(circle[0], circle[1], _UP, 1.25)
        visible = sigmoid(values.reshape(39, -1)[:33, 3].astype(np.float64))
        return Body(body, self._visibility(visible, 0.1))

    def _detected(self, picture: np.ndarray) -> Roi | None:
        found = self._detect(picture, whole(picture))
        if not len(found.scores):
            return None
        hips, rim = found.points[0, :2]
        return aligned(hips, rim, _UP, 1.25)


class HandPart:
    """One hand: where the body says, looked at again to crop it well, or where it was (HandLandmarksFromPoseCpu).

    Args:
        models: the model files by name.
        joints: `LEFT_HAND` or `RIGHT_HAND`.
    """

    _DRIFT = Drift(angle=math.radians(40), shift=0.2, scale=0.4, margin=-0.1)

    def __init__(self, models: Mapping[str, Path], joints: tuple[int, int, int]) -> None:
        self._joints = list(joints)
        self._recrop = Model(models["hand_recrop"], (0,))
        self._model = Model(models["hand_landmark_full"], (0, 1))
        self._last: np.ndarray | None = None

    def reset(self) -> None:
        """Follow no hand."""
        self._last = None

    def __call__(self, picture: np.ndarray, body: Body | None) -> np.ndarray | None:
        """Return the hand's landmarks (21, 2) in pixels, or None."""
        last, self._last = self._last, None
        if body is None or body.visibility[self._joints[0]] <= _WRIST_VISIBLE:
            return None
        coarse = hand_from_body(*body.points[self._joints])
        if not coarse.exists():
            return None
        middle, rim = coarse.to_picture(points_in_crop(self._recrop(picture, coarse)[0], 2, self._recrop.side))
        places = [aligned(middle, rim, -_UP, 1.0, -0.1)]
        if last is not None:
            old = hand_from_hand(last)
            places.insert(0 if still_there(last, old, places[0], self._DRIFT) else 1, old)
        # MediaPipe looks in the first place only, and loses a hand that moves fast somewhat more often.
        for place, enough in zip(places, (_PRESENT, _SURELY_PRESENT), strict=False):
            if not place.exists():
                continue
            values, presence = self._model(picture, place)
            if presence[0] > enough:
                self._last = place.to_picture(points_in_crop(values, 21, self._model.side))
                break
        return self._last


class FacePart:
    """The face: a face detector where the body has it, and from there or from the last frame the mesh.

    As FaceLandmarksFromPoseCpu, with attention.
    """

    _DRIFT = Drift(angle=math.radians(15), shift=0.1, scale=0.3, margin=-0.2)

    def __init__(self, models: Mapping[str, Path]) -> None:
        self._detect = Detector(models["face_detection_short_range"], (8, 16, 16, 16))
        self._mesh = AttentionMesh(models["face_landmark_with_attention"])
        self._last: np.ndarray | None = None

    def reset(self) -> None:
        """Follow no face."""
        self._last = None

    def __call__(self, picture: np.ndarray, body: Body | None) -> np.ndarray | None:
        """Return the mesh's vertices (468, 2) in pixels, or None."""
        last, self._last = self._last, None
        if body is None:
            return None
        coarse = around(body.points[:11], 5, 2, 3.0)
        found = self._detect(picture, coarse) if coarse.exists() else None
        if found is None or not len(found.scores):
            return None
        roi = around(found.points[0], 0, 1, 2.0, -0.1)
        if last is not None:
            old = around(last, 33, 263, 1.5)
            roi = old if still_there(last, old, roi, self._DRIFT) else roi
        if not roi.exists():
            return None
        points, presence = self._mesh(picture, roi)
        if presence > _PRESENT:
            self._last = roi.to_picture(points)
        return self._last
