"""Where a run's workers come from: a scheduler that is there, processes of this machine, or jobs of SLURM."""

from __future__ import annotations

import contextlib
import logging
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from signet_runtime.errors import EngineError, one_line
from signet_train.cluster.crew import ClusterCrew
from signet_train.data.workers import PATIENCE

_RESTARTS = 20  # of this machine's worker, which nobody kills so often by chance


@contextlib.contextmanager
def crew_of(
    scheduler: str,
    *,
    slots: int,
    nodes: int = 1,
    options: Sequence[str] = (),
    told: Callable[[str], None],
    patience: float = PATIENCE,
) -> Iterator[ClusterCrew]:
    """Yield who does the jobs.

    Args:
        scheduler: ``local``, ``slurm``, or the address of one, ``tcp://HOST:PORT``, whose workers others have started.
        slots: jobs at once of a worker that is started here.
        nodes: SLURM's jobs, each with a worker.
        options: lines of SLURM's batch script, ``--partition=gpu``.
        told: takes what happens beside the jobs, a line each.
        patience: see `signet_train.cluster.worker.Order`.

    Raises:
        EngineError: no scheduler there; or what starts them is not installed.
    """
    for name in ("distributed", "dask_jobqueue"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # what matters of it is told
    if scheduler == "local":
        with (
            _local(slots, told) as (address, tend),
            ClusterCrew(address, told=told, alone="one is started here", tend=tend, patience=patience) as crew,
        ):
            yield crew
    elif scheduler == "slurm":
        cluster = slurm(slots, options)
        try:
            told(f"{cluster.scheduler_address}: {nodes} jobs are handed to SLURM")
            cluster.adapt(minimum_jobs=nodes, maximum_jobs=nodes)  # one that ends, or is ended, is handed in again
            alone = "SLURM has not begun any of the jobs"
            with ClusterCrew(cluster.scheduler_address, told=told, alone=alone, patience=patience) as crew:
                yield crew
        finally:
            cluster.close()
    else:
        with ClusterCrew(scheduler, told=told, patience=patience) as crew:
            yield crew


@contextlib.contextmanager
def _local(slots: int, told: Callable[[str], None]) -> Iterator[tuple[str, Callable[[], None]]]:
    from distributed import LocalCluster

    with LocalCluster(n_workers=0, host="127.0.0.1", dashboard_address=None, protocol="tcp") as cluster:
        address = str(cluster.scheduler_address)
        command = [sys.executable, "-m", "signet_train", "pose-worker", address, "--nthreads", str(slots)]

        def start() -> subprocess.Popen[bytes]:
            # Ctrl-C is answered by this process, which then ends that one.
            return subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
            )

        started = [start()]

        def tend() -> None:
            if started[-1].poll() is not None and len(started) <= _RESTARTS:
                told(f"the worker of this machine has ended ({started[-1].returncode}), and is started again")
                started.append(start())

        try:
            yield address, tend
        finally:
            started[-1].kill()  # its processes end with it
            started[-1].wait()


def slurm(slots: int, options: Sequence[str]) -> Any:
    """Return Dask's cluster of SLURM jobs: one worker each. `job_script` of it is what SLURM is given.

    Whatever its configuration files (``jobqueue.yaml``) say holds, but for what starts the worker.

    Raises:
        EngineError: the configuration is incomplete.
    """
    from dask_jobqueue import SLURMCluster

    try:
        return SLURMCluster(
            cores=slots,
            processes=1,
            memory=_memory(slots),
            worker_command="signet_train pose-worker",
            job_extra_directives=list(options),
            scheduler_options={"dashboard_address": None},
        )
    except (OSError, ValueError, TypeError) as error:
        raise EngineError(f"--scheduler slurm: {one_line(error)}") from error


def _memory(slots: int) -> str:
    """Return what a job asks for, unless ``jobqueue.yaml`` says: 4 GB an estimator."""
    import dask

    return str(dask.config.get("jobqueue.slurm.memory", None) or f"{4 * slots}GB")
