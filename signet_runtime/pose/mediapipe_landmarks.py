"""MediaPipe's landmarks -> COCO-WholeBody-133, for the live estimator and for `.pose` files alike.

MediaPipe gives 33 body, 468 (or 478, with irises) face-mesh and 2 x 21 hand landmarks. Its hands have
COCO-WholeBody's order. Of the 68 face points only the 18 that SIGNET uses are mapped; everything without a
counterpart stays at score 0.

The face-mesh vertices were fitted on one recording that has RTMPose keypoints too, with two constraints
against overfitting: jaw vertices lie on the mesh's face oval, lip vertices on the lips, and every pair of
left and right points is a mirror pair of the mesh. `python -m benchmarks.pose` prints the agreement.
"""

from __future__ import annotations

import numpy as np

from signet_runtime.skeleton import NUM_KEYPOINTS

# COCO-WholeBody index -> BlazePose index: nose, eyes, ears, shoulders, elbows, wrists, hips, knees, ankles.
BODY_LANDMARKS = {
    0: 0,
    1: 2,
    2: 5,
    3: 7,
    4: 8,
    5: 11,
    6: 12,
    7: 13,
    8: 14,
    9: 15,
    10: 16,
    11: 23,
    12: 24,
    13: 25,
    14: 26,
    15: 27,
    16: 28,
}

# COCO-WholeBody index -> face-mesh vertex: every second jaw point, the inner lips, the nose tip.
JAW_LANDMARKS = {23: 127, 25: 93, 27: 58, 29: 150, 31: 152, 33: 379, 35: 288, 37: 323, 39: 356}
LIP_LANDMARKS = {83: 78, 84: 81, 85: 13, 86: 311, 87: 308, 88: 402, 89: 14, 90: 178}
FACE_LANDMARKS = {**JAW_LANDMARKS, **LIP_LANDMARKS, 53: 4}

# The body's nose and ears, where the mesh was found: BlazePose's own lie two to three times as far from
# where COCO annotators and RTMPose put them. Their confidence stays BlazePose's visibility.
HEAD_LANDMARKS = {0: 4, 3: 454, 4: 234}


def to_wholebody(
    body: np.ndarray,
    body_scores: np.ndarray,
    face: np.ndarray | None,
    left_hand: np.ndarray | None,
    right_hand: np.ndarray | None,
) -> tuple[np.ndarray, np.ndarray]:
    """Return one frame's landmarks in COCO-WholeBody order.

    Args:
        body: (33, 2).
        body_scores: (33,), BlazePose's own visibility.
        face: (468 or 478, 2), or None when no face was found. The solution reports faces and hands as found
            or not found, without a score of their own: found scores 1 and missing 0.
        left_hand: the signer's, (21, 2) or None.
        right_hand: the signer's, (21, 2) or None.

    Returns:
        keypoints float32 (133, 2) in the unit of the input, scores float32 (133,).
    """
    keypoints = np.zeros((NUM_KEYPOINTS, 2), np.float32)
    scores = np.zeros(NUM_KEYPOINTS, np.float32)
    coco, blaze = list(BODY_LANDMARKS), list(BODY_LANDMARKS.values())
    keypoints[coco], scores[coco] = body[blaze], body_scores[blaze]
    if face is not None:
        keypoints[list(FACE_LANDMARKS)] = face[list(FACE_LANDMARKS.values())]
        scores[list(FACE_LANDMARKS)] = 1
        keypoints[list(HEAD_LANDMARKS)] = face[list(HEAD_LANDMARKS.values())]
    for hand, first in ((left_hand, 91), (right_hand, 112)):
        if hand is not None:
            keypoints[first : first + 21], scores[first : first + 21] = hand, 1
    return keypoints, scores
