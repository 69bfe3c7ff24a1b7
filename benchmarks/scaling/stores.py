"""Random access to a pose store of many clips in shards."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.pose_store import motion
from signet_runtime.pose.shards import ShardedStore, open_store
from signet_train.data.store.arrow import quantise
from signet_train.data.store.shards import ShardWriter


def measure(directory: Path, clips: int, frames: int, reads: int) -> tuple[float, float, float]:
    """Return the seconds that listing takes, and the milliseconds of a read: the first of each shard, and any other.

    The clips are of a few frames, so that they fit on a disk; of each read's time, 256 frames take about 0.1 ms more.
    """
    path = directory / "poses.arrow"
    sequence = motion(np.random.default_rng(0))
    clip = quantise(sequence.take(np.arange(frames)))
    with ShardWriter(path) as writer:
        for n in range(clips):
            writer.add(f"clip-{n:07}", replace(clip, fps=25.0 + n / clips), "{}")
    began = time.perf_counter()
    ShardedStore(path)
    listing = time.perf_counter() - began
    chosen = np.random.default_rng(1).permutation(clips)[: 2 * reads].tolist()
    times = []
    for n in chosen:
        began = time.perf_counter()
        found = open_store(path)[f"clip-{n:07}"]
        times.append(time.perf_counter() - began)
        assert found.fps == 25.0 + n / clips
    return listing, 1e3 * float(np.mean(times[:reads])), 1e3 * float(np.mean(times[reads:]))
