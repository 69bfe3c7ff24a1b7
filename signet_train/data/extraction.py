"""A manifest's videos -> its keypoint files, in several processes, on several machines, in as many runs as it takes."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import posixpath
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from signet_runtime.errors import InputError, OutputError, SignetError
from signet_runtime.files import check_writable
from signet_runtime.pose.estimators import PoseEstimator
from signet_runtime.pose.files import write_keypoints
from signet_runtime.sentences.keypoints import extract_poses
from signet_train.data.poses import poses_exist, split_location
from signet_train.data.recordings import identify, kept_with
from signet_train.data.workers import run_jobs

if TYPE_CHECKING:
    from signet_train.data.manifest import Manifest, Row

# What no other row will fare better with.
_NO_MORE_WRITING = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}


@dataclass(frozen=True, slots=True)
class Job:
    """A keypoint file to be made: the row it is for (from 1, with its id), and what of which video it holds."""

    row: int
    id: str
    poses: Path
    video: Path
    start: float | None
    end: float | None
    fps: float | None


@dataclass(frozen=True, slots=True)
class Failure:
    """A row (from 1, with its id) that has no keypoints, and why: one line."""

    row: int
    id: str
    message: str


@dataclass(frozen=True, slots=True)
class Noted:
    """A row (from 1, with its id) whose keypoints were made, and what was assumed, chosen or left out for them."""

    row: int
    id: str
    notes: list[str]


@dataclass(slots=True)
class Plan:
    """What is to be done; how many rows have their keypoints; and the rows that never can.

    ``untold``: of those that have them, how many do not say which recording they are of.
    """

    jobs: list[Job] = field(default_factory=list)
    present: int = 0
    untold: int = 0
    failures: list[Failure] = field(default_factory=list)


def in_shard(poses: str, number: int, count: int) -> bool:
    """Tell whether a row with this keypoint file is in shard ``number`` (from 1) of ``count``.

    By the file's name, so that every machine agrees and no two shards write one file.
    """
    digest = hashlib.blake2b(posixpath.normpath(poses).encode(), digest_size=8).digest()
    return int.from_bytes(digest) % count == number - 1


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
        InputError: there is no such split, or a pose store cannot be read.
    """
    planned = Plan()
    first: dict[str, tuple[int, Row]] = {}
    found_split = False
    for number, row in enumerate(manifest.rows, 1):
        if split is not None and row.split != split:
            continue
        found_split = True
        if not in_shard(row.poses, *shard):
            continue
        if "://" in row.poses:  # put together when they are asked for: nothing to extract
            planned.present += 1
            continue
        earlier, same = first.setdefault(posixpath.normpath(row.poses), (number, row))
        poses = manifest.root / row.poses
        if (row.video, row.start, row.end) != (same.video, same.start, same.end):
            problem = f"{row.poses}: row {earlier} keeps another recording's keypoints in this file"
            planned.failures.append(Failure(number, row.id, problem))
        elif not force and poses_exist(row.poses, manifest.root):
            foreign = _not_its_own(row, manifest.root, pose, planned)
            if foreign is None:
                planned.present += 1
            else:
                planned.failures.append(Failure(number, row.id, foreign))
        elif split_location(row.poses)[1] is not None:
            problem = f"{row.poses}: `signet-train convert-poses` writes pose stores; extract to .npz files and convert"
            planned.failures.append(Failure(number, row.id, problem))
        elif poses.suffix.lower() != ".npz":
            problem = f"{row.poses}: keypoints are written as .npz; change the manifest, or put this file there"
            planned.failures.append(Failure(number, row.id, problem))
        elif row.video is None:
            problem = f"{row.poses}: no such file, and the row names no video to extract it from"
            planned.failures.append(Failure(number, row.id, problem))
        elif earlier == number:  # else the earlier row's job makes it
            video = manifest.root / row.video
            planned.jobs.append(Job(number, row.id, poses, video, row.start, row.end, row.fps))
    if split is not None and not found_split:
        splits = ", ".join(sorted({row.split for row in manifest.rows})) or "none at all"
        raise InputError(f"no rows of a split {split!r}; the manifest has {splits}")
    return planned


def _not_its_own(row: Row, root: Path, pose: str | None, planned: Plan) -> str | None:
    """Say why the keypoints that are there are not the row's; what does not tell is counted."""
    poses = root / row.poses
    if poses.suffix.lower() != ".npz" or row.video is None or not (root / row.video).exists():
        return None
    kept = kept_with(poses)
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


def extract(
    jobs: Sequence[Job],
    load: Callable[[], PoseEstimator],
    *,
    workers: int,
    frame_rate: float | None = None,
    noted: list[Noted] | None = None,
    progress: Callable[[], None] = lambda: None,
) -> list[Failure]:
    """Write the keypoint files of jobs, each whole or not at all; a job that fails does not stop the others.

    Args:
        jobs: of `plan`.
        load: makes a process's own estimator; picklable.
        workers: how many processes.
        frame_rate: see `signet_runtime.sources.video.Video`.
        noted: the rows about which there are notes are appended to it, in their order.
        progress: called after every job.

    Returns:
        the failures, in the order of the rows.

    Raises:
        EngineError: the estimator cannot run.
        OutputError: the disk is full, or read-only.
    """
    failures: list[Failure] = []
    remarks: list[Noted] = []

    def finished(job: Job, result: str | list[str]) -> None:
        if isinstance(result, str):
            failures.append(Failure(job.row, job.id, result))
        elif result:
            remarks.append(Noted(job.row, job.id, result))
        progress()

    def died(job: Job, how: str) -> None:
        finished(job, f"{job.video}: the process that was reading it {how} before it was done")

    run_jobs(partial(_Extractor, load, frame_rate), jobs, workers, finished=finished, died=died)
    if noted is not None:
        noted += sorted(remarks, key=lambda remark: remark.row)
    return sorted(failures, key=lambda failure: failure.row)


class _Extractor:
    """One process's estimator; called with a job, it says in a line what went wrong, or gives the notes."""

    def __init__(self, load: Callable[[], PoseEstimator], frame_rate: float | None) -> None:
        if not sys.warnoptions:
            warnings.simplefilter("ignore")  # MediaPipe's, of its own dependencies
        self._load, self._frame_rate = load, frame_rate
        self._estimator = load()

    def __call__(self, job: Job) -> str | list[str]:
        notes: list[str] = []
        try:
            job.poses.parent.mkdir(parents=True, exist_ok=True)
            check_writable(job.poses)
            sequence = extract_poses(
                job.video,
                self._estimator,
                frame_rate=self._frame_rate,
                start=job.start,
                end=job.end,
                fps=job.fps,
                notes=notes,
            )
            write_keypoints(job.poses, sequence, identify(job.video, job.start, job.end).as_json())
        except (InputError, OutputError, OSError) as error:
            cause = error if isinstance(error, OSError) else error.__cause__
            if isinstance(cause, OSError) and cause.errno in _NO_MORE_WRITING:
                raise OutputError(f"{error}; make room and run the same command again, it goes on from here") from error
            return str(error)
        except SignetError:
            raise  # the estimator's: no other row will fare better
        except Exception as error:  # a library's, about something in this video
            # A graph that failed once may fail for ever, and in closing too.
            with contextlib.suppress(Exception):
                self._estimator.close()
            self._estimator = self._load()
            return f"{job.video}: {type(error).__name__}: {(str(error) or 'no reason given').splitlines()[0]}"
        return notes
