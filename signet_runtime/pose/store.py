"""Reading the pose store: many clips' keypoints in one memory-mapped Arrow file, of which a load is a slice.

`signet_train.data.store.arrow` writes it, and says how it is laid out. Nothing else in this package needs pyarrow,
which comes with the extra ``train``.
"""

from __future__ import annotations

from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from signet_runtime.boundary import open_regular, reading
from signet_runtime.errors import EngineError, InputError
from signet_runtime.installation import how_to_install
from signet_runtime.limits import limits
from signet_runtime.pose.sequence import PoseSequence
from signet_runtime.skeleton import NUM_KEYPOINTS
from signet_runtime.string_hashes import hash_strings

LEVELS = 65535

_NUMBERS = ["fps", "width", "height", "low_x", "low_y", "step_x", "step_y"]
_FRAME_BYTES = 3 * NUM_KEYPOINTS * 2
_FAR = 1e6  # no clip's range begins so far away, or has such steps
_IN_STORE = ".arrow#"


def split_location(location: str) -> tuple[str, str | None]:
    """Split a location into file and, if that is a pose store, clip: ``a.arrow#x`` -> ``a.arrow``, ``x``."""
    name, mark, clip = location.partition(_IN_STORE)
    return (name + mark[:-1], clip) if mark else (location, None)


def schema(recordings: bool = False) -> Any:
    """Return a store's columns, as pyarrow's schema; with those that extraction writes, each clip's recording."""
    pa = _arrow()
    numbers = [(name, pa.int64() if name in ("width", "height") else pa.float64()) for name in _NUMBERS]
    columns = [("id", pa.string()), ("source", pa.string()), *numbers]
    if recordings:
        columns.append(("recording", pa.string()))
    columns.append(("levels", pa.binary()))
    return pa.schema(columns, metadata={"signet_pose_store": "2" if recordings else "1"})


def map_table(path: Path) -> tuple[Any, Any]:
    """Return a store's table, of which nothing has been looked at, and the buffer that is the whole file.

    Raises:
        InputError: no such file, or not a pose store, a cut off or a newer one.
    """
    pa = _arrow()
    with open_regular(path, InputError, "a pose store"):
        pass  # a pipe or a device would be read for ever
    with reading(path, InputError, "a pose store"):
        whole = pa.memory_map(str(path)).read_buffer()
        # Threads of Arrow's own would not survive the fork of a DataLoader.
        options = pa.ipc.IpcReadOptions(use_threads=False)
        reader = pa.ipc.open_file(pa.BufferReader(whole), options=options)
        if not any(reader.schema.equals(schema(recordings), check_metadata=True) for recordings in (False, True)):
            raise InputError(f"{path}: not a pose store, or one of another version")
        return reader.read_all(), whole


def _arrow() -> Any:
    try:
        import pyarrow
    except ModuleNotFoundError as error:
        raise EngineError(f"a pose store needs pyarrow: pip install pyarrow, or {how_to_install('train')}") from error
    return pyarrow


def dequantised(
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
    scores *= 1 / LEVELS
    return values[:2].transpose(1, 2, 0), scores


class PoseStore:
    """An open store: a mapping from ids to `PoseSequence`. A process keeps one of each, see `open`."""

    def __init__(self, path: Path) -> None:
        """Map the file and find its clips.

        Raises:
            InputError: no such file, or not a pose store, a damaged or a newer one.
        """
        self.path = path
        table, whole = map_table(path)
        with reading(path, InputError, "a pose store"):
            table.validate(full=True)  # ids and offsets: the frames themselves stay on the disk
            self._index(table, whole)

    def _index(self, table: Any, whole: Any) -> None:
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
        self._ids = table["id"]
        self._recordings = table["recording"] if "recording" in table.schema.names else None
        lengths = self._ends - self._starts
        hashes = [hash_strings(chunk) for chunk in self._ids.chunks]
        if hashes and len(np.unique(np.concatenate(hashes))) != len(table) != len(self._rows):
            raise ValueError("an id occurs twice")
        if any(column.null_count for column in table.columns) or (lengths <= 0).any() or (lengths % _FRAME_BYTES).any():
            raise ValueError("a clip is not there, or without whole frames")
        if (self._starts < 0).any() or (self._ends > len(self._bytes)).any():
            raise ValueError("it is compressed")
        fps_and_size, low_and_step = self._numbers[:, :3], self._numbers[:, 3:]
        if not (np.isfinite(self._numbers).all() and (fps_and_size > 0).all() and (np.abs(low_and_step) < _FAR).all()):
            raise ValueError("a number is out of range")
        allowed = limits()
        fps, pixels = self._numbers[:, 0], self._numbers[:, 1] * self._numbers[:, 2]
        if (fps < allowed.rate_low).any() or (fps > allowed.rate_high).any() or (pixels > allowed.pixels).any():
            raise ValueError("a frame rate or a size is out of range")
        if (lengths > allowed.frames * _FRAME_BYTES).any():
            raise ValueError("a clip has more frames than a clip can have")

    @classmethod
    def open(cls, path: str | Path) -> PoseStore:
        """Return the store at ``path``, opened once a process, and again when the file there is another one.

        Raises:
            InputError: no such file, or not a pose store, a damaged or a newer one.
        """
        try:
            now = Path(path).stat()
        except (OSError, ValueError) as error:
            made = "; `signet-train convert-poses` makes one" if isinstance(error, FileNotFoundError) else ""
            raise InputError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error}){made}") from error
        return _opened(str(path), (now.st_ino, now.st_size, now.st_mtime_ns))

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return PoseStore.open, (self.path,)  # the path, not what is mapped: another process maps it anew

    @cached_property
    def _rows(self) -> dict[str, int]:
        return {clip_id: row for row, clip_id in enumerate(self._ids.to_pylist())}

    @property
    def ids(self) -> list[str]:
        """The clips' ids, in the order in which they were written."""
        return list(self._rows)

    def __len__(self) -> int:
        return len(self._ids)

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
        return self.at(row)

    def at(self, row: int) -> PoseSequence:
        """Return the keypoints of the clip that was written as this one, from 0."""
        fps, width, height, *low_and_step = self._numbers[row].tolist()
        keypoints, scores = dequantised(self._bytes[self._starts[row] : self._ends[row]], *low_and_step)
        # That it fits follows from the levels, and from what was checked when the store was opened.
        size, source = (int(width), int(height)), self._sources[self._source[row]]
        return PoseSequence.unchecked(keypoints, scores, fps, size, source)

    def id_at(self, row: int) -> str:
        """Return a clip's id, by where it was written."""
        return str(self._ids[row].as_py())

    def made_of(self, row: int) -> tuple[str, str | None]:
        """Return whose keypoints a clip's are, and its recording as extraction wrote it; None where nobody did."""
        recording = None if self._recordings is None else self._recordings[row].as_py()
        return self._sources[self._source[row]], recording


@lru_cache(maxsize=64)
def _opened(path: str, _version: tuple[int, int, int]) -> PoseStore:
    return PoseStore(Path(path))
