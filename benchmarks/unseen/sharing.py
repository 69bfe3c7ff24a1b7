"""Which letters of an alphabet other signers show: what can be read of a hand that was never seen.

An alphabet shares a letter where, of all letters of the others, the same one is among the nearest three. Nearness is
measured without any model: by the hand's shape in 3-D, in the palm's own frame and by the palm's size, over the time
that the hand is up; or by the shape together with how the palm is turned, or with how the wrist moves as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from functools import cache

import numpy as np

from signet_train.data.spelled.clips import COMPONENTS, SIGN_LANGUAGES, lexicon, load_landmarks
from signet_train.data.spelled.hand import hand_scale

_MOMENTS = 8  # at which two letters are compared
_NEAREST = 3
_WEIGHTS = ((0.0, 0.0), (0.7, 0.0), (0.7, 4.0))  # of the palm's turn and the wrist's way beside the shape: three views
_KNUCKLES = [5, 9, 13, 17]
_PIXELS = 500


class Sharing(Enum):
    """How an alphabet's letter stands to the others' letters."""

    SHAPE = "shared"  # others have it, and sign it alike
    NAME = "signed otherwise"  # others have a letter of this name, and sign it otherwise
    NONE = "nowhere else"


@cache
def letter_shape(sign_language: str, letters: str) -> np.ndarray:
    """Describe a letter's clip in three views: float64 (3, 8, 74), views, moments, values.

    A left hand is mirrored into a right one.
    """
    clip = load_landmarks(sign_language, letters)
    parts = [COMPONENTS["left_hand"], COMPONENTS["right_hand"]]
    left, right = (clip.scores[:, part.start] > 0 for part in parts)
    is_left = left.sum() > right.sum()
    found = left if is_left else right
    start, stop = clip.hold
    up = np.arange(start, stop)[found[start:stop]]
    up = up[np.linspace(0, len(up) - 1, _MOMENTS).round().astype(int)]
    hand = clip.points[up, parts[0] if is_left else parts[1]].astype(np.float64)
    hand[..., 2] *= np.median([hand_scale(frame * _PIXELS)[1] for frame in hand])
    if is_left:
        hand[..., 0] = 1 - hand[..., 0]
    fingers = hand - hand[:, :1]
    size = np.median(np.linalg.norm(fingers[:, _KNUCKLES], axis=-1))
    along = _unit(fingers[:, 9])
    out = np.cross(fingers[:, 5], fingers[:, 17])
    out = _unit(out - (out * along).sum(-1, keepdims=True) * along)
    palm = np.stack([np.cross(along, out), along, out], axis=1)  # (T, 3, 3), its rows are the palm's axes
    shape = np.einsum("tij,tkj->tki", palm, fingers) / size
    shoulders = np.linalg.norm((clip.points[:, 11] - clip.points[:, 12])[:, :2], axis=-1).mean()
    way = (hand[:, 0, :2] - hand[:, 0, :2].mean(axis=0)) / shoulders
    views = [
        np.concatenate([shape.reshape(len(up), -1), turn * palm.reshape(len(up), -1), move * way], axis=1)
        for turn, move in _WEIGHTS
    ]
    return np.stack(views)


def nearest_letters(sign_language: str, letters: str, known: Sequence[str] = SIGN_LANGUAGES) -> list[list[str]]:
    """Return the letters of the other alphabets in ``known``, each once, the nearest first; a list a view."""
    others = [other for other in known if other != sign_language]
    names = [name for other in others for name in lexicon()[other]]
    shapes = np.stack([letter_shape(other, name) for other in others for name in lexicon()[other]])
    distances = np.linalg.norm(shapes - letter_shape(sign_language, letters), axis=(2, 3))  # (letters, views)
    return [list(dict.fromkeys(names[i] for i in order)) for order in distances.argsort(axis=0).T]


@cache
def sharing(sign_language: str, known: tuple[str, ...] = SIGN_LANGUAGES) -> dict[str, Sharing]:
    """Say of every letter of an alphabet how it stands to those of the other alphabets in ``known``."""
    found = {}
    for letters in lexicon()[sign_language]:
        views = nearest_letters(sign_language, letters, known)
        if any(letters in nearest[:_NEAREST] for nearest in views):
            found[letters] = Sharing.SHAPE
        else:
            found[letters] = Sharing.NAME if letters in views[0] else Sharing.NONE
    return found


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-9)
