"""A run's jobs, done by the workers of a cluster: the client's side.

The client knows no more than a few jobs at a time, whatever their number: as many as the workers can be busy with. What
became of a job comes to it and is gone from the cluster; nothing is kept in the scheduler.
"""

from __future__ import annotations

import contextlib
import itertools
import pickle
import queue
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from distributed import Client, Future, KilledWorker

from signet_runtime.errors import EngineError, SignetError, one_line
from signet_train.cluster.version import code_version
from signet_train.cluster.worker import RESOURCE, Answer, Order, dismiss, perform
from signet_train.data.workers import PATIENCE

J = TypeVar("J")

TRIES = 3  # of a clip whose process died: memory may have run out by somebody else's doing
_AHEAD = 2.0  # jobs given out for each that is done at once
_LOOK = 2.0  # seconds between two looks at who is there
_RETURN = 600.0  # seconds for which a scheduler that has gone is waited for


class ClusterCrew:
    """Does jobs on the workers of a scheduler; see `signet_train.data.extraction.Crew`.

    Args:
        address: of the scheduler.
        told: takes what happens beside the jobs, a line each.
        alone: what is told when no worker is there.
        tend: called every few seconds, for who keeps the workers going.
        act: what a worker does with an order and a job.
        wait: seconds for which a scheduler that has gone is waited for.

    Attributes:
        slots: how many jobs the workers that are there do at once.
    """

    def __init__(
        self,
        address: str,
        *,
        told: Callable[[str], None],
        alone: str | None = None,
        tend: Callable[[], None] = lambda: None,
        patience: float = PATIENCE,
        act: Callable[[Order, Any], Answer] = perform,
        wait: float = _RETURN,
    ) -> None:
        self._address, self._told, self._tend, self._patience, self._act = address, told, tend, patience, act
        self._wait = wait
        self._alone = alone or f"`signet-train pose-worker {address}` starts one, on any machine that has the videos"
        self._client = _connect(address)
        self._done: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._looked = -_LOOK
        self._lonely = False
        self._refused: set[str] = set()
        self.slots = 0

    def __enter__(self) -> ClusterCrew:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(Exception):  # a scheduler that has gone
            self._client.close(timeout=5)

    def __call__(
        self,
        make_work: Callable[[], Callable[[J], Any]],
        jobs: Iterable[J],
        *,
        finished: Callable[[J, Any], None],
        died: Callable[[J, str], None],
    ) -> None:
        """Do every job; see `signet_train.data.workers.run_jobs`.

        Raises:
            SignetError: raised by a job.
            EngineError: no worker can do such jobs; or the scheduler has gone for good.
        """
        order = Order(pickle.dumps(make_work), code_version(), self._patience)
        queued, numbers = iter(jobs), itertools.count()
        again: deque[tuple[J, int]] = deque()
        given: dict[str, tuple[J, int, Future]] = {}
        run = f"signet-{time.time_ns():x}"
        while True:
            self._look()
            while len(given) < self._window():
                job, tries = again.popleft() if again else (next(queued, None), 0)
                if job is None:
                    break
                key = f"{run}-{next(numbers)}"
                future = self._client.submit(
                    self._act, order, job, key=key, pure=False, retries=0, resources={RESOURCE: 1}
                )
                future.add_done_callback(self._note)
                given[key] = job, tries, future
            if not given:
                return
            for job, tries, answer in self._answers(given):
                if answer is None:
                    again.append((job, tries))
                elif answer.kind == "done":
                    finished(job, answer.value)
                elif answer.kind == "failed":
                    raise answer.value if isinstance(answer.value, SignetError) else RuntimeError(answer.value)
                elif answer.kind == "unfit":
                    again.append((job, tries))
                    self._refuse(answer)
                elif answer.kind == "died" and tries + 1 < TRIES:
                    again.append((job, tries + 1))
                else:
                    died(job, answer.value if answer.kind == "lost" else f"{answer.value} at each of {TRIES} tries,")

    def _note(self, future: Future) -> None:
        self._done.put(str(future.key))

    def _window(self) -> int:
        return max(4, round(self.slots * _AHEAD) + 2)

    def _answers(self, given: dict[str, tuple[J, int, Future]]) -> Iterator[tuple[J, int, Answer | None]]:
        """Wait a while for jobs that are done; None is the answer of one that was lost, and is to be done again."""
        keys = set()
        with contextlib.suppress(queue.Empty):
            keys.add(self._done.get(timeout=_LOOK))
            while True:
                keys.add(self._done.get_nowait())
        ended = [given.pop(key) for key in sorted(keys) if key in given]
        ready = [entry for entry in ended if entry[2].status == "finished"]
        answers: dict[str, Answer] = {}
        try:
            found = self._client.gather([future for _, _, future in ready])
            answers = {str(future.key): answer for (_, _, future), answer in zip(ready, found, strict=True)}
        except Exception as error:  # who held an answer has gone with it, or the scheduler has
            self._told(f"{self._address}: {len(ready)} answers were lost, and are asked for again ({one_line(error)})")
        for job, tries, future in ended:
            answer = answers.get(str(future.key))
            if future.status == "error" and answer is None:
                answer = self._of_error(future)
            future.release()
            yield job, tries, answer

    def _of_error(self, future: Future) -> Answer:
        error = future.exception()
        if isinstance(error, KilledWorker):
            return Answer("lost", "was lost with its worker, time and again,")
        return Answer("failed", EngineError(f"a worker cannot do this: {one_line(error)}; are all of one version?"))

    def _look(self) -> None:
        """See every few seconds who is there, and whether the scheduler is."""
        if time.monotonic() - self._looked < _LOOK:
            return
        self._tend()
        gone = None
        while True:
            try:
                self.slots = self._count()
                break
            except Exception as error:  # of its many kinds, all mean that it cannot be asked
                if self._client.status == "running":  # it is there, and has too much to do to answer
                    break
                if gone is None:
                    gone = time.monotonic()
                    self._told(f"{self._address}: the scheduler has gone; waiting {self._wait:g} s for it")
                if time.monotonic() - gone > self._wait:
                    raise EngineError(
                        f"{self._address}: the scheduler has gone; the same command goes on with what is not there yet"
                    ) from error
                time.sleep(_LOOK)
                self._again()
        self._looked = time.monotonic()
        if not self.slots and not self._lonely:
            self._told(f"{self._address}: no worker is there; {self._alone}")
        self._lonely = not self.slots

    def _count(self) -> int:
        if self._client.status != "running":
            raise EngineError("not connected")
        # One that was sent away may be listed for a while yet, and would be waited for.
        workers = self._client.scheduler_info()["workers"].items()
        fit = [worker for address, worker in workers if address not in self._refused]
        return int(sum(worker["resources"].get(RESOURCE, 0) for worker in fit))

    def _again(self) -> None:
        with contextlib.suppress(Exception):
            self._client.close(timeout=1)
        with contextlib.suppress(EngineError):
            self._client = _connect(self._address)

    def _refuse(self, answer: Answer) -> None:
        """Send a worker away that cannot do such jobs.

        Raises:
            EngineError: it was the last one.
        """
        if answer.worker not in self._refused:
            self._refused.add(answer.worker)
            self._told(f"{answer.worker} was refused: {answer.value}")
            with contextlib.suppress(Exception):  # it may have gone by itself
                self._client.run(dismiss, answer.value, workers=[answer.worker])
        self.slots = self._count()
        if not self.slots:
            told = f"{self._address}: no worker is left that can do this; of the last, {answer.worker}: {answer.value}"
            raise EngineError(told)


def _connect(address: str) -> Client:
    try:
        return Client(address, timeout=10, set_as_default=False)
    except (OSError, TimeoutError, ValueError) as error:
        raise EngineError(f"{address}: no scheduler there ({one_line(error)}); `dask scheduler` starts one") from error
