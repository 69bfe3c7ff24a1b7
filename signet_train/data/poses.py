"""Where a manifest says the keypoints lie -> the keypoints."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from signet_runtime.pose.files import read_keypoints
from signet_runtime.pose.sequence import PoseSequence


def load_poses(location: str, root: Path, rng: np.random.Generator | None = None) -> PoseSequence:
    """Keypoints of one sample.

    Args:
        location: a file that `read_keypoints` reads, or a ``spell://`` word, which is put together from letter clips.
        root: the manifest's directory, where relative locations start.
        rng: for training: a spelled word is then signed in a pace of its own. Files are what they are.

    Raises:
        InputError: no such file, a damaged one, or a word that its alphabet cannot spell.
    """
    if location.startswith("spell://"):
        from signet_train.data.spelling import sign_word  # its data and word lists are needed by nothing else

        return sign_word(location, root, rng)
    return read_keypoints(root / location)
