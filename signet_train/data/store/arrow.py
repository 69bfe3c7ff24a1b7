"""The pose store: many clips' keypoints in one memory-mapped Arrow file, of which a load is a slice.

A corpus of 700,000 pickles is slow to copy, to list and to parse. Here a clip is a row of an Arrow IPC file; its
coordinates are 16-bit steps over the range that the clip itself takes, so that nothing is parsed and, within a frame
or two of the picture, no coordinate moves by more than a few hundredths of a pixel.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa

from signet_runtime.errors import InputError, OutputError, first_line
from signet_runtime.files import whole_file
from signet_runtime.pose.sequence import PoseSequence
from signet_runtime.skeleton import CONFIDENCE, NUM_KEYPOINTS

LARGEST_ERROR = 0.25  # of a coordinate, in pixels of FULL_HD; a clip that would lose more is refused
FULL_HD = (1920, 1080)

_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("source", pa.string()),
        ("fps", pa.float64()),
        ("width", pa.int64()),
        ("height", pa.int64()),
        ("low_x", pa.float64()),
        ("low_y", pa.float64()),
        ("step_x", pa.float64()),
        ("step_y", pa.float64()),
        ("levels", pa.binary()),
    ],
    metadata={"signet_pose_store": "1"},
)
_NUMBERS = ["fps", "width", "height", "low_x", "low_y", "step_x", "step_y"]

_LEVELS = 65535
_SURE = int(CONFIDENCE * _LEVELS)  # the highest level that is not above the confidence filter
_FRAME_BYTES = 3 * NUM_KEYPOINTS * 2
_FAR = 1e6  # no clip's range begins so far away, or has such steps
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
    step = (high - low) / _LEVELS
    xy = np.rint((np.clip(points, low, high) - low) / np.where(step > 0, step, 1))
    scores = sequence.scores.astype(np.float64)
    confidence = np.rint(scores * _LEVELS)
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
    return float(((high - low) / _LEVELS / 2 * FULL_HD).max())


def quantisation_error(sequence: PoseSequence, clip: QuantisedClip) -> float:
    """Return the largest error of a coordinate of a joint that was found, in pixels at 1920x1080."""
    again, _ = _dequantised(np.frombuffer(clip.levels, np.uint8), *clip.low, *clip.step)
    moved = np.abs(again.astype(np.float64) - sequence.keypoints) * FULL_HD
    return float(moved[sequence.scores > 0].max(initial=0))


def _dequantised(
    levels: np.ndarray, low_x: float, low_y: float, step_x: float, step_y: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return keypoints (T, 133, 2) and scores (T, 133) from a clip's bytes.

    In memory all x come before all y: faster to scale here, and to cut into regions later, than pair by pair.
    """
    values = levels.view("<u2").reshape(3, -1, NUM_KEYPOINTS).astype(np.float32)
    x, y, scores = values
    x *= step_x
    x += low_x
    y *= step_y
    y += low_y
    scores *= 1 / _LEVELS
    return values[:2].transpose(1, 2, 0), scores


class StoreWriter:
    """Clips on their way into a store; see `new_store`."""

    def __init__(self, file: pa.ipc.RecordBatchFileWriter) -> None:
        self._file = file
        self._origins: dict[str, str] = {}
        self._columns: dict[str, list] = {name: [] for name in _SCHEMA.names}
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
            self._file.write_batch(pa.record_batch(self._columns, _SCHEMA))
        self._columns = {name: [] for name in _SCHEMA.names}
        self._bytes = 0


@contextlib.contextmanager
def new_store(path: Path) -> Iterator[StoreWriter]:
    """Make a store that is at ``path`` when the block has ended, whole, and never before.

    Raises:
        OutputError: no ``.arrow`` path, or it cannot be written.
    """
    if path.suffix != ".arrow":
        raise OutputError(f"{path}: a pose store is an .arrow file")
    with whole_file(path) as temporary, pa.OSFile(str(temporary), "wb") as sink, pa.ipc.new_file(sink, _SCHEMA) as file:
        writer = StoreWriter(file)
        yield writer
        writer.flush()


class PoseStore:
    """An open store: a mapping from ids to `PoseSequence`. A process keeps one of each, see `open`."""

    def __init__(self, path: Path) -> None:
        """Map the file and find its clips.

        Raises:
            InputError: no such file, or not a pose store, a damaged or a newer one.
        """
        self.path = path
        try:
            whole = pa.memory_map(str(path)).read_buffer()
            # Threads of Arrow's own would not survive the fork of a DataLoader.
            options = pa.ipc.IpcReadOptions(use_threads=False)
            reader = pa.ipc.open_file(pa.BufferReader(whole), options=options)
            if not reader.schema.equals(_SCHEMA, check_metadata=True):
                raise InputError(f"{path}: not a pose store, or one of another version")
            table = reader.read_all()
            table.validate(full=True)  # ids and offsets: the frames themselves stay on the disk
            self._index(table, whole)
        except FileNotFoundError:
            raise InputError(f"{path}: no such pose store; `signet-train convert-poses` makes one") from None
        except (OSError, ValueError, pa.ArrowException) as error:
            reason = first_line(error)
            raise InputError(f"{path}: not a pose store, or a damaged one ({reason})") from error

    def _index(self, table: pa.Table, whole: pa.Buffer) -> None:
        """Note where in the file each clip's frames are: to find them through Arrow takes as long as to load them."""
        self._bytes = np.frombuffer(whole, np.uint8)
        starts, ends = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
        for chunk in table["levels"].chunks:
            _, offsets, data = chunk.buffers()
            at = np.frombuffer(offsets, np.int32)[chunk.offset :][: len(chunk) + 1].astype(np.int64)
            at += data.address - whole.address
            starts.append(at[:-1])
            ends.append(at[1:])
        self._starts, self._ends = np.concatenate(starts), np.concatenate(ends)
        self._numbers = np.stack([table[name].to_numpy().astype(np.float64) for name in _NUMBERS], axis=1)
        sources = table["source"].combine_chunks().dictionary_encode()
        self._sources, self._source = sources.dictionary.to_pylist(), sources.indices.to_numpy()
        self._rows = {clip_id: row for row, clip_id in enumerate(table["id"].to_pylist())}
        lengths = self._ends - self._starts
        if len(self._rows) != len(table):
            raise ValueError("an id occurs twice")
        if any(column.null_count for column in table.columns) or (lengths <= 0).any() or (lengths % _FRAME_BYTES).any():
            raise ValueError("a clip is not there, or without whole frames")
        if (self._starts < 0).any() or (self._ends > len(self._bytes)).any():
            raise ValueError("it is compressed")
        fps_and_size, low_and_step = self._numbers[:, :3], self._numbers[:, 3:]
        if not (np.isfinite(self._numbers).all() and (fps_and_size > 0).all() and (np.abs(low_and_step) < _FAR).all()):
            raise ValueError("a number is out of range")

    @classmethod
    def open(cls, path: str | Path) -> PoseStore:
        """Return the store at ``path``, opened once a process, and again when the file there is another one.

        Raises:
            InputError: no such file, or not a pose store, a damaged or a newer one.
        """
        try:
            now = Path(path).stat()
        except OSError as error:
            made = "; `signet-train convert-poses` makes one" if isinstance(error, FileNotFoundError) else ""
            raise InputError(f"{path}: cannot be read ({error.strerror}){made}") from error
        return _opened(str(path), (now.st_ino, now.st_size, now.st_mtime_ns))

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return PoseStore.open, (self.path,)  # the path, not what is mapped: another process maps it anew

    @property
    def ids(self) -> list[str]:
        """The clips' ids, in the order in which they were written."""
        return list(self._rows)

    def __len__(self) -> int:
        return len(self._rows)

    def __contains__(self, clip_id: str) -> bool:
        return clip_id in self._rows

    def __getitem__(self, clip_id: str) -> PoseSequence:
        """Return a clip's keypoints.

        Raises:
            InputError: no clip of this id.
        """
        row = self._rows.get(clip_id)
        if row is None:
            raise InputError(f"{self.path}#{clip_id}: no such clip among the {len(self)} of this pose store")
        fps, width, height, *low_and_step = self._numbers[row].tolist()
        keypoints, scores = _dequantised(self._bytes[self._starts[row] : self._ends[row]], *low_and_step)
        # That it fits follows from the levels, and from what was checked when the store was opened.
        size, source = (int(width), int(height)), self._sources[self._source[row]]
        return PoseSequence.unchecked(keypoints, scores, fps, size, source)


@lru_cache(maxsize=64)
def _opened(path: str, _version: tuple[int, int, int]) -> PoseStore:
    return PoseStore(Path(path))
