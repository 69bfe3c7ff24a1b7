"""Where a manifest says the keypoints lie -> the keypoints."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from signet_runtime.pose.files import read_keypoints
from signet_runtime.pose.sequence import PoseSequence
from signet_runtime.pose.shards import open_store
from signet_runtime.pose.store import split_location

__all__ = ["load_poses", "poses_exist", "split_location"]


def load_poses(location: str, root: Path, rng: np.random.Generator | None = None) -> PoseSequence:
    """Load the keypoints of one sample.

    Args:
        location: a file that `read_keypoints` reads; a clip of a pose store, ``poses/how2sign.arrow#ID``; or a
            ``spell://`` word, which is put together from letter clips.
        root: the manifest's directory, where relative locations start.
        rng: for training: a spelled word is then signed in a pace of its own. Files are what they are.

    Raises:
        InputError: no such file or clip, a damaged one, or a word that its alphabet cannot spell.
    """
    if location.startswith("spell://"):
        from signet_train.data.spelled.corpus import sign_word  # its data and word lists are needed by nothing else

        return sign_word(location, root, rng)
    path, clip = split_location(location)
    if clip is not None:
        return open_store(root / path)[clip]
    return read_keypoints(root / path)


def poses_exist(location: str, root: Path) -> bool:
    """Tell whether there are keypoints at a location (see `load_poses`), by name alone: they may still be damaged.

    Raises:
        InputError: a pose store is there and cannot be read.
    """
    if "://" in location:  # put together when they are asked for
        return True
    path, clip = split_location(location)
    if clip is None or not (root / path).exists():
        return clip is None and (root / path).is_file()
    return clip in open_store(root / path)
