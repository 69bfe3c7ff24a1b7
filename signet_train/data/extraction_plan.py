"""What an extraction has to do: which rows of a manifest have no keypoints yet, and which never can."""

from __future__ import annotations

import hashlib
import posixpath
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, overload

import numpy as np
import pyarrow as pa

from signet_runtime.errors import InputError
from signet_runtime.pose.shards import ShardedStore
from signet_runtime.string_hashes import hash_strings
from signet_train.data.extraction_work import Failure, Job
from signet_train.data.poses import poses_exist, split_location
from signet_train.data.recordings import identify, kept_at
from signet_train.data.rows import Row, Rows
from signet_train.data.store.shards import take_over

if TYPE_CHECKING:
    from signet_train.data.manifest import Manifest


class Jobs(Sequence[Job]):
    """Jobs of chosen rows (from 1) of a manifest, made as they are looked at: there may be a million."""

    def __init__(self, rows: Rows, root: Path, numbers: Sequence[int]) -> None:
        self._rows, self._root = rows, root
        self._numbers = np.array(numbers, np.uint32)

    def __len__(self) -> int:
        return len(self._numbers)

    @overload
    def __getitem__(self, index: int) -> Job: ...
    @overload
    def __getitem__(self, index: slice) -> Jobs: ...
    def __getitem__(self, index: int | slice) -> Job | Jobs:
        if isinstance(index, slice):
            return Jobs(self._rows, self._root, self._numbers[index].tolist())
        number = int(self._numbers[index])
        row = self._rows[number - 1]
        path, clip = split_location(row.poses)
        video = self._root / str(row.video)
        return Job(number, row.id, self._root / path, clip, video, row.start, row.end, row.fps)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]


@dataclass(slots=True)
class Plan:
    """What is to be done; how many rows have their keypoints; and the rows that never can.

    ``untold``: of those that have them, how many do not say which recording they are of.
    """

    jobs: Sequence[Job] = ()
    present: int = 0
    untold: int = 0
    failures: list[Failure] = field(default_factory=list)


def in_shard(poses: str, number: int, count: int) -> bool:
    """Tell whether a row with this keypoint file is in shard ``number`` (from 1) of ``count``.

    By the file's name, so that every machine agrees and no two shards write one file.
    """
    digest = hashlib.blake2b(posixpath.normpath(poses).encode(), digest_size=8).digest()
    return int.from_bytes(digest) % count == number - 1


def repair_stores(manifest: Manifest) -> Iterator[str]:
    """Take over what killed runs left unfinished in the sharded stores that rows name, and set damaged shards aside.

    Yields:
        what was done, a line each.

    Raises:
        OutputError: a store cannot be written.
    """
    for store in _sharded(manifest):
        saved = take_over(store)
        if saved:
            yield f"{store}: {saved} clips of a run that was killed were taken over"
        damaged: list[tuple[Path, str]] = []
        if store.is_dir():
            ShardedStore(store, damaged)
        for shard, why in damaged:
            aside = shard.rename(shard.with_name(f"{shard.name}.damaged"))
            yield f"{why}; it is {aside.name} now, and its clips are extracted anew"


def _sharded(manifest: Manifest) -> list[Path]:
    found: set[str] = set()
    for batch in Rows.of(manifest.rows).batches("poses"):
        for poses in batch.column(0).to_pylist():
            path, clip = split_location(poses)
            if clip is not None and "://" not in poses:
                found.add(path)
    return [manifest.root / path for path in sorted(found) if not (manifest.root / path).is_file()]


def plan(
    manifest: Manifest,
    *,
    split: str | None = None,
    shard: tuple[int, int] = (1, 1),
    force: bool = False,
    pose: str | None = None,
) -> Plan:
    """Work out what one run has to do.

    Args:
        manifest: its rows may share a keypoint file where they take the same stretch of the same video.
        split: rows of this one only.
        shard: its number (from 1), and how many there are; see `in_shard`.
        force: also what is there already.
        pose: the estimator; what another one found is not there already. None: whoever found it.

    Raises:
        InputError: there is no such split, or a pose store cannot be read, or is to be replaced clip by clip.
    """
    rows = Rows.of(manifest.rows)
    planned, jobs = Plan(), list[int]()
    shared = _shared(rows)
    first: dict[str, tuple[int, Row]] = {}
    found_split = False
    for number, row in enumerate(rows, 1):
        if split is not None and row.split != split:
            continue
        found_split = True
        if not in_shard(row.poses, *shard):
            continue
        if "://" in row.poses:  # put together when they are asked for: nothing to extract
            planned.present += 1
            continue
        earlier, same = number, row
        if shared[number - 1]:
            earlier, same = first.setdefault(posixpath.normpath(row.poses), (number, row))
        path, clip = split_location(row.poses)
        poses = manifest.root / path
        there = poses_exist(row.poses, manifest.root)
        if clip is not None and force and there and poses.is_dir():
            raise InputError(
                f"{poses}: a pose store's clips are not replaced one by one: remove it, or give this manifest another "
                "(signet-train manifest … --poses 'OTHER.arrow#{id}')"
            )
        if (row.video, row.start, row.end) != (same.video, same.start, same.end):
            problem = f"{row.poses}: row {earlier} keeps another recording's keypoints in this file"
            planned.failures.append(Failure(number, row.id, problem))
        elif not force and there:
            foreign = _not_its_own(row, manifest.root, pose, planned)
            if foreign is None:
                planned.present += 1
            else:
                planned.failures.append(Failure(number, row.id, foreign))
        elif clip is not None and poses.is_file():
            problem = (
                f"{row.poses}: `signet-train convert-poses` wrote this pose store; extract into another, or to .npz"
            )
            planned.failures.append(Failure(number, row.id, problem))
        elif clip is None and poses.suffix.lower() != ".npz":
            problem = f"{row.poses}: keypoints are written as .npz; change the manifest, or put this file there"
            planned.failures.append(Failure(number, row.id, problem))
        elif row.video is None:
            problem = f"{row.poses}: no such file, and the row names no video to extract it from"
            planned.failures.append(Failure(number, row.id, problem))
        elif earlier == number:  # else the earlier row's job makes it
            jobs.append(number)
    if split is not None and not found_split:
        splits = ", ".join(sorted(rows.distinct("split"))) or "none at all"
        raise InputError(f"no rows of a split {split!r}; the manifest has {splits}")
    planned.jobs = Jobs(rows, manifest.root, jobs)
    return planned


def _shared(rows: Rows) -> np.ndarray:
    """Tell of every row whether another may name the same keypoint file."""
    hashes = [np.zeros(0, np.uint64)]
    for batch in rows.batches("poses"):
        names = [posixpath.normpath(poses) for poses in batch.column(0).to_pylist()]
        hashes.append(hash_strings(pa.array(names, pa.string())))
    every = np.concatenate(hashes)
    in_order = np.sort(every)
    return np.isin(every, in_order[1:][in_order[1:] == in_order[:-1]])


def _not_its_own(row: Row, root: Path, pose: str | None, planned: Plan) -> str | None:
    """Say why the keypoints that are there are not the row's; what does not tell is counted."""
    if row.video is None or not (root / row.video).exists():
        return None
    kept = kept_at(row.poses, root)
    if kept is None:
        return None
    if kept.recording is None:
        planned.untold += 1
    else:
        own = identify(root / row.video, row.start, row.end)
        if own.is_other_than(kept.recording):
            return (
                f"{row.poses} has the keypoints of another recording, {kept.recording}, and the row's is {own}: give "
                "this manifest a place of its own for them (signet-train manifest … --poses 'OTHER/{id}.npz'), or "
                "replace them by --force"
            )
    if pose is not None and kept.source not in (None, pose):
        return (
            f"{row.poses} was found by {kept.source}, not {pose}: take --pose {kept.source}, or replace it by --force"
        )
    return None
