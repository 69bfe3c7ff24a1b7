"""What a worker does with a job: it hands it to a process of its own, which may hang, crash or be ended.

A worker (`signet_train.cluster.node`) has as many slots as jobs that it does at once; each has a process, and where
there are GPUs, one of them. The thread that waits for the process costs nothing, so that one worker serves a whole
machine.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from signet_runtime.errors import EngineError, SignetError
from signet_train.cluster.version import code_version
from signet_train.data.workers import WorkerProcess

if TYPE_CHECKING:
    from distributed import Worker

_REPLY = 0.2  # seconds until a worker that was dismissed leaves: who did it is told that first

RESOURCE = "pose"  # what workers of ours have, and others of the same cluster have not


@dataclass(frozen=True, slots=True)
class Order:
    """What all jobs of a run have in common.

    Attributes:
        make_work: pickled; called once in every process for what does the jobs there.
        version: of the code that wants it done.
        patience: seconds without a sign of life after which a process is replaced.
    """

    make_work: bytes
    version: str
    patience: float


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of a job.

    ``done``: ``value`` is its result. ``died``: how its process ended. ``unfit``: this worker cannot do such jobs, and
    why; ``worker`` is its address. ``failed``: the run cannot go on, by the error that is the value. ``lost``: workers
    went away with it, so often that the scheduler has given it up.
    """

    kind: Literal["done", "died", "unfit", "failed", "lost"]
    value: Any
    worker: str = ""


class Slots:
    """The processes of this worker.

    Args:
        count: how many jobs at once.
        devices: CUDA's names of GPUs, of which every slot has one; none: processes see what this one sees.
    """

    def __init__(self, count: int, devices: tuple[str, ...] = ()) -> None:
        self._free: queue.SimpleQueue[int] = queue.SimpleQueue()
        for slot in range(count):
            self._free.put(slot)
        self._devices = devices
        self._processes: dict[int, tuple[Order, WorkerProcess[Any]]] = {}
        self._lock = threading.Lock()
        self.dismissed: str | None = None

    def do(self, order: Order, job: object) -> Answer:
        """Do a job in a process that may be there from the one before."""
        slot = self._free.get()
        try:
            process = self._ready(slot, order)
            if isinstance(process, Answer):
                return process
            process.job = job
            process.give(job)
            kind, value = process.answer(order.patience)
            if kind == "result":
                return Answer("done", value)
            self._end(slot)
            return self._ended(kind, value)
        finally:
            self._free.put(slot)

    def _ready(self, slot: int, order: Order) -> WorkerProcess[Any] | Answer:
        with self._lock:
            before, process = self._processes.get(slot, (None, None))
        if process is not None and before == order:
            return process
        self._end(slot)
        device = self._devices[slot % len(self._devices)] if self._devices else None
        process = WorkerProcess(_Prepared(order.make_work, device))
        with self._lock:
            self._processes[slot] = order, process
        kind, value = process.answer(float("inf"))  # weights may have to be downloaded
        if kind == "ready":
            return process
        self._end(slot)
        return self._ended(kind, value, starting=True)

    def _ended(self, kind: str, value: Any, starting: bool = False) -> Answer:
        if kind == "died":
            return Answer("unfit" if starting else "died", f"a process {value} while it started" if starting else value)
        if isinstance(value, EngineError) or (starting and isinstance(value, SignetError)):
            return Answer("unfit", str(value))
        return Answer("failed", value)

    def _end(self, slot: int) -> None:
        with self._lock:
            _, process = self._processes.pop(slot, (None, None))
        if process is not None:
            process.kill()

    def close(self) -> None:
        """End all processes at once."""
        for slot in list(self._processes):
            self._end(slot)


slots: Slots | None = None  # of this process, where it is a worker


def perform(order: Order, job: object) -> Answer:
    """Do a job on the worker that this is called on."""
    from distributed import get_worker

    here = str(get_worker().address)
    if slots is None:
        return Answer("unfit", "is no worker for poses; `signet-train pose-worker` starts one", here)
    own = code_version()
    if order.version != own:
        return Answer("unfit", f"has signet-slt {own}, and the run is of {order.version}: install the same", here)
    answer = slots.do(order, job)
    return Answer("unfit", answer.value, here) if answer.kind == "unfit" else answer


def dismiss(why: str, dask_worker: Worker) -> None:
    """Let the worker that this is called on note why it is not wanted, and leave.

    By itself: the scheduler retires none that has results which nobody else can take.
    """
    if slots is not None:
        slots.dismissed = why
        dask_worker.loop.call_later(_REPLY, partial(dask_worker.close, executor_wait=False, reason="dismissed"))


class _Prepared:
    """Makes a process ready for its work, in it: its GPU, and its end when its worker ends."""

    def __init__(self, make_work: bytes, device: str | None) -> None:
        self._make_work, self._device = make_work, device

    def __call__(self) -> Callable[[Any], Any]:
        parent = multiprocessing.parent_process()
        if parent is not None:
            threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
        if self._device is not None:
            os.environ["CUDA_VISIBLE_DEVICES"] = self._device
        work: Callable[[Any], Any] = pickle.loads(self._make_work)()  # of whoever gave the worker its job
        return work


def _end_with(parent: Any) -> None:
    parent.join()
    os._exit(1)  # what is written is whole at any time
