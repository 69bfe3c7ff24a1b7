"""Extraction given out by a scheduler: what that costs a clip, and what the client keeps."""

from __future__ import annotations

import multiprocessing
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.pose_store import motion
from benchmarks.scaling.process import anonymous_mb
from signet_train.cluster.connect import crew_of
from signet_train.cluster.crew import ClusterCrew
from signet_train.cluster.worker import Answer, Order
from signet_train.data.extraction import extract
from signet_train.data.extraction_plan import plan
from signet_train.data.extraction_work import Made
from signet_train.data.manifest import Manifest, Row
from signet_train.data.store.arrow import quantise
from signet_train.data.workers import run_jobs

_made: Made | None = None


def stub(order: Order, job: int) -> Answer:
    """Answer at once, with a clip of 256 frames: 204 KB, as they come from an estimator."""
    global _made
    if _made is None:
        _made = Made([], quantise(motion(np.random.default_rng(0))), "{}")
    return Answer("done", _made)


def _nothing() -> Callable[[int], Made]:
    raise AssertionError("nobody makes anything: `stub` answers")


@dataclass(frozen=True, slots=True)
class Given:
    """Milliseconds a clip, and the client's MB after each tenth of the clips."""

    milliseconds: float
    megabytes: list[float]


def give_out(jobs: int, workers: int) -> Given:
    """Give out jobs that cost nothing to so many workers, all of them in another process with their scheduler."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_cluster, args=(theirs, workers))
    process.start()
    megabytes: list[float] = []
    done = 0

    def finished(_job: int, _made: Made) -> None:
        nonlocal done
        done += 1
        if done % (jobs // 10) == 0:
            megabytes.append(anonymous_mb())

    try:
        with ClusterCrew(ours.recv(), told=print, act=stub) as crew:
            began = time.perf_counter()
            crew(_nothing, iter(range(jobs)), finished=finished, died=lambda job, how: None)
            seconds = time.perf_counter() - began
    finally:
        ours.send(None)
        process.join()
    return Given(1000 * seconds / jobs, megabytes)


def _cluster(pipe: Connection, workers: int) -> None:
    from distributed import LocalCluster

    # All in one process: what that takes is no worker's own.
    options: dict[str, Any] = {"n_workers": workers, "threads_per_worker": 1, "processes": False, "memory_limit": None}
    with LocalCluster(**options, protocol="tcp", dashboard_address=None, resources={"pose": 1}) as cluster:
        pipe.send(cluster.scheduler_address)
        pipe.recv()


def _videos(directory: Path, copies: int) -> Manifest:
    found = sorted(Path("examples").glob("*.mp4"))
    rows = [
        Row(
            id=f"{n}",
            split="train",
            poses=f"p.arrow#{n}",
            text="a",
            language="en",
            sign_language="ase",
            video=str(found[n % len(found)].resolve()),
        )
        for n in range(copies)
    ]
    return Manifest(rows, directory)


def rates(clips: int, load: Callable[[], Any], rounds: int) -> Iterator[tuple[str, float]]:
    """Yield who extracts, two clips at a time, and the clips a second between the second clip and the last."""
    for _ in range(rounds):
        for name in ("pool", "local"):
            with tempfile.TemporaryDirectory() as directory:
                jobs = plan(_videos(Path(directory), clips)).jobs
                times: list[float] = []

                def tick(times: list[float] = times) -> None:
                    times.append(time.perf_counter())

                if name == "pool":
                    failures = extract(jobs, load, partial(run_jobs, processes=2), progress=tick)
                else:
                    with crew_of("local", slots=2, told=lambda line: None) as crew:
                        failures = extract(jobs, load, crew, progress=tick)
                assert not failures, failures[0]
                yield name, (len(times) - 2) / (times[-1] - times[1])
