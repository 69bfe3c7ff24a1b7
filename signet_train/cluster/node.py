"""A machine's worker: it joins a scheduler, and joins it again when it was gone for a while."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
import tempfile
import time
from collections.abc import Callable

from distributed import Worker

from signet_runtime.errors import EngineError
from signet_train.cluster import worker as tasks

_AGAIN = 2.0  # seconds between two attempts to join


class _Joined(Worker):
    """A worker that remembers why it was closed."""

    because = ""

    async def close(  # type: ignore[override]  # as Worker's own
        self, timeout: float = 30, executor_wait: bool = True, nanny: bool = True, reason: str = "worker-close"
    ) -> str | None:
        self.because = self.because or reason
        return await super().close(timeout, executor_wait, nanny, reason)


def serve(
    address: str,
    *,
    slots: int,
    devices: tuple[str, ...] = (),
    name: str | None = None,
    patience: float,
    told: Callable[[str], None],
) -> None:
    """Work for a scheduler until it is closed, or SIGTERM or Ctrl-C.

    Args:
        address: of the scheduler, ``tcp://HOST:PORT``.
        slots: jobs at once.
        devices: GPUs; see `signet_train.cluster.worker.Slots`.
        name: of the worker in the scheduler's books.
        patience: seconds for which a scheduler that is not there, or has gone, is waited for.
        told: takes what happens, a line each.

    Raises:
        EngineError: the scheduler does not come, or a run has refused this worker.
    """
    own = tasks.slots = tasks.Slots(slots, devices)
    try:
        asyncio.run(_serve(address, slots, name, patience, told))
    finally:
        own.close()
        tasks.slots = None
    if own.dismissed is not None:
        raise EngineError(f"refused by the run: {own.dismissed}")


async def _serve(address: str, slots: int, name: str | None, patience: float, told: Callable[[str], None]) -> None:
    stop = asyncio.Event()
    if sys.platform != "win32":
        for signum in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(signum, stop.set)
    gone = time.monotonic()
    while not stop.is_set():
        with tempfile.TemporaryDirectory(prefix="signet-worker-", ignore_cleanup_errors=True) as scratch:
            joined = _Joined(
                address,
                nthreads=slots,
                name=name,
                resources={tasks.RESOURCE: slots},
                memory_limit=0,  # what jobs take is their processes'
                death_timeout=max(1.0, patience),
                local_directory=scratch,
            )
            try:
                await joined
            except (OSError, TimeoutError) as error:
                if time.monotonic() - gone > patience:
                    raise EngineError(f"{address}: no scheduler there within {patience:g} s ({error})") from error
                await _sleep(stop, _AGAIN)
                continue
            told(f"{joined.address}: works for {address}, {slots} clips at once")
            finished = asyncio.ensure_future(joined.finished())
            stopping = asyncio.ensure_future(stop.wait())
            await asyncio.wait({finished, stopping}, return_when=asyncio.FIRST_COMPLETED)
            stopping.cancel()
            if not finished.done():
                await joined.close(executor_wait=False, reason="signal")
            if "connection-broken" not in joined.because:
                return
            told(f"{address}: the scheduler has gone; waiting {patience:g} s for it")
            gone = time.monotonic()
            await _sleep(stop, _AGAIN)


async def _sleep(stop: asyncio.Event, seconds: float) -> None:
    with contextlib.suppress(asyncio.TimeoutError):
        await asyncio.wait_for(stop.wait(), seconds)
