"""Clips into the shards of a pose store as they come, whatever ends the process, and whoever else writes there.

A shard begins as ``.MACHINE-RANDOM.unfinished``, an Arrow file that lacks its end, and becomes ``DIGEST.arrow`` in one
step, named by what is in it. Of a process that was killed what it had written is taken over by the next run on its
machine; a lock on the unfinished file tells whether its process is alive, and no clock is asked.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from signet_runtime.errors import OutputError
from signet_runtime.files import reporting
from signet_runtime.locks import lock, machine, ownerless
from signet_runtime.pose.store import schema
from signet_train.data.store.arrow import QuantisedClip

CLIPS = 1000  # of a shard
_BYTES = 1 << 29  # of a shard: clips may be long
_TOGETHER = 16  # clips that are written at once
_LATEST = 30.0  # seconds until they are in any case
_UNFINISHED = ".unfinished"


class ShardWriter:
    """Adds clips to the sharded store at ``path``; a context manager, which finishes the last shard.

    Args:
        path: the directory, made if need be.
        clips: of a shard.

    Raises:
        OutputError: it cannot be written; what was added before is in the unfinished file.
    """

    def __init__(self, path: Path, clips: int = CLIPS) -> None:
        if path.suffix != ".arrow":
            raise OutputError(f"{path}: a pose store is called NAME.arrow")
        self.path, self._clips = path, clips
        self._schema = schema(recordings=True)
        self._draft: _Draft | None = None
        with reporting(path):
            path.mkdir(parents=True, exist_ok=True)

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.finish()

    def add(self, clip_id: str, clip: QuantisedClip, recording: str) -> None:
        """Append a clip; ``recording`` is what `signet_train.data.recordings` says of what it is of."""
        with reporting(self.path):
            if self._draft is None:
                self._draft = _Draft(self.path, self._schema)
            numbers = (clip.fps, *clip.size, *clip.low, *clip.step)
            self._draft.add((clip_id, clip.source, *numbers, recording, clip.levels))
            if self._draft.clips >= self._clips or self._draft.bytes >= _BYTES:
                self.finish()

    def finish(self) -> None:
        """Give the shard that is being written its name."""
        draft, self._draft = self._draft, None
        if draft is not None:
            with reporting(self.path):
                draft.finish()

    def flush(self) -> None:
        """Write what has been added; it is read once the shard is finished, by this run or by the next."""
        if self._draft is not None:
            with reporting(self.path):
                self._draft.flush()


class _Draft:
    def __init__(self, directory: Path, columns: pa.Schema) -> None:
        self._path = directory / f".{machine()}-{secrets.token_hex(4)}{_UNFINISHED}"
        self._sink = self._path.open("xb", buffering=0)
        with contextlib.suppress(OSError):  # a file system without locks: nothing is taken over there
            lock(self._sink.fileno())
        self._file = pa.ipc.new_file(self._sink, columns)
        self._schema, self._pending = columns, list[tuple[object, ...]]()
        self._digest = hashlib.blake2b(digest_size=16)
        self._written = time.monotonic()
        self.clips = self.bytes = 0

    def add(self, row: tuple[object, ...]) -> None:
        self._pending.append(row)
        self.clips += 1
        *said, levels = row
        assert isinstance(levels, bytes)
        self._digest.update(repr(said).encode(errors="surrogateescape") + levels)
        self.bytes += len(levels)
        if len(self._pending) >= _TOGETHER or time.monotonic() - self._written > _LATEST:
            self.flush()

    def flush(self) -> None:
        if self._pending:
            columns = [
                pa.array(values, field.type)
                for values, field in zip(zip(*self._pending, strict=True), self._schema, strict=True)
            ]
            self._file.write_batch(pa.record_batch(columns, schema=self._schema))
            self._pending.clear()
        self._written = time.monotonic()

    def finish(self) -> None:
        self.flush()
        self._file.close()
        os.fsync(self._sink.fileno())  # some file systems report a full disk only now
        self._path.replace(self._path.with_name(f"{self._digest.hexdigest()}.arrow"))
        self._sink.close()


def take_over(path: Path) -> int:
    """Finish what processes that were killed left unfinished in a sharded store; return how many clips that saved.

    What other processes are writing now is left to them, and what another machine's left to that.

    Raises:
        OutputError: it cannot be written.
    """
    saved = 0
    with reporting(path):
        left = sorted(path.glob(f".{machine()}-*{_UNFINISHED}")) if path.is_dir() else []
    for draft in left:
        with ownerless(draft) as free:
            if not free:
                continue
            with ShardWriter(path) as writer:
                for row in _rows_of(draft):
                    numbers = [row[name] for name in ("width", "height", "low_x", "low_y", "step_x", "step_y")]
                    size, low, step = ((numbers[i], numbers[i + 1]) for i in (0, 2, 4))
                    clip = QuantisedClip(row["source"], row["fps"], size, low, step, row["levels"])
                    writer.add(row["id"], clip, row["recording"])
                    saved += 1
            with reporting(path):
                draft.unlink(missing_ok=True)
    return saved


def _rows_of(draft: Path) -> Iterator[dict]:
    """Yield the clips of an Arrow file that may lack its end: after eight bytes it is a stream."""
    with contextlib.suppress(OSError, pa.ArrowException, StopIteration), pa.memory_map(str(draft)) as source:
        source.seek(8)
        stream = pa.ipc.open_stream(source)
        if not stream.schema.equals(schema(recordings=True)):
            return
        while True:
            batch = stream.read_next_batch()
            batch.validate(full=True)
            yield from batch.to_pylist()
