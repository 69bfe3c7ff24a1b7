"""A manifest's videos -> its keypoints, in several processes, on several machines, in as many runs as it takes."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Protocol

from signet_runtime.errors import OutputError
from signet_runtime.pose.estimators import PoseEstimator
from signet_train.data.extraction_work import NO_MORE_WRITING, Extractor, Failure, Job, Made, Noted
from signet_train.data.store.shards import ShardWriter

Work = Callable[[Job], str | Made]


class Crew(Protocol):
    """Whoever does the jobs: processes of this machine (`run_jobs`), or of several."""

    def __call__(
        self,
        make_work: Callable[[], Work],
        jobs: Iterable[Job],
        *,
        finished: Callable[[Job, str | Made], None],
        died: Callable[[Job, str], None],
    ) -> None: ...


def extract(
    jobs: Sequence[Job],
    load: Callable[[], PoseEstimator],
    crew: Crew,
    *,
    frame_rate: float | None = None,
    noted: list[Noted] | None = None,
    progress: Callable[[], object] = lambda: None,
) -> list[Failure]:
    """Make the keypoints of jobs, each whole or not at all; a job that fails does not stop the others.

    Clips of a pose store are written here, in shards; files by the processes that made them.

    Args:
        jobs: of `plan`.
        load: makes a process's own estimator; picklable.
        crew: does the jobs, such as ``partial(run_jobs, processes=4)``.
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
    stores: dict[Path, ShardWriter] = {}

    def finished(job: Job, result: str | Made) -> None:
        if isinstance(result, str):
            failures.append(Failure(job.row, job.id, result))
        else:
            if result.notes:
                remarks.append(Noted(job.row, job.id, result.notes))
            if job.clip is not None and result.clip is not None:
                if job.poses not in stores:
                    stores[job.poses] = opened.enter_context(ShardWriter(job.poses))
                stores[job.poses].add(job.clip, result.clip, result.recording)
        progress()

    def died(job: Job, how: str) -> None:
        finished(job, f"{job.video}: the process that was reading it {how} before it was done")

    try:
        with contextlib.ExitStack() as opened:
            crew(partial(Extractor, load, frame_rate), jobs, finished=finished, died=died)
    except OutputError as error:
        cause = error.__cause__
        if isinstance(cause, OSError) and cause.errno in NO_MORE_WRITING and "make room" not in str(error):
            raise OutputError(f"{error}; make room and run the same command again, it goes on from here") from error
        raise
    if noted is not None:
        noted += sorted(remarks, key=lambda remark: remark.row)
    return sorted(failures, key=lambda failure: failure.row)
