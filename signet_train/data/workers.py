"""Jobs spread over processes, any of which may die without taking more than its own job with it.

The pools of the standard library end when one of their processes is killed, and lose what the others were at: too
much for days of pose extraction on a machine that runs out of memory once.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from multiprocessing import connection, get_context, resource_tracker
from typing import Any, Generic, TypeVar

from signet_runtime.errors import EngineError, SignetError

J = TypeVar("J")
R = TypeVar("R")

_GRACE = 5.0  # between the end of a process's pipe and its own (s)

PATIENCE = 600.0  # seconds without a frame: no decoder and no estimator takes that long for one
_LOOK = 1.0  # seconds between two looks at who is silent
_TELL = 1.0  # seconds between two signs of life

_pipe: connection.Connection | None = None  # in a process of `run_jobs`: to who gave the job
_told = 0.0

_spawn = get_context("spawn")  # a fork would share locks with the threads of libraries that are loaded by now


def run_jobs(
    make_work: Callable[[], Callable[[J], R]],
    jobs: Iterable[J],
    processes: int,
    *,
    finished: Callable[[J, R], None],
    died: Callable[[J, str], None],
    patience: float = PATIENCE,
) -> None:
    """Do every job in one of several processes; whoever is free takes the next one.

    A process that is killed, or crashes, is replaced. When this call ends, by an exception too, so do the processes,
    at once. When its own process is killed they end after the jobs that they are at.

    Args:
        jobs: taken one by one, as somebody is free.
        make_work: called once in every process, for what does the jobs there. In the first process it has returned
            before the others start, so that what it downloads is downloaded once. It is pickled, as are the jobs.
        finished: told the result of a job, in this process.
        died: told, in place of that, how the process that was at a job ended.
        patience: seconds after which a process that neither finishes its job nor says that it is `alive` is replaced.

    Raises:
        SignetError: raised by a job, or by ``make_work``.
        EngineError: all processes died while they started.
    """
    queue = _Queue(jobs)
    crew: list[WorkerProcess[J]] = []
    try:
        if queue.next(1):
            crew.append(WorkerProcess(make_work))
        while crew:
            for stuck in [worker for worker in crew if worker.silent() > patience and worker.job is not None]:
                crew.remove(stuck)
                stuck.kill()
                assert stuck.job is not None
                died(stuck.job, silence(patience))
                if queue.next(processes) > len(crew):
                    crew.append(WorkerProcess(make_work))
            pipes = [worker.pipe for worker in crew]
            for pipe in connection.wait(pipes, timeout=min(patience, _LOOK)):
                worker = next(worker for worker in crew if worker.pipe is pipe)
                try:
                    kind, value = worker.pipe.recv()
                except (EOFError, OSError):
                    crew.remove(worker)
                    how = worker.ended()
                    if worker.job is not None:
                        died(worker.job, how)
                        if queue.next(processes) > len(crew):
                            crew.append(WorkerProcess(make_work))
                    elif not crew:
                        raise EngineError(f"a worker process {how} while it started; try fewer of them") from None
                    continue
                worker.heard = time.monotonic()
                if kind == "alive":
                    continue
                if kind == "error":
                    raise value
                if kind == "ready":
                    missing = queue.next(processes) - len(crew)
                    crew.extend(WorkerProcess(make_work) for _ in range(missing))
                elif worker.job is not None:
                    finished(worker.job, value)
                worker.job = queue.take()
                if worker.job is not None:
                    worker.give(worker.job)
                else:
                    crew.remove(worker)
                    worker.kill()
    finally:
        for worker in crew:
            worker.kill()


def silence(patience: float) -> str:
    """Say how a process ended that was ended because nothing was heard of it."""
    return f"gave no sign of life for {patience:g} s, and was ended,"


def alive() -> None:
    """Tell, where a process of `run_jobs` calls it, that its job goes on; elsewhere nobody is told."""
    global _told
    now = time.monotonic()
    if _pipe is not None and now - _told > _TELL:
        _told = now
        _pipe.send(("alive", None))


class _Queue(Generic[J]):
    """Jobs that are still to be done, of which no more are made than somebody asks for."""

    def __init__(self, jobs: Iterable[J]) -> None:
        self._jobs, self._ahead = iter(jobs), deque[J]()

    def next(self, count: int) -> int:
        """Return how many jobs there are, up to ``count``."""
        self._ahead.extend(islice(self._jobs, count - len(self._ahead)) if count > len(self._ahead) else ())
        return min(count, len(self._ahead))

    def take(self) -> J | None:
        """Return the next job, None when all are done."""
        return self._ahead.popleft() if self.next(1) else None


def available_cpus() -> int:
    """Return how many this process may use: under a scheduler often fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class WorkerProcess(Generic[J]):
    """A process and this end of the pipe to it; ``job`` is what it is at, ``heard`` when it last said something."""

    def __init__(self, make_work: Callable[[], Callable[[J], Any]]) -> None:
        self.job: J | None = None
        self.heard = time.monotonic()
        self.pipe, theirs = _spawn.Pipe()
        self._process = _spawn.Process(target=_serve, args=(theirs, make_work), daemon=True)
        try:
            with signals_blocked():
                self._process.start()
        finally:
            theirs.close()

    def silent(self) -> float:
        """Return for how many seconds nothing was heard."""
        return time.monotonic() - self.heard

    def give(self, job: J) -> None:
        self.heard = time.monotonic()
        with contextlib.suppress(BrokenPipeError):  # it has died: whoever waits for the pipe is told
            self.pipe.send(job)

    def answer(self, patience: float) -> tuple[str, Any]:
        """Wait for what the process says.

        Returns:
            ``ready`` when it has started; ``result`` and it; ``error`` and the exception; ``died`` and how it ended,
            also where nothing was heard of it for ``patience`` seconds and it was ended.
        """
        while True:
            try:
                if not self.pipe.poll(max(0.0, min(_LOOK, patience - self.silent()))):
                    if self.silent() >= patience:
                        self.kill()
                        return "died", silence(patience)
                    continue
                kind, value = self.pipe.recv()
            except (EOFError, OSError):
                return "died", self.ended()
            self.heard = time.monotonic()
            if kind != "alive":
                return kind, value

    def kill(self) -> None:
        """End the process wherever it is; whatever its work writes must be whole at any time."""
        self._process.kill()
        self._process.join()
        self.pipe.close()

    def ended(self) -> str:
        """Tell how the process, whose end of the pipe has closed, ended."""
        self._process.join(_GRACE)
        code = self._process.exitcode
        self.kill()
        if code is None:
            return "stopped answering"
        if sys.platform != "win32" and code == -signal.SIGKILL:
            return "was killed, as happens when memory runs out,"
        return f"crashed ({signal.Signals(-code).name})" if code < 0 else f"ended (exit code {code})"


@contextlib.contextmanager
def signals_blocked() -> Iterator[None]:
    """Let a process that is started meanwhile inherit Ctrl-C and SIGTERM blocked: all get them, and this one answers.

    Windows has no such masks; there the process ignores it by itself, see `_serve`.
    """
    if sys.platform == "win32":
        yield
        return
    resource_tracker.ensure_running()  # starting it, as `Process.start` else would, unblocks the signal again
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _serve(pipe: connection.Connection, make_work: Callable[[], Callable[[Any], Any]]) -> None:
    if sys.platform == "win32":
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    global _pipe
    _pipe = pipe
    os.dup2(2, 1)  # standard output is for results, and libraries print
    reply: tuple[str, Any]
    try:
        try:
            work = make_work()
            reply = ("ready", None)
        except Exception as error:
            reply = ("error", _sendable(error))
        while True:
            pipe.send(reply)
            job = pipe.recv()
            try:
                reply = ("result", work(job))
            except Exception as error:
                reply = ("error", _sendable(error))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        pass  # who gave the jobs is gone


def _sendable(error: Exception) -> Exception:
    """Return the error, as the other side can read it: not every exception survives pickling."""
    return error if isinstance(error, SignetError) else RuntimeError("".join(traceback.format_exception(error)))
