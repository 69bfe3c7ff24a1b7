"""OpenPose's keypoints: a folder with a JSON file a frame, or one JSON with a list of frames, as ControlNet keeps them.

A person has ``pose_keypoints_2d`` (25 or 18 joints), ``face_keypoints_2d`` (70 or 68) and two hands of 21; each joint
is x, y and a confidence, in pixels or fractions.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from signet_runtime.boundary import read_json, reading
from signet_runtime.errors import InputError
from signet_runtime.limits import check_limit
from signet_runtime.pose.people import Asked, Person, frame_rate, frame_size, in_step, signer_of
from signet_runtime.pose.sequence import PoseSequence
from signet_runtime.skeleton import NUM_KEYPOINTS

SUFFIX = "_keypoints.json"

# Positions in OpenPose's bodies of COCO's 17 joints: nose, eyes, ears, shoulders, elbows, wrists, hips, knees, ankles.
BODY_25 = (0, 16, 15, 18, 17, 5, 2, 6, 3, 7, 4, 12, 9, 13, 10, 14, 11)
BODY_18 = (0, 15, 14, 17, 16, 5, 2, 6, 3, 7, 4, 11, 8, 12, 9, 13, 10)

_LONGEST_NUMBER = 18  # digits of a frame's number in its file's name


def read_folder(path: Path, asked: Asked) -> PoseSequence:
    """Return the signer's keypoints from a folder of ``…_keypoints.json``, a frame each, in the order of their numbers.

    Raises:
        InputError: a file that is not OpenPose's, which is named, or frames of several recordings.
    """
    frames: list[Any] = []
    names = sorted((p for p in path.glob(f"*{SUFFIX}") if not p.name.startswith(".")), key=_place)
    recordings = sorted({_place(name)[0] for name in names})
    if len(recordings) > 1:
        raise InputError(f"frames of several recordings ({recordings[0]}, {recordings[1]} …); give each a folder")
    check_limit("frames", len(names), "", InputError)
    for name in names:
        frames.append(read_json(name, "settings_bytes", encoding="utf-8-sig"))
    placed = in_step([_place(name)[1] for name in names], asked)
    return read_frames([{"people": []} if n is None else frames[n] for n in placed], asked)


def _place(path: Path) -> tuple[str, int]:
    """Return which recording a file is a frame of, and its number, which need not be padded with zeros."""
    recording, number = re.fullmatch(r"(.*?)_?([0-9]*)", path.name.removesuffix(SUFFIX)).groups()  # type: ignore[union-attr]
    return recording, int(number[-_LONGEST_NUMBER:] or 0)


def is_openpose(content: Any) -> bool:
    """Whether parsed JSON is a frame of OpenPose's, or a list of them."""
    first = content[0] if isinstance(content, list) and content else content
    return isinstance(first, dict) and "people" in first


def read_frames(frames: Iterable[Any], asked: Asked) -> PoseSequence:
    """Return the signer's keypoints from parsed frames.

    Raises:
        InputError: one of them is not OpenPose's, which is named by its number from 0.
    """
    people: list[list[Person]] = []
    size: tuple[int, int] | None = None
    for number, frame in enumerate(frames):
        check_limit("frames", number + 1, "", InputError)
        with reading(f"frame {number}", InputError, "OpenPose's"):
            people.append([_person(person) for person in frame["people"] or []])
            if "canvas_width" in frame and "canvas_height" in frame:
                size = frame_size(int(frame["canvas_width"]), int(frame["canvas_height"]))
    return signer_of(people, frame_rate(None, asked), size, "openpose", asked)


def _person(person: dict[str, Any]) -> Person:
    points, scores = np.zeros((NUM_KEYPOINTS, 2)), np.zeros(NUM_KEYPOINTS)
    body = _triples(person.get("pose_keypoints_2d"), (25, 18))
    if body is not None:
        body = body[list(BODY_25 if len(body) == 25 else BODY_18)]
    parts = (
        (0, 17, body),
        (23, 68, _triples(person.get("face_keypoints_2d"), (70, 68))),
        (91, 21, _triples(person.get("hand_left_keypoints_2d"), (21,))),
        (112, 21, _triples(person.get("hand_right_keypoints_2d"), (21,))),
    )
    for first, count, found in parts:
        if found is not None:
            points[first : first + count] = found[:count, :2]
            scores[first : first + count] = found[:count, 2]
    return points, scores


def _triples(numbers: Any, counts: tuple[int, ...]) -> np.ndarray | None:
    """(N, 3) of a flat list, None for a part that was not found."""
    if not numbers:
        return None
    array = np.array(numbers, np.float64).reshape(-1, 3)
    if len(array) not in counts:
        raise ValueError(f"a part of {len(array)} joints, not {counts[0]}")
    return array
