"""Keypoints in the layout of Uni-Sign's published archives, one pickle a clip."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any, BinaryIO

import numpy as np

from signet_runtime.boundary import read_open
from signet_runtime.errors import InputError
from signet_runtime.limits import check_limit
from signet_runtime.pose.people import Asked, check_people, frame_rate
from signet_runtime.pose.pickles import load_pickle
from signet_runtime.pose.sequence import PoseSequence
from signet_runtime.pose.signer import follow_signer, several
from signet_runtime.skeleton import CONFIDENCE, NUM_KEYPOINTS

_PIXELS = 10.0  # no normalised coordinate is this far out of the frame, and some joint's pixel always is
_SCORES = (-0.5, 10.0)  # a joint that was not found scores 0 or a little less, a sure one at most a little over 1
_HUGE = 1e6  # more than a frame rate, a width or a height is

_MOST_JOINTS = 1000  # in one frame
# A pickle can have an array once and mean it in every frame. A true one has as many bytes as numbers, at the least.
_BYTES_A_PERSON = 3 * NUM_KEYPOINTS


def read_unisign(file: BinaryIO, asked: Asked | None = None) -> PoseSequence:
    """Return the signer's keypoints from a pickled dict.

    ``keypoints`` is a list over frames of (people, 133, 2) and ``scores`` one of (people, 133), as arrays or as nested
    lists, or each is one array; frames of one person may be without the axis of people, and frames in which nobody was
    found None or empty. Coordinates are fractions of the frame, or pixels; with pixels ``w_h``, the frame's width and
    height (in either order), is needed, and without it the size reads (1, 1). Optional are ``start`` and ``end`` (the
    frames in use, from 0, the end excluded) and ``fps`` (else ``asked.fps``, else 25, which is noted).

    A score from -0.5 to 0 says that a joint was not found, as rtmlib writes it; one below, or above 10, is no
    confidence. Of several people the signer is followed as in a video (see `SignerTracker`).

    Raises:
        InputError: not that; the message names the key and the frame.
    """
    data = read_open(file, "keypoint_bytes", "", InputError)
    content = load_pickle(data)
    if not isinstance(content, dict):
        raise InputError(f"not a keypoint pickle (it holds a {type(content).__name__}, not a dict)")
    return from_content(content, asked, len(data))


def from_content(content: dict[str, Any], asked: Asked | None = None, length: int | None = None) -> PoseSequence:
    """Return the signer's keypoints from a dict as `read_unisign` describes it.

    Args:
        length: of the pickle that it was in, in bytes.

    Raises:
        InputError: not that; the message names the key and the frame.
    """
    for key in ("keypoints", "scores"):
        if key not in content:
            raise InputError(f"not a keypoint pickle: it has no {key!r}")
        frames = content[key]
        if not isinstance(frames, list | tuple) and not (isinstance(frames, np.ndarray) and frames.ndim > 0):
            raise InputError(f"not a keypoint pickle: {key!r} is not a list over frames")
    points, confidence = _stack_people(content["keypoints"], content["scores"], *_frames_in_use(content), length)
    stated = None if content.get("fps") is None else float(_positive(content["fps"], "fps", 1)[0])
    asked = asked or Asked()
    fps = frame_rate(stated, asked)
    w_h = None if content.get("w_h") is None else _positive(content["w_h"], "w_h", 2)
    sure = points[confidence > CONFIDENCE]
    if len(sure) and np.abs(sure).max() > _PIXELS:
        if w_h is None:
            raise InputError("its keypoints are pixels and it has no 'w_h', the frame's width and height")
        w_h = _width_and_height(w_h, sure)
        points /= w_h
    size = (1, 1) if w_h is None else (max(1, int(w_h[0])), max(1, int(w_h[1])))
    one_points, one_confidence = _signer(points, confidence, asked)
    return PoseSequence(one_points, one_confidence, fps, size, "rtmpose")


def _frames_in_use(content: dict[str, Any]) -> tuple[int, int]:
    """Return the first frame in use, and the one after the last."""
    frames = len(content["scores"])
    if len(content["keypoints"]) != frames:
        raise InputError(f"{len(content['keypoints'])} frames of 'keypoints' and {frames} of 'scores'")
    start, end = content.get("start"), content.get("end")
    start, end = 0 if start is None else start, frames if end is None else end
    if type(start) is not int or type(end) is not int:
        raise InputError("'start' and 'end' are not numbers of frames")
    if not 0 <= start < end <= frames:
        raise InputError(f"'start' {str(start)[:20]} and 'end' {str(end)[:20]} are not a part of its {frames} frames")
    return start, end


def _stack_people(
    keypoints: Sequence[Any], scores: Sequence[Any], start: int, end: int, length: int | None
) -> tuple[np.ndarray, np.ndarray]:
    """Return (T, P, 133, 2) and (T, P, 133) float64 from frames with any number of people; who is missing scores 0."""
    check_people(end - start, 1)
    found: list[tuple[np.ndarray, np.ndarray] | None] = []
    most, people = 1, 0
    for t in range(start, end):
        points = _people(keypoints[t], f"frame {t} of 'keypoints'", (NUM_KEYPOINTS, 2))
        values = _people(scores[t], f"frame {t} of 'scores'", (NUM_KEYPOINTS,))
        if points is None or values is None:
            found.append(None)
            continue
        if len(points) != len(values):
            raise InputError(f"frame {t} has {len(points)} people in 'keypoints' and {len(values)} in 'scores'")
        found.append((points, values))
        most, people = max(most, len(points)), people + len(points)
        if length is not None and people * _BYTES_A_PERSON > length:
            raise InputError(f"{people} people and more in {length} bytes: what is there once is in it many times")
        check_people(end - start, most)
    all_points = np.zeros((end - start, most, NUM_KEYPOINTS, 2))
    all_scores = np.zeros((end - start, most, NUM_KEYPOINTS))
    for t, of_frame in enumerate(found):
        if of_frame is not None:
            people = len(of_frame[0])
            all_points[t, :people], all_scores[t, :people] = of_frame
    for key, numbers in (("keypoints", all_points), ("scores", all_scores)):
        finite = np.isfinite(numbers.reshape(end - start, -1)).all(axis=1)
        if not finite.all():
            raise InputError(f"frame {start + int(finite.argmin())} of {key!r} has a number that is NaN or infinite")
    low, high = _SCORES
    if all_scores.min() < low or all_scores.max() > high:
        wrong = ((all_scores < low) | (all_scores > high)).reshape(end - start, -1).any(axis=1)
        frame = int(wrong.argmax())
        worst = all_scores[frame].min() if all_scores[frame].min() < low else all_scores[frame].max()
        raise InputError(f"frame {start + frame} of 'scores' has a {worst:.4g}, which is not a confidence (0 to 1)")
    return all_points, all_scores


def _people(frame: Any, where: str, person: tuple[int, ...]) -> np.ndarray | None:
    """Return (people, *person) from an array or nested lists of it, or of one person; None when there is nobody."""
    if isinstance(frame, list | tuple):
        frame = _from_lists(frame, where, len(person))
    if frame is None or (isinstance(frame, np.ndarray) and frame.shape[:1] == (0,)):
        return None
    if not isinstance(frame, np.ndarray):
        raise InputError(f"{where} is not an array")
    if frame.ndim == len(person):
        frame = frame[None]
    if frame.shape[1:] != person:
        if frame.ndim == len(person) + 1 and frame.shape[2:] == person[1:]:
            raise InputError(f"{where} has {frame.shape[1]} joints, not the {NUM_KEYPOINTS} of COCO-WholeBody")
        expected = ", ".join(map(str, ("people", *person)))
        raise InputError(f"{where} has the shape {frame.shape}, not ({expected})")
    return frame


def _from_lists(frame: Sequence[Any], where: str, depth: int) -> np.ndarray | None:
    """Return (people, joints) or, with depth 2, (people, joints, 2) from nested lists or those of one person.

    A list may be in others many times, and spell more than there is memory for, or be in itself: so every length is
    looked at before anything is put together.
    """
    if not frame:
        return None
    inner: Any = frame
    for _ in range(depth):
        inner = inner[0] if isinstance(inner, list | tuple) and len(inner) > 0 else None
    people = [frame] if isinstance(inner, int | float) else frame
    check_limit("persons", len(people), where, InputError)
    arrays = [p if isinstance(p, np.ndarray) else _one_from_lists(p, where, depth) for p in people]
    if len({array.shape for array in arrays}) > 1:
        raise InputError(f"{where} has people with different numbers of joints")
    return np.stack(arrays)


def _one_from_lists(joints: Any, where: str, depth: int) -> np.ndarray:
    if not isinstance(joints, list | tuple) or len(joints) > _MOST_JOINTS:
        raise InputError(f"{where} is not an array")
    numbers = joints
    if depth == 2:
        if not set(map(type, joints)) <= {list, tuple} or not set(map(len, joints)) <= {2}:
            raise InputError(f"{where} has something in it that is not x and y")
        numbers = list(chain.from_iterable(joints))
    if not set(map(type, numbers)) <= {int, float, bool}:
        raise InputError(f"{where} has something in it that is not a number")
    try:
        return np.array(numbers, np.float64).reshape((len(joints), 2)[:depth])
    except OverflowError as error:
        raise InputError(f"{where} has a number that is too large") from error


def _signer(points: np.ndarray, scores: np.ndarray, asked: Asked) -> tuple[np.ndarray, np.ndarray]:
    """Return the signer's (T, 133, 2) and (T, 133): of one person alone faster than `follow_signer`."""
    if points.shape[1] > 1:
        asked.notes.append(several(points.shape[1], asked.signer))
        return follow_signer(points, scores, asked.signer)
    seen: np.ndarray = np.any(scores[:, 0] > CONFIDENCE, axis=1)
    return np.where(seen[:, None, None], points[:, 0], 0), np.where(seen[:, None], scores[:, 0], 0)


def _positive(value: Any, key: str, count: int) -> np.ndarray:
    """Return so many positive numbers; of a list of them, one a frame, the first."""
    if isinstance(value, np.ndarray):
        value = value[:1].tolist() if value.ndim > 1 else value.tolist()
    if isinstance(value, list | tuple) and value and isinstance(value[0], list | tuple):
        value = value[0]
    numbers = value if isinstance(value, list | tuple) else [value]
    if len(numbers) != count or not all(type(n) in (int, float) and 0 < n < _HUGE for n in numbers):
        raise InputError(f"{key!r} is not {'a positive number' if count == 1 else f'{count} positive numbers'}")
    return np.array(numbers, np.float64)


def _width_and_height(w_h: np.ndarray, sure: np.ndarray) -> np.ndarray:
    """Return the frame's width and height: some archives store ``w_h`` as height and width.

    The order as named, unless fewer joints would lie outside the frame the other way round.
    """

    def outside(size: np.ndarray) -> int:
        return int(((sure < 0) | (sure > size)).any(axis=-1).sum())

    return w_h[::-1] if outside(w_h[::-1]) < outside(w_h) else w_h
