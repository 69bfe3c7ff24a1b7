"""One clip's extraction, as a process does it, whoever gave it the job."""

from __future__ import annotations

import contextlib
import errno
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from signet_runtime.errors import InputError, OutputError, SignetError
from signet_runtime.files import check_writable
from signet_runtime.pose.estimators import PoseEstimator
from signet_runtime.pose.files import write_keypoints
from signet_runtime.sentences.keypoints import extract_poses
from signet_train.data.recordings import identify
from signet_train.data.store.arrow import QuantisedClip, quantise
from signet_train.data.workers import alive

# What no other row will fare better with.
NO_MORE_WRITING = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}


@dataclass(frozen=True, slots=True)
class Job:
    """Keypoints to be made: the row they are for (from 1, with its id), and what of which video they hold.

    Attributes:
        poses: the file, ``.npz``; or the pose store in shards that gets them as ``clip``.
    """

    row: int
    id: str
    poses: Path
    clip: str | None
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


@dataclass(frozen=True, slots=True)
class Made:
    """What became of a job: its notes; for a pose store the clip, and its recording as JSON."""

    notes: list[str]
    clip: QuantisedClip | None = None
    recording: str = ""


class Extractor:
    """One process's estimator; called with a job, it says in a line what went wrong, or gives what was made."""

    def __init__(self, load: Callable[[], PoseEstimator], frame_rate: float | None) -> None:
        if not sys.warnoptions:
            warnings.simplefilter("ignore")  # MediaPipe's, of its own dependencies
        self._load, self._frame_rate = load, frame_rate
        self._estimator = load()

    def __call__(self, job: Job) -> str | Made:
        """Do the job.

        Raises:
            OutputError: the disk is full, or read-only.
            EngineError: the estimator cannot run.
        """
        try:
            return self._extract(job)
        except (InputError, OutputError, OSError) as error:
            cause = error if isinstance(error, OSError) else error.__cause__
            if isinstance(cause, OSError) and cause.errno in NO_MORE_WRITING:
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

    def _extract(self, job: Job) -> Made:
        notes: list[str] = []
        if job.clip is None:
            job.poses.parent.mkdir(parents=True, exist_ok=True)
            check_writable(job.poses)
        sequence = extract_poses(
            job.video,
            _Telling(self._estimator),
            frame_rate=self._frame_rate,
            start=job.start,
            end=job.end,
            fps=job.fps,
            notes=notes,
        )
        recording = identify(job.video, job.start, job.end).as_json()
        if job.clip is not None:
            return Made(notes, quantise(sequence), recording)
        write_keypoints(job.poses, sequence, recording)
        return Made(notes)


class _Telling:
    """An estimator that says with every frame that its process is not stuck."""

    def __init__(self, estimator: PoseEstimator) -> None:
        self._estimator, self.name = estimator, estimator.name

    def estimate(self, frames: Iterable[np.ndarray], *, live: bool = False) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for found in self._estimator.estimate(frames, live=live):
            alive()
            yield found

    def close(self) -> None:
        self._estimator.close()
