"""The pose store: many clips' keypoints in one memory-mapped Arrow file, of which a load is a slice.

A corpus of 700,000 pickles is slow to copy, to list and to parse. Here a clip is a row of an Arrow IPC file; its
coordinates are 16-bit steps over the range that the clip itself takes, so that nothing is parsed and, within a frame
or two of the picture, no coordinate moves by more than a few hundredths of a pixel.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from signet_runtime.errors import InputError, OutputError
from signet_runtime.files import whole_file
from signet_runtime.pose.sequence import PoseSequence
from signet_runtime.pose.store import LEVELS, PoseStore, dequantised, schema
from signet_runtime.skeleton import CONFIDENCE

__all__ = ["PoseStore", "QuantisedClip", "StoreWriter", "new_store", "quantisation_error", "quantise"]

LARGEST_ERROR = 0.25  # of a coordinate, in pixels of FULL_HD; a clip that would lose more is refused
FULL_HD = (1920, 1080)

_SURE = int(CONFIDENCE * LEVELS)  # the highest level that is not above the confidence filter
_BATCH = 1 << 24  # bytes of clips that are written as one record batch


@dataclass(frozen=True, slots=True)
class QuantisedClip:
    """A clip as the store keeps it.

    Attributes:
        low, step: x and y of level 0, and from one level to the next.
        levels: little-endian uint16 (3, T, 133): all x, all y, and all scores in 65535ths.
    """

    source: str
    fps: float
    size: tuple[int, int]
    low: tuple[float, float]
    step: tuple[float, float]
    levels: bytes


def quantise(sequence: PoseSequence) -> QuantisedClip:
    """Round coordinates to the nearest of 65536 steps over the clip's range, scores to 65535ths.

    A score stays on its side of the confidence filter (`signet_runtime.skeleton.CONFIDENCE`), always. Where joints that
    were not found (score 0) lie so far out that they would make steps coarse, they are clipped to those that were.

    Raises:
        InputError: the range is so wide that a coordinate would move by more than 0.25 pixels at 1920x1080.
    """
    points = sequence.keypoints.astype(np.float64)
    low, high = points.min(axis=(0, 1)), points.max(axis=(0, 1))
    if _largest_error(low, high) > LARGEST_ERROR and sequence.scores.any():
        found = points[sequence.scores > 0]
        low, high = found.min(axis=0), found.max(axis=0)
    if _largest_error(low, high) > LARGEST_ERROR:
        widths, heights = high - low
        raise InputError(
            f"its joints are spread over {widths:.3g} widths and {heights:.3g} heights of the frame, too far to keep "
            f"them within {LARGEST_ERROR} pixels; are its coordinates fractions of the frame?"
        )
    step = (high - low) / LEVELS
    xy = np.rint((np.clip(points, low, high) - low) / np.where(step > 0, step, 1))
    scores = sequence.scores.astype(np.float64)
    confidence = np.rint(scores * LEVELS)
    confidence = np.where(scores > CONFIDENCE, np.maximum(confidence, _SURE + 1), np.minimum(confidence, _SURE))
    return QuantisedClip(
        sequence.source,
        float(sequence.fps),
        (int(sequence.size[0]), int(sequence.size[1])),
        (float(low[0]), float(low[1])),
        (float(step[0]), float(step[1])),
        np.stack([xy[..., 0], xy[..., 1], confidence]).astype("<u2").tobytes(),
    )


def _largest_error(low: np.ndarray, high: np.ndarray) -> float:
    """Return half a step, in pixels of `FULL_HD`."""
    return float(((high - low) / LEVELS / 2 * FULL_HD).max())


def quantisation_error(sequence: PoseSequence, clip: QuantisedClip) -> float:
    """Return the largest error of a coordinate of a joint that was found, in pixels at 1920x1080."""
    again, _ = dequantised(np.frombuffer(clip.levels, np.uint8), *clip.low, *clip.step)
    moved = np.abs(again.astype(np.float64) - sequence.keypoints) * FULL_HD
    return float(moved[sequence.scores > 0].max(initial=0))


class StoreWriter:
    """Clips on their way into a store; see `new_store`."""

    def __init__(self, file: pa.ipc.RecordBatchFileWriter) -> None:
        self._file = file
        self._origins: dict[str, str] = {}
        self._columns: dict[str, list] = {name: [] for name in schema().names}
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._origins)

    def add(self, clip_id: str, clip: QuantisedClip, origin: str) -> None:
        """Append a clip.

        Args:
            clip_id: how manifests call it.
            clip: of `quantise`.
            origin: where it is from, to name in an error.

        Raises:
            InputError: there is a clip of this id already.
        """
        if clip_id in self._origins:
            raise InputError(f"{origin}: the id {clip_id!r} is also that of {self._origins[clip_id]}; rename one")
        self._origins[clip_id] = origin
        row = (clip_id, clip.source, clip.fps, *clip.size, *clip.low, *clip.step, clip.levels)
        for column, value in zip(self._columns.values(), row, strict=True):
            column.append(value)
        self._bytes += len(clip.levels)
        if self._bytes >= _BATCH:
            self.flush()

    def flush(self) -> None:
        """Write what has been added as one record batch."""
        if self._columns["id"]:
            self._file.write_batch(pa.record_batch(self._columns, schema()))
        self._columns = {name: [] for name in schema().names}
        self._bytes = 0


@contextlib.contextmanager
def new_store(path: Path) -> Iterator[StoreWriter]:
    """Make a store that is at ``path`` when the block has ended, whole, and never before.

    Raises:
        OutputError: no ``.arrow`` path, or it cannot be written.
    """
    if path.suffix != ".arrow":
        raise OutputError(f"{path}: a pose store is an .arrow file")
    with (
        whole_file(path) as temporary,
        pa.OSFile(str(temporary), "wb") as sink,
        pa.ipc.new_file(sink, schema()) as file,
    ):
        writer = StoreWriter(file)
        yield writer
        writer.flush()
