"""COCO-WholeBody-133, the four regions of it that SIGNET reads, and when a joint counts. Data, no logic.

The 133 keypoints are, 0-based: body 0-16, feet 17-22, face 23-90, left hand 91-111, right hand 112-132.
The regions are the paper's A.1 (1-based there); left and right are the signer's.
"""

from __future__ import annotations

from dataclasses import dataclass

NUM_KEYPOINTS = 133

CONFIDENCE = 0.3  # A.2: joints at or below are read as (0, 0, 0)


@dataclass(frozen=True)
class Region:
    """A part of the body with a graph of its own.

    Attributes:
        joints: indices into the 133 keypoints, in the order the model sees them.
        edges: pairs of positions in ``joints`` that are neighbours in the graph (self-links implied).
        root: position in ``joints`` that the others are measured from (Eq. 11); None keeps them absolute.
    """

    joints: tuple[int, ...]
    edges: tuple[tuple[int, int], ...]
    root: int | None


def _chain(first: int, last: int) -> tuple[tuple[int, int], ...]:
    return tuple((i, i + 1) for i in range(first, last))


# Nose, ears, shoulders, elbows, wrists.
BODY = Region(
    joints=(0, 3, 4, 5, 6, 7, 8, 9, 10),
    edges=((0, 1), (0, 2), (0, 3), (0, 4), (3, 5), (5, 7), (4, 6), (6, 8)),
    root=None,
)

# Wrist, then four joints a finger from thumb to little finger.
_HAND_EDGES = tuple(edge for base in range(1, 21, 4) for edge in ((0, base), *_chain(base, base + 3)))
LEFT_HAND = Region(joints=tuple(range(91, 112)), edges=_HAND_EDGES, root=0)
RIGHT_HAND = Region(joints=tuple(range(112, 133)), edges=_HAND_EDGES, root=0)

# Every second point of the jaw line, the inner lips (a ring), and the nose tip, linked to all.
FACE = Region(
    joints=(*range(23, 40, 2), *range(83, 91), 53),
    edges=(*_chain(0, 8), *_chain(9, 16), (16, 9), *((17, i) for i in range(17))),
    root=17,
)

REGIONS: dict[str, Region] = {"body": BODY, "left_hand": LEFT_HAND, "right_hand": RIGHT_HAND, "face": FACE}

# The joints that SIGNET uses at all: 9 + 21 + 21 + 18 = 69 of the 133.
USED_JOINTS: tuple[int, ...] = tuple(j for region in REGIONS.values() for j in region.joints)

# Positions in BODY.joints.
LEFT_WRIST, RIGHT_WRIST, NOSE = 7, 8, 0
