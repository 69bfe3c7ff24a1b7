"""Who is in the picture, and which part of it shows the signer alone and large enough."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import numpy as np

from signet_runtime.pose.holistic.detection import overlaps
from signet_runtime.pose.holistic.parts import Detector, whole
from signet_runtime.pose.signer import LookAhead, SignerTracker

# Every how many frames we look whether other people are in view: often enough to notice somebody joining, rarely
# enough to cost some 2% of the rest. More often until the signer has been seen to sign.
_LOOK_EVERY = 10
_SETTLING = 5

# Two people side by side are a shoulder's width apart or more, about this share of an upper-body box.
_APART = 0.35

# The detector sees pictures of 224 pixels a side: who is smaller than this share of the frame's longer side is unsure
# in all of it, and is looked at through a view of their own.
_SMALL = 0.25

# How far such a view goes from the middle of the shoulders, in upper-body boxes: left and right, up, down.
_REACH = (1.2, 1.0, 1.5)

# The closer look: squares of half the frame's shorter side, each overlapping its neighbours by half, so that someone
# of an eighth of its height is seen. It takes as long as some 20 looks, so while nobody is found it is taken less and
# less often. What it finds must be surer, because it looks so often.
_TILE = 0.5
_SURE = 0.7
_PATIENCE = (5, 60)  # frames between closer looks, first and at most
_SMALLEST_TILE = 160

# Someone moves when more than the first share of their box has changed by this many grey levels since the first frame,
# and is frozen, as nobody alive is for long, when less than the second share has changed by a few.
_MOVES, _FROZEN = (0.05, 12), (0.01, 5)
_CELLS = 32  # a side


class View(NamedTuple):
    """A part of a frame in pixels."""

    left: int
    top: int
    right: int
    bottom: int

    def of(self, frame: np.ndarray) -> np.ndarray:
        """Return the part of the frame, which shares its memory."""
        return frame[self.top : self.bottom, self.left : self.right]


class People:
    """Follows the signer through one recording (see `SignerTracker`).

    The tracker's first choice, the largest and most central person, is open until they are seen to move: if somebody
    else moves and they are frozen, they are a picture, and the other is the signer.

    Args:
        detect: the person detector.
        choice, notes: see `SignerTracker`; a choice that was asked for is not open.
        ahead: the frames of the recording, where they can be looked at ahead.
    """

    def __init__(
        self,
        detect: Detector,
        choice: str = "active",
        notes: list[str] | None = None,
        ahead: LookAhead | None = None,
    ) -> None:
        self._detect, self._ahead = detect, ahead
        self._tracker = SignerTracker(choice, notes)
        self._index = 0
        self._view: View | None = None
        self._settled, self._frozen = choice != "active", False
        self._first: np.ndarray | None = None
        self._wait, self._next_closer_look = _PATIENCE[0], 0

    def view(self, frame: np.ndarray, *, lost: bool) -> View:
        """Return what of the next frame shows the signer.

        Args:
            frame: uint8 RGB (H, W, 3).
            lost: nobody was followed in the frame before.
        """
        height, width = frame.shape[:2]
        if self._index % (_LOOK_EVERY if self._settled else _SETTLING) == 0:
            boxes = self._look(frame)
            signer = self._choose(boxes, frame)
            if (lost if signer is None else self._frozen) and self._index >= self._next_closer_look:
                self._next_closer_look, self._wait = self._index + self._wait, min(2 * self._wait, _PATIENCE[1])
                boxes = self._look_closer(frame, boxes)
                signer = self._choose(boxes, frame)
            self._view = view_of(boxes, signer, self._view, (width, height))
        self._index += 1
        return self._view or View(0, 0, width, height)

    def _look(self, frame: np.ndarray) -> np.ndarray:
        """Return upper-body boxes (N, 4) in pixels of who is seen in the whole frame or in the signer's own view."""
        found = [_upper_bodies(self._detect(frame, whole(frame)).points)]
        if self._view is not None and is_small(self._view, frame):
            found.insert(0, self._within(frame, self._view, 0.0))
        return _different(np.concatenate(found))

    def _look_closer(self, frame: np.ndarray, boxes: np.ndarray) -> np.ndarray:
        tiles = tiles_of(frame.shape[1], frame.shape[0])
        return _different(np.concatenate([boxes, *(self._within(frame, tile, _SURE) for tile in tiles)]))

    def _within(self, frame: np.ndarray, part: View, min_score: float) -> np.ndarray:
        picture = part.of(frame)
        found = self._detect(picture, whole(picture))
        return _upper_bodies(found.points[found.scores >= min_score]) + np.tile(part[:2], 2)

    def _choose(self, boxes: np.ndarray, frame: np.ndarray) -> int | None:
        height, width = frame.shape[:2]
        fractions = boxes / (width, height, width, height)
        motion_ahead = None if self._ahead is None else partial(self._ahead.motion, frame)
        signer = self._tracker.update(fractions, motion_ahead)
        if self._settled:
            return signer
        if self._first is None:
            self._first = frame.copy()
            return signer
        if not len(boxes):
            self._frozen = False
            return None
        changes = np.array([_changes(self._first, frame, box) for box in boxes])
        motion = (changes >= _MOVES[1]).mean(axis=1)
        liveliest = int(motion.argmax())
        self._frozen = signer is not None and bool((changes[signer] >= _FROZEN[1]).mean() < _FROZEN[0])
        if motion[liveliest] < _MOVES[0]:
            return signer
        if signer is None or self._frozen:
            self._tracker, signer = SignerTracker(), liveliest
            self._tracker.update(fractions[[liveliest]])
            self._tracker.update(fractions)
        if motion[signer] >= _MOVES[0]:
            self._settled, self._frozen, self._first = True, False, None
        return signer


def _upper_bodies(points: np.ndarray) -> np.ndarray:
    """Return boxes (N, 4) around the circles around upper bodies, of the detector's points (N, 4, 2)."""
    middle = points[:, 2]
    radius = np.linalg.norm(points[:, 3] - middle, axis=1, keepdims=True)
    return np.concatenate([middle - radius, middle + radius], axis=1)


def _different(boxes: np.ndarray) -> np.ndarray:
    """Return boxes of different people; of two that are one person's, the first."""
    kept: list[np.ndarray] = []
    for box in boxes:
        if not kept or (overlaps(box, np.array(kept)) < _APART).all():
            kept.append(box)
    return np.array(kept).reshape(-1, 4)


def tiles_of(width: int, height: int) -> list[View]:
    """Return the squares of a closer look; none where they would not be closer."""
    side = round(min(width, height) * _TILE)
    if side < _SMALLEST_TILE:
        return []

    def starts(length: int) -> list[int]:
        count = -(-2 * (length - side) // side) + 1
        return np.linspace(0, length - side, count).round().astype(int).tolist()

    return [View(x, y, x + side, y + side) for y in starts(height) for x in starts(width)]


def is_small(view: View, frame: np.ndarray) -> bool:
    """Whether a view was made for a small signer, and is not only cut at the sides."""
    return view.bottom - view.top < frame.shape[0]


def _changes(before: np.ndarray, after: np.ndarray, box: np.ndarray) -> np.ndarray:
    """Return by how many grey levels each cell of a box differs in two frames.

    Without the box's sides, where a neighbour may be.
    """
    height, width = before.shape[:2]
    margin = (0.5 - _APART) * (box[2] - box[0])
    box = np.add(box, (margin, 0, -margin, 0))
    left, top, right, bottom = np.rint(box.clip(0, [width, height, width, height])).astype(int)
    if right <= left or bottom <= top:
        return np.zeros(_CELLS * _CELLS)
    small = [_cell_means(frame[top:bottom, left:right]) for frame in (before, after)]
    return np.abs(small[1] - small[0]).max(axis=-1).ravel()


def _cell_means(picture: np.ndarray) -> np.ndarray:
    """Return the mean colour of each cell, float64 (32, 32, 3)."""
    rows, columns = (np.linspace(0, length, _CELLS, endpoint=False).astype(int) for length in picture.shape[:2])
    sums = np.add.reduceat(np.add.reduceat(picture, rows, axis=0, dtype=np.int64), columns, axis=1)
    heights = np.diff(rows, append=picture.shape[0]).clip(1)
    widths = np.diff(columns, append=picture.shape[1]).clip(1)
    return sums / (heights[:, None] * widths)[..., None]


def view_of(boxes: np.ndarray, signer: int | None, view: View | None, size: tuple[int, int]) -> View | None:
    """Return the part that holds the signer and nobody else's middle; None is the whole frame.

    The present view stays for as long as it serves, because changing it restarts the tracking.

    Args:
        boxes: (N, 4), upper bodies in pixels.
        signer: which of them, or None where the signer is not seen.
        view: the present one.
        size: width and height of the frame.
    """
    if signer is None:
        return view
    width, height = size
    side = boxes[signer, 2] - boxes[signer, 0]
    middle = (boxes[:, :2] + boxes[:, 2:]) / 2
    small = side < _SMALL * max(size)
    # Nearer than this, a cut would go through the signer's shoulders: somebody in front or behind, or the same person
    # detected twice.
    apart = np.abs(middle - middle[signer])
    others = middle[apart.max(axis=1) > _APART * side] if small else middle[apart[:, 0] > _APART * side]
    if _serves(view, small, middle[signer], side, others, size):
        return view
    if not small:
        return _columns(middle[signer, 0], others[:, 0], size) if len(others) else None
    x, y = middle[signer]
    left, right, top, bottom = x - _REACH[0] * side, x + _REACH[0] * side, y - _REACH[1] * side, y + _REACH[2] * side
    for other_x, other_y in others:
        dx, dy = other_x - x, other_y - y
        if abs(dx) >= abs(dy):  # beside, so cut between the two from top to bottom
            left, right = (max(left, x + dx / 2), right) if dx < 0 else (left, min(right, x + dx / 2))
        else:
            top, bottom = (max(top, y + dy / 2), bottom) if dy < 0 else (top, min(bottom, y + dy / 2))
    return View(max(0, int(left)), max(0, int(top)), min(width, int(right) + 1), min(height, int(bottom) + 1))


def _columns(x: float, others: np.ndarray, size: tuple[int, int]) -> View:
    """Return the columns between the neighbours, cut half-way to each."""
    left = int(max(((other + x) / 2 for other in others if other < x), default=0))
    right = int(min(((other + x) / 2 for other in others if other > x), default=size[0]))
    return View(left, 0, right, size[1])


def _serves(
    view: View | None, small: bool, signer: np.ndarray, side: float, others: np.ndarray, size: tuple[int, int]
) -> bool:
    """Whether the present view shows a signer of this middle and size, at a fit size, and nobody else's middle."""
    left, top, right, bottom = view or (0, 0, *size)
    zoomed = bottom - top < size[1] or (small and view is not None)
    if small and view is None:
        return False
    if zoomed:
        # An arm's length from the border, and neither grown nor shrunk to half.
        x, y = signer
        room = min(x - left if left else side, right - x if right < size[0] else side)
        tall = bottom - top
        fit = 1.2 * side <= max(tall, right - left) <= 6 * side
        return bool(fit and room > _APART * side / 2 and top <= y < bottom and not _any_inside(view, others))
    inside = left <= signer[0] < right
    return bool(inside and not ((left <= others[:, 0]) & (others[:, 0] < right)).any())


def _any_inside(view: View | None, points: np.ndarray) -> bool:
    assert view is not None
    return bool(((points >= view[:2]) & (points < view[2:])).all(axis=1).any())
