"""Which of several people is the signer, frame after frame."""

from __future__ import annotations

import numpy as np

# Boxes of one person in neighbouring frames overlap far more, even with an arm flung out.
_SAME_PERSON_IOU = 0.3

# How many frames a bystander's last position is remembered, so that a detector that misses them for a
# moment does not turn them into somebody new.
_BYSTANDER_MEMORY = 30

_CONFIDENCE = 0.3  # joints at or below say nothing about where somebody is


class SignerTracker:
    """Chooses one signer and stays with them.

    The signer is the largest and most central person when somebody is first seen, and is then followed by
    the overlap of boxes. While the signer is away, people who were already there stay bystanders; whoever
    newly appears is taken to be the signer come back.
    """

    def __init__(self) -> None:
        self._signer: np.ndarray | None = None
        self._present = False
        self._bystanders: list[tuple[np.ndarray, int]] = []  # last box, frames since it was seen

    def update(self, boxes: np.ndarray) -> int | None:
        """Return the signer's position in ``boxes``, or None when the signer is not among them.

        Args:
            boxes: (N, 4) float, left, top, right, bottom in fractions of the frame; one box a person.
        """
        boxes = np.asarray(boxes, dtype=np.float64).reshape(-1, 4)
        chosen = self._find(boxes)
        self._present = chosen is not None
        if chosen is not None:
            self._signer = boxes[chosen]
        self._remember(np.delete(boxes, chosen, axis=0) if chosen is not None else boxes)
        return chosen

    def _find(self, boxes: np.ndarray) -> int | None:
        if len(boxes) == 0:
            return None
        if self._signer is None:
            return largest_most_central(boxes)
        overlap = np.array([iou(self._signer, box) for box in boxes])
        if overlap.max() >= _SAME_PERSON_IOU:
            # Somebody known to be a bystander may have walked to where the signer was last seen.
            nearest = int(overlap.argmax())
            if self._present or not self._is_bystander(boxes[nearest]):
                return nearest
        strangers = [i for i, box in enumerate(boxes) if not self._is_bystander(box)]
        return strangers[largest_most_central(boxes[strangers])] if strangers else None

    def _is_bystander(self, box: np.ndarray) -> bool:
        return any(iou(box, known) >= _SAME_PERSON_IOU for known, _ in self._bystanders)

    def _remember(self, others: np.ndarray) -> None:
        unseen = [
            (known, age + 1)
            for known, age in self._bystanders
            if age < _BYSTANDER_MEMORY and all(iou(known, box) < _SAME_PERSON_IOU for box in others)
        ]
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


def follow_signer(keypoints: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return one signer out of the keypoints of several people in one frame after another.

    Args:
        keypoints: (T, P, J, 2) in fractions of the frame.
        scores: (T, P, J). A person whose scores are all low is not there: padding for frames with fewer.

    Returns:
        keypoints (T, J, 2), scores (T, J); zeros in frames without the signer.
    """
    tracker = SignerTracker()
    one_keypoints = np.zeros((len(keypoints), *keypoints.shape[2:]), keypoints.dtype)
    one_scores = np.zeros((len(scores), scores.shape[2]), scores.dtype)
    for t, (people, confidence) in enumerate(zip(keypoints, scores, strict=True)):
        seen = np.flatnonzero((confidence > _CONFIDENCE).any(axis=1))
        boxes = np.array([_box(people[i][confidence[i] > _CONFIDENCE]) for i in seen]).reshape(-1, 4)
        chosen = tracker.update(boxes)
        if chosen is not None:
            one_keypoints[t], one_scores[t] = people[seen[chosen]], confidence[seen[chosen]]
    return one_keypoints, one_scores


def _box(points: np.ndarray) -> np.ndarray:
    return np.concatenate([points.min(axis=0), points.max(axis=0)])


def iou(a: np.ndarray, b: np.ndarray) -> float:
    """Return the intersection over union of two boxes: left, top, right, bottom."""
    low, high = np.maximum(a[:2], b[:2]), np.minimum(a[2:], b[2:])
    inter = float(np.prod(np.clip(high - low, 0, None)))
    union = float(np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2])) - inter
    return inter / union if union > 0 else 0.0
