"""A corpus of keypoint files without recordings: random motion, as any estimator's at any rate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from signet_runtime.pose.files import write_keypoints
from signet_runtime.pose.sequence import PoseSequence
from signet_train.data.manifest import Row, write_manifest

SENTENCES = ("rain", "snow", "sun", "wind", "fog", "hail")


def random_sequence(seed: int, *, source: str = "mediapipe", fps: float = 25.0, frames: int = 30) -> PoseSequence:
    """Joints that drift about the middle of the picture, all of them found."""
    rng = np.random.default_rng(seed)
    drift = rng.normal(0, 0.01, (frames, 133, 2)).cumsum(axis=0)
    points = np.clip(0.5 + rng.normal(0, 0.15, (1, 133, 2)) + drift, 0, 1)
    return PoseSequence(points, np.full((frames, 133), 0.9), fps, (640, 480), source)


def corpus(
    root: Path,
    *,
    splits: Sequence[str] = ("train",) * 8 + ("dev",) * 2 + ("test",) * 2,
    sources: Sequence[str] = ("mediapipe",),
    rates: Sequence[float] = (25.0,),
    name: str = "m.jsonl",
    **fields: Any,
) -> Path:
    """Write keypoints and a manifest of them; ``sources`` and ``rates`` go round over its rows."""
    (root / "poses").mkdir(parents=True, exist_ok=True)
    rows = []
    for i, split in enumerate(splits):
        clip = f"clip{i:02d}"
        sequence = random_sequence(i, source=sources[i % len(sources)], fps=rates[i % len(rates)])
        write_keypoints(root / "poses" / f"{clip}.npz", sequence)
        row = Row(
            id=clip,
            split=split,
            poses=f"poses/{clip}.npz",
            text=SENTENCES[i % len(SENTENCES)],
            language="de",
            sign_language="gsg",
        )
        rows.append(replace(row, **fields))
    write_manifest(root / name, rows)
    return root / name
