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
        self._at_once = False

    def receive(self, signum: int, _frame: FrameType | None) -> None:
        """Note a signal; a second Ctrl-C, or one in a block of `at_once`, interrupts like any other."""
        impatient = self.asked and signum == signal.SIGINT
        self.asked = True
        if self._at_once or impatient:
            raise KeyboardInterrupt

    @contextlib.contextmanager
    def at_once(self, accelerator: Accelerator) -> Iterator[None]:
        """Let a request interrupt the block, and one from before prevent it.

        Of several processes each waits for the others in there, so the block then runs to its end.

        Raises:
            KeyboardInterrupt: there is a request.
        """
        self._at_once = accelerator.num_processes == 1
        try:
            if self.asked and self._at_once:
                raise KeyboardInterrupt
            yield
        finally:
            self._at_once = False

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
