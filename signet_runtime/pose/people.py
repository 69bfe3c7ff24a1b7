"""Other programs' keypoints of several people -> one signer's `PoseSequence`: what all their readers share."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from signet_runtime.errors import InputError
from signet_runtime.limits import check_limit
from signet_runtime.pose.sequence import PoseSequence
from signet_runtime.pose.signer import follow_signer, several
from signet_runtime.skeleton import NUM_KEYPOINTS

# For keypoints that do not say; 25 is the rate of most published archives.
UNKNOWN_FRAME_RATE = 25.0

_PIXELS = 10.0  # no normalised coordinate is this far out of the frame, and some joint's pixel always is


@dataclass
class Asked:
    """What a reader is told of keypoints, and what it has to say about them.

    Attributes:
        fps: frames a second, where the keypoints do not state it.
        signer: whom to follow among several people, see `SignerTracker`.
        notes: what was assumed or chosen, a line each.
    """

    fps: float | None = None
    signer: str = "active"
    notes: list[str] = field(default_factory=list)


Person = tuple[np.ndarray, np.ndarray]  # (133, 2) and (133,)


def frame_rate(stated: object, asked: Asked) -> float:
    """Return the stated frames a second, else those that were given, else 25, which is noted.

    Raises:
        InputError: what is stated is no rate.
    """
    if stated is not None:
        if not isinstance(stated, int | float) or isinstance(stated, bool) or not 0 < stated < math.inf:
            raise InputError(f"its frame rate {ascii(stated)[:40]} is not a positive number")
        check_limit("rate_high", stated, "", InputError)
        return float(stated)
    if asked.fps is None:
        assumed = f"{UNKNOWN_FRAME_RATE:g} a second are assumed"
        asked.notes.append(f"it does not state its frame rate; {assumed} (--fps states another)")
    return asked.fps or UNKNOWN_FRAME_RATE


def frame_size(width: int, height: int) -> tuple[int, int]:
    """Return the width and height that are stated, in pixels.

    Raises:
        InputError: they are not those of a picture.
    """
    if min(width, height) <= 0:
        raise InputError("its frames' width and height are not positive, so where its points are is unknown")
    check_limit("pixels", width * height, "", InputError)
    return width, height


def check_people(frames: int, most: int) -> None:
    """See that so many frames of at most so many people are no more than a clip has.

    Raises:
        InputError
    """
    check_limit("frames", frames, "", InputError)
    check_limit("persons", most, "", InputError)
    check_limit("people", frames * max(most, 1), "", InputError)


def in_step(numbers: Sequence[int], asked: Asked) -> list[int | None]:
    """Return the positions of frames by their ascending ``numbers``, and None, which is noted, where one is missing.

    Numbers may be apart by any even step. Where they are not, it is not known what is missing: then nothing is.
    """
    steps = np.diff(numbers)
    if len(steps) == 0 or (steps <= 0).any():
        return list(range(len(numbers)))
    step = int(np.median(steps))
    places = (np.array(numbers) - numbers[0]) // step
    if (steps % step).any() or places[-1] >= 2 * len(numbers):
        return list(range(len(numbers)))
    frames: list[int | None] = [None] * (int(places[-1]) + 1)
    for position, place in enumerate(places):
        frames[place] = position
    if missing := len(frames) - len(numbers):
        asked.notes.append(f"{missing} of its {len(frames)} frames are missing; nobody is seen in them")
    return frames


def signer_of(
    frames: Sequence[Sequence[Person]],
    fps: float,
    size: tuple[int, int] | None,
    source: str,
    asked: Asked,
) -> PoseSequence:
    """Return the keypoints of the signer (see `follow_signer`) among the people in every frame.

    Args:
        frames: in pixels or in fractions of the frame; a person's scores are 0 where a joint was not found.
        size: width and height of the frame; where pixels come without one, a square about them is assumed and noted.

    Raises:
        InputError: more people than a clip has, or numbers that are not finite.
    """
    most = max((len(people) for people in frames), default=0)
    check_people(len(frames), most)
    if most == 0:
        raise InputError(f"no person in any of its {len(frames)} frames")
    points = np.zeros((len(frames), most, NUM_KEYPOINTS, 2))
    scores = np.zeros((len(frames), most, NUM_KEYPOINTS))
    for t, people in enumerate(frames):
        for person, (xy, confidence) in enumerate(people):
            points[t, person], scores[t, person] = xy, confidence
    points[~(scores > 0)] = 0
    if not (np.isfinite(points).all() and np.isfinite(scores).all()):
        raise InputError("its keypoints have a number that is NaN or infinite")
    reach = float(max(points.max(initial=0), -points.min(initial=0)))
    if reach > _PIXELS:
        if size is None:
            size = frame_size(math.ceil(reach), math.ceil(reach))
            asked.notes.append(f"its frames' size is not stated; a square of {size[0]} pixels is assumed")
        points /= size
    elif size is None:
        asked.notes.append("its frames' size is not stated; a square is assumed")
    if most > 1:
        points, scores = follow_signer(points, scores, asked.signer)
        asked.notes.append(several(most, asked.signer))
    else:
        points, scores = points[:, 0], scores[:, 0]
    return PoseSequence(points, np.clip(scores, 0, 1), fps, size or (1, 1), source)
