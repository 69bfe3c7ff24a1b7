"""signet-train pose-worker: a machine that extracts for a run on another one."""

from __future__ import annotations

import os

import click


@click.command("pose-worker")
@click.argument("scheduler", metavar="ADDRESS")
@click.option(
    "--nthreads",
    "--clips",
    "slots",
    type=click.IntRange(1),
    metavar="N",
    help="Clips at once, each in a process with an estimator of its own. [default: one a GPU, else one for every four "
    "CPUs]",
)
@click.option(
    "--gpus",
    metavar="LIST",
    help="GPUs, as CUDA_VISIBLE_DEVICES has them: 0,1,2,3. Each process sees one. [default: that variable's]",
)
@click.option("--name", help="Of this worker, in the scheduler's books.")
@click.option(
    "--death-timeout",
    "patience",
    type=click.FloatRange(0),
    default=600.0,
    show_default=True,
    metavar="SECONDS",
    help="How long a scheduler that is not there is waited for.",
)
@click.option("--memory-limit", hidden=True, help="Given by schedulers' scripts; a process takes what it takes.")
def pose_worker(
    scheduler: str, slots: int | None, gpus: str | None, name: str | None, patience: float, memory_limit: str | None
) -> None:
    """Extract poses for the run whose scheduler is at ADDRESS (tcp://HOST:PORT), until it ends.

    The machine needs the same package, the estimator's weights, and the videos under the same paths. It may come and
    go while the run goes on; a clip that it was at is done by another. Whoever reaches the scheduler's port, or a
    worker's, can run what they like there: use a network of your own, or TLS by Dask's configuration.

    \b
    Example: dask scheduler --port 8786 &
             signet-train pose-worker tcp://head:8786 --gpus 0,1,2,3   # on every machine
             signet-train extract-poses m.parquet --scheduler tcp://head:8786
    """  # noqa: D301 (click wants the character)
    import logging

    from signet_train import cluster
    from signet_train.data.workers import available_cpus

    cluster.require()
    from signet_train.cluster.node import serve

    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    listed = gpus if gpus is not None else os.environ.get("CUDA_VISIBLE_DEVICES", "")
    devices = tuple(part.strip() for part in listed.split(",") if part.strip() not in ("", "-1"))
    serve(
        scheduler,
        slots=slots or len(devices) or max(1, available_cpus() // 4),
        devices=devices,
        name=name,
        patience=patience,
        told=lambda line: click.echo(f"signet-train: {line}", err=True),
    )
