"""Which of several people is the signer, frame after frame."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import islice, pairwise
from threading import Lock

import numpy as np

# Boxes of one person in neighbouring frames overlap far more, even with an arm flung out.
_SAME_PERSON_IOU = 0.3

# How many frames a bystander's last position is remembered, so that a detector that misses them for a
# moment does not turn them into somebody new.
_BYSTANDER_MEMORY = 30

_CONFIDENCE = 0.3  # joints at or below say nothing about where somebody is


# Whom to follow among several people; or the number of one, from the left, from 1.
CHOICES = ("active", "largest", "left", "right")

# Who moves so many times as much as the largest person is the one who signs.
_MORE_ACTIVE = 2.0

# A change of a grey value that is no noise, and how densely a picture is looked at (pixels a side, about).
_CHANGE, _GRID = 16, 160

# Of the frames that are looked at ahead, no more than these are held (bytes).
_LOOK_AHEAD, _MOST_BYTES = 40, 1 << 28

_WRISTS = (9, 10)

_Motion = Callable[[np.ndarray], np.ndarray]


def several(people: int, choice: str) -> str:
    """Return what to say where one of several people is followed."""
    who = {
        "active": "who moves their hands most",
        "largest": "the largest and most central",
        "left": "who is furthest left",
        "right": "who is furthest right",
    }.get(choice, f"number {choice} from the left")
    return f"{people} people are in it; {who} is followed, --signer takes another"


class SignerTracker:
    """Chooses one signer and stays with them.

    The signer is chosen when somebody is first seen, and is then followed by the overlap of boxes. While the signer is
    away, people who were already there stay bystanders; whoever newly appears is taken to be the signer come back.

    Args:
        choice: of `CHOICES`, or a number. "largest" is the largest and most central person; "active" too, unless
            somebody else moves twice as much, where that can be seen.
        notes: that there were several people is appended to it.
    """

    def __init__(self, choice: str = "active", notes: list[str] | None = None) -> None:
        self._choice, self._notes = choice, [] if notes is None else notes
        self._signer: np.ndarray | None = None
        self._present = False
        self._bystanders: list[tuple[np.ndarray, int]] = []  # last box, frames since it was seen

    def update(self, boxes: np.ndarray, motion: _Motion | None = None) -> int | None:
        """Return the signer's position in ``boxes``, or None when the signer is not among them.

        Args:
            boxes: (N, 4) float, left, top, right, bottom in fractions of the frame; one box a person.
            motion: how much there is in each of such boxes (N,); asked once, where one of several is to be chosen.
        """
        boxes = np.asarray(boxes, dtype=np.float64).reshape(-1, 4)
        chosen = self._find(boxes, motion)
        self._present = chosen is not None
        if chosen is not None:
            self._signer = boxes[chosen]
        self._remember(np.delete(boxes, chosen, axis=0) if chosen is not None else boxes)
        return chosen

    def _find(self, boxes: np.ndarray, motion: _Motion | None) -> int | None:
        if len(boxes) == 0:
            return None
        if self._signer is None:
            return self._choose(boxes, motion)
        overlap = overlaps(self._signer[None], boxes)[0]
        if overlap.max() >= _SAME_PERSON_IOU:
            # Somebody known to be a bystander may have walked to where the signer was last seen.
            nearest = int(overlap.argmax())
            if self._present or not self._is_bystander(boxes[nearest]):
                return nearest
        strangers = [i for i, box in enumerate(boxes) if not self._is_bystander(box)]
        return strangers[largest_most_central(boxes[strangers])] if strangers else None

    def _choose(self, boxes: np.ndarray, motion: _Motion | None) -> int:
        chosen = largest_most_central(boxes)
        if len(boxes) == 1:
            return chosen
        people = int((np.tril(overlaps(boxes, boxes), -1) < _SAME_PERSON_IOU).all(axis=1).sum())
        from_left = np.argsort(boxes[:, 0] + boxes[:, 2], kind="stable")
        followed = self._choice  # which is what is said
        if self._choice in ("left", "right"):
            chosen = int(from_left[0 if self._choice == "left" else -1])
        elif self._choice.isdecimal():
            number = min(max(int(self._choice), 1), len(boxes))
            chosen, followed = int(from_left[number - 1]), str(number)
        elif self._choice == "active":
            followed = "largest"
            if motion is not None and people > 1:
                moved = motion(boxes)
                most = int(np.argmax(moved))
                if moved[most] > (0 if most == chosen else _MORE_ACTIVE * moved[chosen]):
                    chosen, followed = most, "active"
        if people > 1:
            self._notes.append(several(people, followed))
        return chosen

    def _is_bystander(self, box: np.ndarray) -> bool:
        if not self._bystanders:
            return False
        known = np.array([known for known, _ in self._bystanders])
        return bool((overlaps(known, box[None]) >= _SAME_PERSON_IOU).any())

    def _remember(self, others: np.ndarray) -> None:
        unseen: list[tuple[np.ndarray, int]] = []
        if remembered := [(known, age + 1) for known, age in self._bystanders if age < _BYSTANDER_MEMORY]:
            found = overlaps(np.array([known for known, _ in remembered]), others)
            unseen = [remembered[i] for i in np.flatnonzero((found < _SAME_PERSON_IOU).all(axis=1))]
        self._bystanders = [(box, 0) for box in others] + unseen


def largest_most_central(boxes: np.ndarray) -> int:
    """Return the position of the largest box, where nearness to the frame's centre counts as well.

    Area times centrality, which falls from 1 in the middle of the frame to 0 in its corners: of two equally
    large people the more central one, but a far larger one even at the side.
    """
    width, height = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2
    centrality = 1 - np.linalg.norm(centre - 0.5, axis=1) / np.sqrt(0.5)
    return int(np.argmax(width * height * np.clip(centrality, 0.01, None)))


class LookAhead:
    """Frames, and what moves in the next of them: uint8 (H, W, 3), each given once and in order.

    The two may be asked for in different threads.

    Args:
        at_work: from how many of the frames given last on `motion` may be asked for.
    """

    def __init__(self, frames: Iterable[np.ndarray], at_work: int = 1) -> None:
        self._frames = iter(frames)
        self._held: deque[np.ndarray] = deque()
        self._given: deque[np.ndarray] = deque(maxlen=at_work)
        self._reading = Lock()

    def __iter__(self) -> Iterator[np.ndarray]:
        while True:
            with self._reading:
                frame = self._held.popleft() if self._held else next(self._frames, None)
                if frame is None:
                    return
                self._given.append(frame)
            yield frame

    def motion_since_last(self, boxes: np.ndarray) -> np.ndarray:
        """Return `motion` from the frame on that was given last."""
        return self.motion(self._given[-1], boxes)

    def motion(self, frame: np.ndarray, boxes: np.ndarray) -> np.ndarray:
        """Return the share of every box that changes from frame to frame (N,).

        Args:
            frame: one of those given last, from which on that is.
            boxes: (N, 4), in fractions of the frame.
        """
        count = max(2, min(_LOOK_AHEAD, _MOST_BYTES // frame.nbytes))
        with self._reading:
            given = list(self._given)
            since = [other is frame for other in given].index(True)
            missing = count - (len(given) - since) - len(self._held)
            self._held.extend(islice(self._frames, max(0, missing)))
            window = [*given[since:], *self._held][:count]
        step = max(1, max(frame.shape[:2]) // _GRID)
        small = [picture[::step, ::step].mean(axis=2) for picture in window]
        changed = np.mean([np.abs(b - a) > _CHANGE for a, b in pairwise(small)] or [np.zeros_like(small[0])], axis=0)
        height, width = changed.shape
        moved = []
        for left, top, right, bottom in np.clip(boxes, 0, 1):
            rows = slice(int(top * height), max(int(bottom * height), int(top * height) + 1))
            part = changed[rows, int(left * width) : max(int(right * width), int(left * width) + 1)]
            moved.append(float(part.mean()) if part.size else 0.0)
        return np.array(moved)


def follow_signer(keypoints: np.ndarray, scores: np.ndarray, choice: str = "active") -> tuple[np.ndarray, np.ndarray]:
    """Return one signer out of the keypoints of several people in one frame after another.

    Args:
        keypoints: (T, P, J, 2) in fractions of the frame.
        scores: (T, P, J). A person whose scores are all low is not there: padding for frames with fewer.

    Returns:
        keypoints (T, J, 2), scores (T, J); zeros in frames without the signer.
    """
    tracker = SignerTracker(choice)
    one_keypoints = np.zeros((len(keypoints), *keypoints.shape[2:]), keypoints.dtype)
    one_scores = np.zeros((len(scores), scores.shape[2]), scores.dtype)
    for t, (people, confidence) in enumerate(zip(keypoints, scores, strict=True)):
        seen = np.flatnonzero((confidence > _CONFIDENCE).any(axis=1))
        boxes = np.array([_box(people[i][confidence[i] > _CONFIDENCE]) for i in seen]).reshape(-1, 4)
        chosen = tracker.update(boxes, partial(_hands_motion, keypoints[t:], scores[t:], seen))
        if chosen is not None:
            one_keypoints[t], one_scores[t] = people[seen[chosen]], confidence[seen[chosen]]
    return one_keypoints, one_scores


def _hands_motion(keypoints: np.ndarray, scores: np.ndarray, seen: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Return how far the wrists of those seen in the first frame go a frame, in widths of their boxes (N,)."""
    moved = np.zeros(len(seen))
    ahead = []
    for people, confidence in zip(keypoints[1:_LOOK_AHEAD], scores[1:_LOOK_AHEAD], strict=True):
        there = np.flatnonzero((confidence > _CONFIDENCE).any(axis=1))
        if len(there):
            found = np.array([_box(people[i][confidence[i] > _CONFIDENCE]) for i in there])
            ahead.append((people, confidence, there, found))
    for person, box in enumerate(boxes):
        where, last = box, (keypoints[0, seen[person]], scores[0, seen[person]])
        steps: list[float] = []
        for people, confidence, there, found in ahead:
            overlap = overlaps(where[None], found)[0]
            nearest = int(np.argmax(overlap))
            if overlap[nearest] < _SAME_PERSON_IOU:
                continue
            where, now = found[nearest], (people[there[nearest]], confidence[there[nearest]])
            both = [j for j in _WRISTS if now[1][j] > _CONFIDENCE and last[1][j] > _CONFIDENCE]
            steps += [float(np.linalg.norm(now[0][j] - last[0][j])) for j in both]
            last = now
        moved[person] = np.mean(steps) / max(box[2] - box[0], 1e-6) if steps else 0.0
    return moved


def _box(points: np.ndarray) -> np.ndarray:
    return np.concatenate([points.min(axis=0), points.max(axis=0)])


def overlaps(some: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return `iou` of each of some boxes (N, 4) with each of others (M, 4), as (N, M)."""
    low = np.maximum(some[:, None, :2], others[None, :, :2])
    high = np.minimum(some[:, None, 2:], others[None, :, 2:])
    inter = np.prod(np.clip(high - low, 0, None), axis=-1)
    areas = [np.prod(boxes[:, 2:] - boxes[:, :2], axis=-1) for boxes in (some, others)]
    union = areas[0][:, None] + areas[1][None] - inter
    return np.where(union > 0, inter / np.where(union > 0, union, 1), 0.0)


def iou(a: np.ndarray, b: np.ndarray) -> float:
    """Return the intersection over union of two boxes: left, top, right, bottom."""
    low, high = np.maximum(a[:2], b[:2]), np.minimum(a[2:], b[2:])
    inter = float(np.prod(np.clip(high - low, 0, None)))
    union = float(np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2])) - inter
    return inter / union if union > 0 else 0.0
