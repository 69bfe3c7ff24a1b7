"""What would stop a training run, found before it starts and named with its row."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

from signet_runtime.errors import InputError, one_line
from signet_runtime.regions import extract_regions
from signet_train.data.languages import language_problem, sign_language_problem
from signet_train.data.manifest import Manifest, Row
from signet_train.data.poses import load_poses, poses_exist, split_location
from signet_train.data.recordings import identify, kept_with
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
    progress: Callable[[], None] = lambda: None,
) -> list[Fault]:
    """Return every fault in manifests that would be trained on together, in the order of their rows.

    Args:
        manifests: each with the path to name it by.
        task: translation needs every row's text, recognition its gloss.
        max_frames: more frames in a clip are a fault.
        workers: processes that read keypoints; 1 reads them in this process.
        progress: called after every row.
    """
    faults: dict[tuple[int, int], list[Fault]] = {}  # by place: which manifest, which row
    jobs: list[_Job] = []
    first: dict[str, tuple[Path, int]] = {}
    for i, (path, manifest) in enumerate(manifests):
        for number, row in enumerate(manifest.rows, 1):
            found = _text_faults(row, task)
            if row.id in first:
                other, earlier = first[row.id]
                of_other = "" if other == path else f" of {other}"
                found.insert(0, ("duplicate id", f"this is also the id of row {earlier}{of_other}"))
            first.setdefault(row.id, (path, number))
            faults[i, number] = [Fault(path, number, row.id, *fault) for fault in found]
            jobs.append(_Job(i, number, row.poses, manifest.root, row.video, row.start, row.end))

    def finished(job: _Job, fault: tuple[Kind, str] | None) -> None:
        if fault is not None:
            path, manifest = manifests[job.manifest]
            faults[job.manifest, job.row].append(Fault(path, job.row, manifest.rows[job.row - 1].id, *fault))
        progress()

    def died(job: _Job, how: str) -> None:
        finished(job, ("unusable keypoints", f"{job.poses}: the process that was reading it {how} before it was done"))

    if workers == 1:
        check = _PoseCheck(max_frames)
        for job in jobs:
            finished(job, check(job))
    else:
        run_jobs(partial(_PoseCheck, max_frames), jobs, workers, finished=finished, died=died)
    return [fault for of_row in faults.values() for fault in of_row]


def without_faults(faults: Sequence[Fault], manifests: Sequence[tuple[Path, Manifest]], directory: Path) -> list[Row]:
    """Return the rows that have no fault, their relative paths rewritten for a manifest in ``directory``."""
    faulty = {(fault.manifest, fault.row) for fault in faults}
    return [
        dataclasses.replace(
            row,
            poses=_moved(row.poses, manifest.root, directory.resolve()),
            video=None if row.video is None else _moved(row.video, manifest.root, directory.resolve()),
        )
        for path, manifest in manifests
        for number, row in enumerate(manifest.rows, 1)
        if (path, number) not in faulty
    ]


@dataclass(frozen=True, slots=True)
class _Job:
    """Keypoints to be read: for which row (from 1) of which manifest (from 0), and where they lie."""

    manifest: int
    row: int
    poses: str
    root: Path
    video: str | None
    start: float | None
    end: float | None


def _text_faults(row: Row, task: str) -> list[tuple[Kind, str]]:
    found: list[tuple[Kind, str]] = []
    if row.id in ("", ".", "..") or any(c in "/\\" or not c.isprintable() for c in row.id):
        found.append(("unsafe id", f"{row.id!r} is not safe as a file name"))
    if task == "recognise" and not (row.gloss or "").strip():
        found.append(("no gloss", "the gloss is empty"))
    if task == "translate" and not row.text.strip():
        found.append(("no text", "the text is empty"))
    problems = language_problem(row.language), sign_language_problem(row.sign_language)
    return found + [("unknown language", problem) for problem in problems if problem is not None]


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
    if job.video is None or not job.poses.lower().endswith(".npz") or not (job.root / job.video).exists():
        return None
    kept = kept_with(job.root / job.poses).recording
    own = None if kept is None else identify(job.root / job.video, job.start, job.end)
    if kept is None or own is None or not own.is_other_than(kept):
        return None
    return f"{job.poses}: has the keypoints of {kept}, and the row's recording is {own}"


def _missing(job: _Job) -> str:
    path, clip = split_location(job.poses)
    if clip is None:
        return f"{job.root / path}: no such file; `signet-train extract-poses` makes it"
    if not (job.root / path).is_file():
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
