"""What would stop a training run, found before it starts and named with its row."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

import numpy as np

from signet_runtime.errors import InputError, one_line
from signet_runtime.regions import extract_regions
from signet_train.data.column_checks import faults_of_rows
from signet_train.data.manifest import Manifest, Row, Rows
from signet_train.data.poses import load_poses, poses_exist, split_location
from signet_train.data.recordings import identify, kept_at
from signet_train.data.rows import repeated
from signet_train.data.workers import run_jobs

Kind = Literal[
    "duplicate id",
    "unsafe id",
    "no text",
    "no gloss",
    "unknown language",
    "no keypoints",
    "unusable keypoints",
    "too long",
    "no signer",
    "another recording",
]


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with a row: its manifest, its number there (from 1), its id, and one line."""

    manifest: Path
    row: int
    id: str
    kind: Kind
    message: str


def check_rows(
    manifests: Sequence[tuple[Path, Manifest]],
    *,
    task: Literal["translate", "recognise"] = "translate",
    max_frames: int,
    workers: int = 1,
    sample: int | None = None,
    progress: Callable[[], None] = lambda: None,
) -> list[Fault]:
    """Return every fault in manifests that would be trained on together, in the order of their rows.

    Args:
        manifests: each with the path to name it by.
        task: translation needs every row's text, recognition its gloss.
        max_frames: more frames in a clip are a fault.
        workers: processes that read keypoints; 1 reads them in this process.
        sample: of how many rows the keypoints are read, drawn at random, the same ones every time; None: of all. All
            else is looked at in every row.
        progress: called after every row whose keypoints were read.
    """
    parts = [Rows.of(manifest.rows) for _, manifest in manifests]
    starts = np.cumsum([0, *map(len, parts)])
    faults: dict[int, list[tuple[Kind, str]]] = {}  # by the row's number in all manifests

    def place(number: int) -> tuple[int, int]:
        i = int(np.searchsorted(starts, number, "right")) - 1
        return i, number - int(starts[i])

    for number, first in repeated(parts, "id"):
        (i, _), (other, earlier) = place(number), place(first)
        of_other = "" if other == i else f" of {manifests[other][0]}"
        faults[number] = [("duplicate id", f"this is also the id of row {earlier + 1}{of_other}")]
    for i, rows in enumerate(parts):
        for local, found in faults_of_rows(rows, task):
            faults.setdefault(int(starts[i]) + local, []).extend(found)

    def job(number: int) -> _Job:
        i, local = place(number)
        row = parts[i][local]
        return _Job(number, row.poses, manifests[i][1].root, row.video, row.start, row.end)

    def finished(job: _Job, fault: tuple[Kind, str] | None) -> None:
        if fault is not None:
            faults.setdefault(job.number, []).append(fault)
        progress()

    def died(job: _Job, how: str) -> None:
        finished(job, ("unusable keypoints", f"{job.poses}: the process that was reading it {how} before it was done"))

    count = int(starts[-1])
    chosen: Sequence[int] = range(count)
    if sample is not None and sample < count:
        chosen = np.sort(np.random.default_rng(0).choice(count, sample, replace=False)).tolist()
    jobs = map(job, chosen)
    if workers == 1:
        check = _PoseCheck(max_frames)
        for each in jobs:
            finished(each, check(each))
    else:
        run_jobs(partial(_PoseCheck, max_frames), jobs, workers, finished=finished, died=died)
    told: list[Fault] = []
    for number in sorted(faults):
        i, local = place(number)
        told += [Fault(manifests[i][0], local + 1, parts[i][local].id, *fault) for fault in faults[number]]
    return told


def without_faults(
    faults: Sequence[Fault], manifests: Sequence[tuple[Path, Manifest]], directory: Path
) -> Iterator[Row]:
    """Yield the rows that have no fault, their relative paths rewritten for a manifest in ``directory``."""
    faulty = {(fault.manifest, fault.row) for fault in faults}
    for path, manifest in manifests:
        for number, row in enumerate(manifest.rows, 1):
            if (path, number) not in faulty:
                yield dataclasses.replace(
                    row,
                    poses=_moved(row.poses, manifest.root, directory.resolve()),
                    video=None if row.video is None else _moved(row.video, manifest.root, directory.resolve()),
                )


@dataclass(frozen=True, slots=True)
class _Job:
    """Keypoints to be read: for which row, by its number in all manifests, and where they lie."""

    number: int
    poses: str
    root: Path
    video: str | None
    start: float | None
    end: float | None


class _PoseCheck:
    """One row's keypoints, loaded as training loads them."""

    def __init__(self, max_frames: int) -> None:
        self._max_frames = max_frames

    def __call__(self, job: _Job) -> tuple[Kind, str] | None:
        try:
            if not poses_exist(job.poses, job.root) and not (job.root / job.poses).is_dir():
                return "no keypoints", _missing(job)
            sequence = load_poses(job.poses, job.root)
        except InputError as error:
            message = str(error)
            return "unusable keypoints", message if job.poses in message else f"{job.poses}: {message}"
        except Exception as error:  # whatever a damaged file brings out of a reader
            return "unusable keypoints", f"{job.poses}: {type(error).__name__}: {one_line(error)}"
        problem = _of_another_recording(job)
        if problem is not None:
            return "another recording", problem
        if len(sequence) > self._max_frames:
            return (
                "too long",
                f"{job.poses}: {len(sequence)} frames, more than {self._max_frames}; cut it into sentences",
            )
        if not extract_regions(sequence)["body"].any():
            return (
                "no signer",
                f"{job.poses}: fewer than four confident joints of the upper body in {len(sequence)} frames",
            )
        return None


def _of_another_recording(job: _Job) -> str | None:
    if job.video is None or not (job.root / job.video).exists():
        return None
    kept = kept_at(job.poses, job.root)
    own = None if kept is None or kept.recording is None else identify(job.root / job.video, job.start, job.end)
    if kept is None or kept.recording is None or own is None or not own.is_other_than(kept.recording):
        return None
    return f"{job.poses}: has the keypoints of {kept.recording}, and the row's recording is {own}"


def _missing(job: _Job) -> str:
    path, clip = split_location(job.poses)
    if clip is None:
        return f"{job.root / path}: no such file; `signet-train extract-poses` makes it"
    if not (job.root / path).exists():
        return f"{job.root / path}: no such pose store; `signet-train convert-poses` makes one"
    return f"{job.root / path}: no clip {clip!r} in this pose store"


def _moved(location: str, old: Path, new: Path) -> str:
    """Return a location that starts from the directory ``old``, from ``new``."""
    if old == new:
        return location
    if "://" in location:  # spelled words may name a directory of redrawn clips
        parts = urlsplit(location)
        query = [(key, _moved(value, old, new) if key == "redrawn" else value) for key, value in parse_qsl(parts.query)]
        return urlunsplit(parts._replace(query=urlencode(query, quote_via=quote)))
    path, clip = split_location(location)
    if Path(path).is_absolute():
        return location
    moved = os.path.relpath(old / path, new)
    return moved if clip is None else f"{moved}#{clip}"
