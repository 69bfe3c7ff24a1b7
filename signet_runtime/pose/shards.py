"""A pose store in shards: a directory of stores of about a thousand clips each, found by one look-up.

Extraction writes it (`signet_train.data.store.shards`): ``poses.arrow/`` has files ``DIGEST.arrow``, each whole and
named by its content, so that any number of runs may add to it. What is there is what a listing shows.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from signet_runtime.errors import InputError
from signet_runtime.pose.sequence import PoseSequence
from signet_runtime.pose.store import PoseStore, map_table, split_location
from signet_runtime.string_hashes import hash_string, hash_strings

_OPEN = 1024  # shards that a process keeps open, about 90 KB each


class ShardedStore:
    """An open store: a mapping from ids to `PoseSequence`, over all shards.

    A clip takes 16 bytes of memory here: the hash of its id, its shard and its place in it. Where two shards have a
    clip of one id, as two runs that did the same work leave it, it is the one of the shard whose name comes first.
    """

    def __init__(self, path: Path, damaged: list[tuple[Path, str]] | None = None) -> None:
        """List the shards and their clips.

        Args:
            path: the directory.
            damaged: takes the shards that cannot be read, each with why; without it they raise.

        Raises:
            InputError: no such directory, or a shard that is damaged, or no pose store.
        """
        self.path = path
        try:
            files = sorted(file for file in path.iterdir() if file.suffix == ".arrow" and file.name[0] != ".")
        except OSError as error:
            raise InputError(f"{path}: cannot be read ({error.strerror or error})") from error
        self._files: list[Path] = []
        hashes, shards, places = [np.zeros(0, np.uint64)], [np.zeros(0, np.uint32)], [np.zeros(0, np.uint32)]
        for file in files:
            try:
                found = _hashes_of(file)
            except InputError as error:
                if damaged is None:
                    raise InputError(
                        f"{error}: a shard of {path}; remove it, and `signet-train extract-poses` finds its clips anew"
                    ) from error
                damaged.append((file, str(error)))
                continue
            hashes.append(found)
            shards.append(np.full(len(found), len(self._files), np.uint32))
            places.append(np.arange(len(found), dtype=np.uint32))
            self._files.append(file)
        unsorted = np.concatenate(hashes)
        order = np.argsort(unsorted, kind="stable")
        self._hashes = unsorted[order]
        self._shards, self._places = np.concatenate(shards)[order], np.concatenate(places)[order]

    def __len__(self) -> int:
        """Count the clips of all shards, those that two of them have twice."""
        return len(self._hashes)

    def _find(self, clip_id: str) -> tuple[PoseStore, int] | None:
        try:
            wanted = hash_string(clip_id)
        except UnicodeEncodeError:  # no Arrow string, so no clip's
            return None
        i = int(np.searchsorted(self._hashes, wanted))
        while i < len(self._hashes) and self._hashes[i] == wanted:
            store, row = _open_shard(self._files[self._shards[i]]), int(self._places[i])
            if store.id_at(row) == clip_id:
                return store, row
            i += 1
        return None

    def __contains__(self, clip_id: str) -> bool:
        return self._find(clip_id) is not None

    def __getitem__(self, clip_id: str) -> PoseSequence:
        """Return a clip's keypoints.

        Raises:
            InputError: no clip of this id; or its shard is damaged.
        """
        found = self._find(clip_id)
        if found is None:
            raise InputError(f"{self.path}#{clip_id}: no such clip among the {len(self)} of this pose store")
        return found[0].at(found[1])

    def made_of(self, clip_id: str) -> tuple[str, str | None] | None:
        """Return whose keypoints a clip's are and its recording (see `PoseStore.made_of`); None: no such clip."""
        found = self._find(clip_id)
        return None if found is None else found[0].made_of(found[1])

    @property
    def ids(self) -> Iterator[str]:
        """All clips' ids, shard by shard, each once."""
        seen: set[str] = set()
        for file in self._files:
            for clip_id in map_table(file)[0]["id"].to_pylist():
                if clip_id not in seen:
                    seen.add(clip_id)
                    yield clip_id


def open_store(path: str | Path) -> PoseStore | ShardedStore:
    """Return the store at ``path``, one file or in shards, opened once a process, and again when it is another one.

    Raises:
        InputError: no such store, or a damaged or a newer one.
    """
    path = Path(path)
    if not path.is_dir():
        return PoseStore.open(path)
    now = path.stat()
    return _opened(path, now.st_ino, now.st_mtime_ns)


def read_clip(location: str) -> PoseSequence:
    """Return a clip of a store, ``a.arrow#x``.

    Raises:
        InputError: no such store or clip, or no clip is named.
        EngineError: pyarrow is not installed.
    """
    path, clip = split_location(location)
    if not clip:
        raise InputError(f"{location}: which clip of this pose store? {path}#ID is one")
    return open_store(path)[clip]


@lru_cache(maxsize=8)
def _opened(path: Path, _which: int, _changed: int) -> ShardedStore:
    return ShardedStore(path)


@lru_cache(maxsize=_OPEN)
def _open_shard(path: Path) -> PoseStore:
    return PoseStore(path)


def _hashes_of(shard: Path) -> np.ndarray:
    ids: Any = map_table(shard)[0]["id"]
    try:
        ids.validate(full=True)
    except ValueError as error:
        raise InputError(f"{shard}: not a pose store, or a damaged one ({error})") from error
    return np.concatenate([hash_strings(chunk) for chunk in ids.chunks] or [np.zeros(0, np.uint64)])
