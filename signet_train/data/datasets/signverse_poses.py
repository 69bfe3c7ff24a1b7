"""A video's keypoints in SignVerse-2M: an ``.npz`` whose frames are pickled, read without calling anything.

``fps`` (24), ``frame_indices`` (from 1) and ``frame_payloads``, an array of dicts: ``num_persons``, and of each person
``person_000_body_keypoints`` (18, 2) in OpenPose's order, ``…_face_keypoints`` (68, 2), ``…_left_hand_keypoints`` and
``…_right_hand_keypoints`` (21, 2), all in fractions of the frame, and ``…_scores`` of each.
"""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass
from typing import Any

import numpy as np

from signet_runtime.boundary import reading
from signet_runtime.errors import InputError
from signet_runtime.pose.arrays import read_arrays
from signet_runtime.pose.openpose import BODY_18
from signet_runtime.pose.people import Asked, Person, check_people, frame_size, signer_of
from signet_runtime.pose.pickles import load_pickle
from signet_runtime.pose.sequence import PoseSequence
from signet_runtime.skeleton import NUM_KEYPOINTS

# Where a part's joints begin in COCO-WholeBody's 133, and how many there are.
_PARTS = {"body": (0, 18), "face": (23, 68), "left_hand": (91, 21), "right_hand": (112, 21)}
_MOST_PEOPLE = 50


@dataclass(frozen=True, slots=True)
class Video:
    """A video's frames, in the order of time.

    Attributes:
        fps: of the numbers.
        numbers: int (frames,), each frame's from 0; frames may be left out.
        frames: as they are in the file.
        size: width and height in pixels.
    """

    fps: float
    numbers: np.ndarray
    frames: list[Any]
    size: tuple[int, int] | None

    def stretch(self, start: float, end: float) -> PoseSequence:
        """Return the signer's keypoints from ``start`` to ``end``, in seconds.

        Raises:
            InputError: nobody is in these frames, or they are no DWPose's.
        """
        chosen = np.flatnonzero((self.numbers >= start * self.fps - 0.5) & (self.numbers < end * self.fps - 0.5))
        people: list[list[Person]] = []
        with reading("", InputError, "frames of DWPose"):
            people = [_people(self.frames[i]) for i in chosen.tolist()]
        if not any(people):
            raise InputError("nobody is in these frames")
        return signer_of(people, self.fps, self.size, "rtmpose", Asked())


def read_video(data: bytes) -> Video:
    """Return a video's frames from its ``poses.npz``.

    Raises:
        InputError: it is damaged, or no such file; or its pickle asks for anything but plain data.
    """
    with reading("poses.npz", InputError, "SignVerse-2M's keypoints"):
        arrays = read_arrays(io.BytesIO(data), {"fps", "frame_indices", "frame_widths", "frame_heights"})
        with zipfile.ZipFile(io.BytesIO(data)) as archive, archive.open("frame_payloads.npy") as file:
            version = np.lib.format.read_magic(file)
            header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, _, dtype = header(file)
            if dtype.kind != "O" or len(shape) != 1:
                raise InputError("poses.npz: its frames are no array of objects")
            frames = load_pickle(file.read())
        if not isinstance(frames, list) or len(frames) != shape[0] or not frames:
            raise InputError("poses.npz: its frames are not as many as it says")
        numbers = arrays.get("frame_indices", np.zeros(0)).astype(np.int64) - 1
        if len(numbers) != len(frames):
            numbers = np.arange(len(frames))
        size = None
        if {"frame_widths", "frame_heights"} <= set(arrays) and arrays["frame_widths"].size:
            size = frame_size(int(arrays["frame_widths"].ravel()[0]), int(arrays["frame_heights"].ravel()[0]))
        fps = float(arrays["fps"].ravel()[0]) if "fps" in arrays else 24.0
        if not 0 < fps < 1000:
            raise InputError(f"poses.npz: {fps} frames a second")
        return Video(fps, numbers, frames, size)


def _people(frame: Any) -> list[Person]:
    count = int(np.asarray(frame.get("num_persons", 0)))
    check_people(1, min(count, _MOST_PEOPLE))
    people: list[Person] = []
    for number in range(min(count, _MOST_PEOPLE)):
        points, scores = np.zeros((NUM_KEYPOINTS, 2)), np.zeros(NUM_KEYPOINTS)
        for part, (first, joints) in _PARTS.items():
            name = f"person_{number:03}_{part}"
            if f"{name}_keypoints" not in frame:
                continue
            found = np.asarray(frame[f"{name}_keypoints"], np.float64).reshape(joints, 2)
            sure = np.clip(np.asarray(frame[f"{name}_scores"], np.float64).reshape(joints), 0, 1)
            if part == "body":
                found, sure = found[list(BODY_18)], sure[list(BODY_18)]
            points[first : first + len(found)], scores[first : first + len(sure)] = found, sure
        # A joint that was not found is at -1.
        scores[(points < 0).any(axis=1)] = 0
        people.append((points, scores))
    return people
