"""One recording posed by several processes: in segments, each with a few frames of the one before to begin with."""

from __future__ import annotations

import contextlib
import os
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, cycle, takewhile
from multiprocessing import connection, get_context, resource_tracker

import numpy as np

from signet_runtime.ahead import ahead
from signet_runtime.errors import EngineError, SignetError
from signet_runtime.pose.holistic import View

Found = tuple[np.ndarray, np.ndarray]
Pose = Callable[[Iterator[View]], Iterator[Found]]

# How many frames before its own a segment begins with, whose keypoints are thrown away. After that many the tracker
# is as near to one that has seen everything as it will come: medians of 0.006 shoulder widths on the body, 0.003 on
# the hands and 0.0002 on the face, and that is what starting a video a few frames later makes for good.
_OVERLAP = 8

# Frames that a process may have before it: those of a segment, or the next one has nothing to do meanwhile. Fewer
# where they take more memory than this (bytes), but never so few that most of the work is overlap.
_MOST_WAITING = 104
_LEAST_WAITING = 4 * _OVERLAP
_MEMORY = 256 * 2**20

_GRACE = 5.0  # between the end of a process's pipe and its own (s)

_spawn = get_context("spawn")  # a fork would share locks with the threads of libraries that are loaded by now


class Segments:
    """Processes that pose segments of a recording side by side; they start when they are first needed.

    Args:
        make: called once in every process, for what poses views there. It is pickled.
        count: of processes.
    """

    def __init__(self, make: Callable[[], Pose], count: int) -> None:
        self._make, self._count = make, count
        self._crew: list[_Worker] = []

    def each(self, stretches: Iterable[Iterable[View]]) -> Iterator[Found]:
        """Keypoints and scores of every view, in order.

        Args:
            stretches: nothing is tracked from one to the next.

        Raises:
            EngineError: a process has ended, or could not start.
        """
        if not self._crew:
            self._crew = [_Worker(self._make) for _ in range(self._count)]
        order: deque[_Worker] = deque()  # who has the views whose keypoints are still to come
        turns = cycle(self._crew)
        done = False
        try:
            for stretch in stretches:
                worker, recent, room = next(turns), deque[View](maxlen=_OVERLAP), 0
                for number, view in enumerate(stretch):
                    if number == 0:
                        room = _room(view)
                    elif number % (room - _OVERLAP) == 0:
                        worker.end_segment()
                        worker = next(turns)
                        for earlier in recent:
                            yield from self._wait(order, worker, room)
                            worker.give(earlier, wanted=False)
                    yield from self._wait(order, worker, room)
                    worker.give(view, wanted=True)
                    order.append(worker)
                    recent.append(view)
                worker.end_segment()
            while order:
                yield from self._wait(order, order[0], order[0].waiting)
            done = True
        finally:
            if not done:  # whoever reads this has gone, or something went wrong: what is under way is nobody's
                self.close()

    def close(self) -> None:
        """Ends the processes, wherever they are."""
        for worker in self._crew:
            worker.kill()
        self._crew = []

    def _wait(self, order: deque[_Worker], worker: _Worker, room: int) -> Iterator[Found]:
        """Until a worker has room for another view; meanwhile what has been found is handed on in order."""
        while True:
            busy = [one for one in self._crew if one.waiting]
            full = worker.waiting >= room
            for pipe in connection.wait([one.pipe for one in busy], None if full else 0):
                next(one for one in busy if one.pipe is pipe).receive()
            while order and order[0].found:
                yield order.popleft().found.popleft()
            if not full:
                return


def _room(view: View) -> int:
    return max(_LEAST_WAITING, min(_MOST_WAITING, _MEMORY // max(1, view.image.nbytes)))


class _Worker:
    """A process and this end of the pipe to it."""

    def __init__(self, make: Callable[[], Pose]) -> None:
        self.found: deque[Found] = deque()
        self._wanted: deque[bool] = deque()  # of every view that it has not answered
        self.pipe, theirs = _spawn.Pipe()
        self._process = _spawn.Process(target=_serve, args=(theirs, make), daemon=True)
        # A terminal sends Ctrl-C to all processes. This one answers it, so the others inherit it blocked.
        resource_tracker.ensure_running()  # starting it, as `start` else would, unblocks the signal again
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            self._process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            theirs.close()

    @property
    def waiting(self) -> int:
        """How many views it has not answered."""
        return len(self._wanted)

    def give(self, view: View, *, wanted: bool) -> None:
        self._send(view)
        self._wanted.append(wanted)

    def end_segment(self) -> None:
        self._send(None)

    def receive(self) -> None:
        """What it has found in the earliest view."""
        try:
            reply = self.pipe.recv()
        except (EOFError, ConnectionResetError) as error:
            raise self._ended() from error
        if isinstance(reply, Exception):
            raise reply
        if self._wanted.popleft():
            self.found.append(reply)

    def kill(self) -> None:
        self._process.kill()
        self._process.join()
        self.pipe.close()

    def _send(self, view: View | None) -> None:
        try:
            self.pipe.send(view)
        except (BrokenPipeError, ConnectionResetError) as error:
            with contextlib.suppress(EOFError, OSError):  # it may have said why
                while self.pipe.poll():
                    if isinstance(reply := self.pipe.recv(), Exception):
                        raise reply from error
            raise self._ended() from error

    def _ended(self) -> EngineError:
        self._process.join(_GRACE)
        code = self._process.exitcode
        if code == -signal.SIGKILL:
            how = "was killed, as happens when memory runs out"
        elif code is not None and code < 0:
            how = f"crashed ({signal.Signals(-code).name})"
        else:
            how = "stopped answering" if code is None else f"ended (exit code {code})"
        return EngineError(f"a process that was looking for keypoints {how}; try again with fewer of them")


def _serve(pipe: connection.Connection, make: Callable[[], Pose]) -> None:
    os.dup2(2, 1)  # standard output is for results, and libraries print
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # whoever wanted this is gone
        try:
            pose = make()
            # Views are taken in while one is posed, or the other side would wait; it knows how many there may be.
            views = ahead(_received(pipe), 2 * _MOST_WAITING)
            for segment in _segments(views):
                for found in pose(segment):
                    pipe.send(found)
        except SignetError as error:
            pipe.send(error)
        except Exception as error:
            reason = (str(error) or type(error).__name__).splitlines()[0]
            pipe.send(EngineError(f"a process that was looking for keypoints failed: {reason}"))


def _segments(views: Iterator[View | None]) -> Iterator[Iterator[View]]:
    for first in views:
        if first is not None:
            yield chain([first], (view for view in takewhile(lambda view: view is not None, views) if view is not None))


def _received(pipe: connection.Connection) -> Iterator[View | None]:
    with contextlib.suppress(EOFError, ConnectionResetError):
        while True:
            yield pipe.recv()
