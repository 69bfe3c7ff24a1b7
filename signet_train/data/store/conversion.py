"""Keypoint files of any kind -> one pose store, in several processes."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from signet_runtime.errors import InputError, one_line
from signet_train.data.store.archives import ClipFile, ClipReader
from signet_train.data.store.arrow import QuantisedClip, StoreWriter, new_store, quantisation_error, quantise
from signet_train.data.workers import run_jobs


@dataclass(frozen=True, slots=True)
class Failure:
    """A clip that is not in the store, and why: one line."""

    id: str
    message: str


@dataclass(slots=True)
class Conversion:
    """What was stored (clips, frames, bytes of their keypoint files) and how exactly, and what was not.

    ``error`` is the largest of any coordinate of a joint that was found, in pixels at 1920x1080.
    """

    clips: int
    frames: int
    file_bytes: int
    error: float
    failures: list[Failure]


def convert(
    clips: Sequence[ClipFile], out: Path, *, workers: int, progress: Callable[[], None] = lambda: None
) -> Conversion:
    """Write a store of all clips that can be read, in their order; one that is there is replaced.

    It is there whole or not at all: where no clip can be read, nothing is written.

    Args:
        clips: of `find_clips`.
        out: the store.
        workers: processes that read; 1 reads in this process.
        progress: called after every clip.

    Raises:
        OutputError: the store cannot be written.
    """
    done = Conversion(0, 0, 0, 0.0, [])
    with contextlib.suppress(_NothingToStoreError), new_store(out) as store:
        queue = _InOrder(clips, store, done)

        def finished(job: tuple[int, ClipFile], result: _Result | str) -> None:
            queue.add(job[0], result)
            progress()

        def died(job: tuple[int, ClipFile], how: str) -> None:
            finished(job, f"{job[1]}: the process that was reading it {how} before it was done")

        jobs = enumerate(clips)
        if workers == 1:
            work = _Converter()
            for job in jobs:
                finished(job, work(job))
        else:
            run_jobs(_Converter, jobs, workers, finished=finished, died=died)
        if not done.clips:
            raise _NothingToStoreError
    return done


class _NothingToStoreError(Exception):
    pass


@dataclass(frozen=True, slots=True)
class _Result:
    clip: QuantisedClip
    frames: int
    error: float


class _Converter:
    """One process's open archives; called with a job, it gives the clip or says what is wrong with it."""

    def __init__(self) -> None:
        self._reader = ClipReader()

    def __call__(self, job: tuple[int, ClipFile]) -> _Result | str:
        _, file = job
        try:
            sequence = self._reader.read(file)
        except InputError as error:
            return one_line(error)
        except Exception as error:  # whatever a damaged file brings out of a reader
            return " ".join(f"{file}: {type(error).__name__}: {error}".split())
        try:
            clip = quantise(sequence)
        except InputError as error:
            return f"{file}: {error}"
        return _Result(clip, len(sequence), quantisation_error(sequence, clip))


class _InOrder:
    """Results, which come as they are ready, into the store in the clips' order: so it is always the same file."""

    def __init__(self, clips: Sequence[ClipFile], store: StoreWriter, done: Conversion) -> None:
        self._clips, self._store, self._done = clips, store, done
        self._next = 0
        self._waiting: dict[int, _Result | str] = {}

    def add(self, number: int, result: _Result | str) -> None:
        self._waiting[number] = result
        while self._next in self._waiting:
            self._take(self._clips[self._next], self._waiting.pop(self._next))
            self._next += 1

    def _take(self, file: ClipFile, result: _Result | str) -> None:
        if isinstance(result, str):
            self._done.failures.append(Failure(file.id, result))
            return
        self._store.add(file.id, result.clip, origin=str(file))
        self._done.clips += 1
        self._done.frames += result.frames
        self._done.file_bytes += file.size
        self._done.error = max(self._done.error, result.error)
