"""Keypoints of MMPose and DWPose: COCO-WholeBody's 133 joints as JSON or in an `.npz`.

JSON is what MMPose's inferencer writes: ``instance_info``, or that list itself, of frames with ``instances``, each of
which has ``keypoints`` (133 of x and y) and ``keypoint_scores``. An `.npz` has ``keypoints`` (frames, people, 133, 2 or
3) and ``scores`` (frames, people, 133), or the axis of people is left out; or ``bodies``, ``hands`` and ``faces`` as
DWPose draws them. ``fps`` and ``size`` (width, height) may be there.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from signet_runtime.boundary import reading
from signet_runtime.errors import InputError
from signet_runtime.limits import check_limit
from signet_runtime.pose.openpose import BODY_18
from signet_runtime.pose.people import Asked, Person, check_people, frame_rate, frame_size, signer_of
from signet_runtime.pose.sequence import PoseSequence
from signet_runtime.skeleton import NUM_KEYPOINTS

# Of an `.npz`, all that is looked at.
ARRAYS = ("keypoints", "scores", "keypoint_scores", "bodies", "hands", "faces", "fps", "size", "w_h")


def is_mmpose(content: Any) -> bool:
    """Whether parsed JSON is MMPose's."""
    frames = content.get("instance_info") if isinstance(content, dict) else content
    if not isinstance(frames, list) or not frames or not isinstance(frames[0], dict):
        return False
    return "instances" in frames[0] or "keypoints" in frames[0]


def read_json(content: Any, asked: Asked) -> PoseSequence:
    """Return the signer's keypoints from MMPose's parsed JSON.

    Raises:
        InputError: a frame that is not what is described above, named by its number from 0.
    """
    frames = content["instance_info"] if isinstance(content, dict) else content
    if "instances" not in frames[0]:  # of one picture: its people
        frames = [{"instances": frames}]
    people: list[list[Person]] = []
    for number, frame in enumerate(frames):
        with reading(f"frame {number}", InputError, "MMPose's of 133 joints"):
            people.append([_instance(instance) for instance in frame["instances"]])
    stated = content.get("fps") if isinstance(content, dict) else None
    size = _size(content) if isinstance(content, dict) else None
    return signer_of(people, frame_rate(stated, asked), size, "rtmpose", asked)


def _size(content: dict[str, Any]) -> tuple[int, int] | None:
    size = content.get("size") or [content.get("width"), content.get("height")]
    if not isinstance(size, list) or len(size) != 2 or not all(isinstance(n, int) and n > 0 for n in size):
        return None
    return frame_size(*size)


def _instance(instance: dict[str, Any]) -> Person:
    points = np.array(instance["keypoints"], np.float64)
    points = points[0] if points.ndim == 3 and len(points) == 1 else points
    scores = np.array(instance.get("keypoint_scores", instance.get("scores", np.ones(len(points)))), np.float64).ravel()
    if points.shape[:1] != (NUM_KEYPOINTS,) or points.ndim != 2 or points.shape[1] < 2 or len(scores) != NUM_KEYPOINTS:
        raise ValueError(f"{len(points)} joints")
    return points[:, :2], scores


def read_npz(arrays: dict[str, np.ndarray], asked: Asked) -> PoseSequence:
    """Return the signer's keypoints from the arrays of an `.npz`.

    Raises:
        InputError: not what is described above.
    """
    with reading("", InputError, "arrays of MMPose or DWPose"):
        points, scores = _drawn(arrays) if "bodies" in arrays else _stacked(arrays)
        size = None
        for key in ("size", "w_h"):
            if key in arrays and arrays[key].size == 2 and (arrays[key] > 0).all():
                width, height = (int(n) for n in arrays[key].ravel())
                size = frame_size(width, height)
        stated = float(arrays["fps"].ravel()[0]) if "fps" in arrays and arrays["fps"].size == 1 else None
    people = [list(zip(*frame, strict=True)) for frame in zip(points, scores, strict=True)]
    return signer_of(people, frame_rate(stated, asked), size, "rtmpose", asked)


def _stacked(arrays: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    points = arrays["keypoints"][:, None] if arrays["keypoints"].ndim == 3 else arrays["keypoints"]
    if points.ndim != 4 or points.shape[2] != NUM_KEYPOINTS or points.shape[3] not in (2, 3):
        raise InputError(f"its keypoints have the shape {points.shape}, not (frames, people, {NUM_KEYPOINTS}, 2)")
    check_people(points.shape[0], points.shape[1])
    points = points.astype(np.float64)
    scores = arrays.get("scores", arrays.get("keypoint_scores"))
    if scores is None:
        scores = points[..., 2] if points.shape[3] == 3 else np.ones(points.shape[:3])
    scores = np.asarray(scores, np.float64)
    scores = scores[:, None] if scores.ndim == 2 else scores
    if scores.shape != points.shape[:3]:
        raise InputError(f"its scores have the shape {scores.shape}, not {points.shape[:3]}")
    return points[..., :2], scores


def _drawn(arrays: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """One person as DWPose draws them: a joint that was not found is at -1."""
    frames = len(arrays["bodies"])
    check_limit("frames", frames, "", InputError)
    points = np.zeros((frames, 1, NUM_KEYPOINTS, 2))
    scores = np.zeros((frames, 1, NUM_KEYPOINTS))
    try:
        body = np.asarray(arrays["bodies"], np.float64).reshape(frames, 18, 2)[:, list(BODY_18)]
        hands = np.asarray(arrays["hands"], np.float64).reshape(frames, 42, 2)
        parts = [(0, body), (91, hands)]
        if "faces" in arrays:
            parts.append((23, np.asarray(arrays["faces"], np.float64).reshape(frames, 68, 2)))
    except (KeyError, ValueError) as error:
        raise InputError(f"not DWPose's bodies, hands and faces of one person ({error})") from error
    for first, part in parts:
        count = part.shape[1]
        points[:, 0, first : first + count] = part
        scores[:, 0, first : first + count] = (part >= 0).all(axis=-1)
    return points, scores
