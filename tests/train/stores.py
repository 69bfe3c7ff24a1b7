"""A pose store of whole sequences, written as conversion writes one."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from signet_runtime.pose.sequence import PoseSequence
from signet_train.data.store.arrow import new_store, quantise


def write_store(path: Path, clips: Iterable[tuple[str, PoseSequence]]) -> None:
    with new_store(path) as store:
        for clip_id, sequence in clips:
            store.add(clip_id, quantise(sequence), origin="a test")
