"""The box in which the signer is posed: detected once, and kept until detection is due or what is found leaves it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from signet_runtime.pose.signer import SignerTracker, iou
from signet_runtime.skeleton import CONFIDENCE

_BODY = slice(0, 17)
_HANDS = [9, 10, *range(91, 133)]  # with the wrists

# Fewer sure joints of the body than this are nobody, as in `signet_runtime.regions`.
_MIN_BODY_JOINTS = 4

# rtmlib's own tracker takes outlines that overlap this much for the same person.
_SAME_OUTLINE_IOU = 0.3

# A hand in this outermost share of what the pose model sees is on its way out, and its fingers may be out already.
_EDGE = 0.02


class DetectedBox:
    """The signer's box from the last detection in a recording, told of every frame in order.

    It is not moved by what is found in it, as rtmlib's tracker does: then every frame would wait for the one before,
    and frames could not be posed together. A pose model sees a quarter more than the box, which is room for what a
    signer does in half a second; who does more is noticed in the same frame, and looked for in it.

    Args:
        detect_every: for how many frames a detected box serves, its own included. It serves for that frame alone
            where the box of somebody else touches it, for the two may change places meanwhile.
        signer: who chooses among several people; None is a tracker as it is made.
        motion: see `SignerTracker.update`.

    Attributes:
        corners: left, top, right, bottom in pixels of the frame, None where there is no signer.
        frames_left: for how many more frames it serves; 0, people must be looked for in the next one.
    """

    def __init__(
        self,
        detect_every: int,
        signer: SignerTracker | None = None,
        motion: Callable[[np.ndarray], np.ndarray] | None = None,
    ) -> None:
        self.corners: np.ndarray | None = None
        self.frames_left = 0
        self._detect_every = detect_every
        self._signer, self._motion = signer or SignerTracker(), motion
        self._just_detected = False  # in the frame whose keypoints come next
        self._outline: np.ndarray | None = None  # of what was found in the frame of the detection

    def update(self, boxes: np.ndarray, size: tuple[int, int]) -> np.ndarray | None:
        """Take a detection's boxes, and return the signer's among them, None where the signer is not there.

        Args:
            boxes: of all people in a frame, (N, 4): left, top, right, bottom in pixels.
            size: the frame's width and height.
        """
        chosen = self._signer.update(boxes / np.tile(size, 2), self._motion)
        self.corners = None if chosen is None else boxes[chosen]
        self._just_detected = True
        alone = chosen is not None and not any(iou(boxes[chosen], box) for box in np.delete(boxes, chosen, axis=0))
        self.frames_left = self._detect_every if alone else 1
        return self.corners

    def fits(self, keypoints: np.ndarray, scores: np.ndarray, region: np.ndarray | None, size: np.ndarray) -> bool:
        """Return whether a frame's signer was in the box; if not, people must be looked for in that frame.

        That is so where too few joints of the body are sure, where the outline of the sure ones is elsewhere or of
        another size than when the box was detected, and where a hand reaches out of what the pose model saw.

        Args:
            keypoints: (133, 2) in pixels, as found in the box.
            scores: (133,).
            region: what the pose model saw: left, top, right, bottom in pixels; None where there was no box.
            size: the frame's width and height.
        """
        sure = scores > CONFIDENCE
        outline = None
        if region is not None and sure[_BODY].sum() >= _MIN_BODY_JOINTS:
            from rtmlib.tools.solution.pose_tracker import pose_to_bbox

            outline = pose_to_bbox(keypoints[sure])
        if self._just_detected:  # there is nothing better
            self._just_detected, self._outline = False, outline
            self.frames_left = 0 if outline is None else self.frames_left - 1
            return True
        fits = outline is not None and self._outline is not None and iou(self._outline, outline) >= _SAME_OUTLINE_IOU
        if fits and region is not None:
            fits = not _touches_edge(keypoints[_HANDS][sure[_HANDS]], region, size)
        self.frames_left = self.frames_left - 1 if fits else 0
        return fits


def _touches_edge(points: np.ndarray, region: np.ndarray, size: np.ndarray) -> bool:
    """Return whether a point is at an edge of the region beyond which there still is picture."""
    edge = _EDGE * (region[2:] - region[:2])
    low = (points < region[:2] + edge) & (region[:2] > 0)
    high = (points > region[2:] - edge) & (region[2:] < size)
    return bool((low | high).any())
