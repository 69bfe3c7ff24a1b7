"""A run that is asked to stop, by Ctrl-C or by who manages the machine, stops where nothing is lost."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import torch
from accelerate import Accelerator


class Stopped(KeyboardInterrupt):
    """A run was stopped, and what it had done is saved.

    Attributes:
        out: the run's directory.
        step, steps: how many are done, of how many.
    """

    def __init__(self, out: Path, step: int, steps: int) -> None:
        super().__init__(f"stopped after step {step} of {steps}, and saved in {out / 'last'}")
        self.out, self.step, self.steps = out, step, steps


class StopRequest:
    """Whether somebody asked this process to stop; see `stop_requests`."""

    def __init__(self) -> None:
        self.asked = False

    def receive(self, signum: int, _frame: FrameType | None) -> None:
        """Note a signal. A second Ctrl-C does not wait, and interrupts like any other.

        The first interrupts nothing: an exception out of nowhere would be lost where Python cannot pass it on, as in a
        fork, or leave a library half done.
        """
        impatient = self.asked and signum == signal.SIGINT
        self.asked = True
        if impatient:
            raise KeyboardInterrupt

    def check(self, accelerator: Accelerator) -> None:
        """Interrupt what is going on if there is a request; of several processes each would wait for the others.

        Raises:
            KeyboardInterrupt: there is a request.
        """
        if self.asked and accelerator.num_processes == 1:
            raise KeyboardInterrupt

    def by_anyone(self, accelerator: Accelerator) -> bool:
        """Whether any of several processes was asked, so that all stop after the same step."""
        if accelerator.num_processes == 1:
            return self.asked
        asked = torch.tensor(float(self.asked), device=accelerator.device)
        reduced = accelerator.reduce(asked, reduction="sum")
        assert isinstance(reduced, torch.Tensor)
        return bool(reduced > 0)


@contextlib.contextmanager
def stop_requests() -> Iterator[StopRequest]:
    """Take SIGINT and SIGTERM as requests while the block runs; in a thread other than the first there are none."""
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    before = {signum: signal.signal(signum, request.receive) for signum in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield request
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
