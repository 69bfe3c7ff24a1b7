"""Clips that nobody signed, to compare engines with."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from signet_runtime.regions import Regions
from signet_runtime.skeleton import REGIONS


def random_clips(lengths: Sequence[int], rng: np.random.Generator) -> list[Regions]:
    """Return smooth random motion in the shape of regions, one clip per length: float32 (T, J, 3), in range."""
    clips = []
    for length in lengths:
        clip = {}
        for name, region in REGIONS.items():
            walk = rng.normal(0, 0.05, (length, len(region.joints), 3)).cumsum(axis=0)
            walk += rng.uniform(-0.8, 0.8, (1, len(region.joints), 3))
            walk[..., 2] = rng.uniform(0.3, 1, walk.shape[:2])
            clip[name] = np.clip(walk, -1, 1).astype(np.float32)
        clips.append(clip)
    return clips
