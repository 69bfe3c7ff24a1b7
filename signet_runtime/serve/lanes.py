"""Who may translate now, who waits, and who has to come later."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import TypeVar

from signet_runtime.serve.problems import Problem
from signet_runtime.serve.settings import Limits
from signet_runtime.serve.shelf import Loaded
from signet_runtime.translator import Translator

T = TypeVar("T")

# How many of the last translations say how long the next ones will take, and what is said before there are any (s).
_REMEMBERED = 0.8
_FIRST_GUESS = 5.0
_LONGEST_WAIT = 120


class Lane:
    """One translation at a time, in a thread of its own, each model with a pose estimator of this lane's own."""

    def __init__(self, number: int) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"signet-lane-{number}")
        self._translators: dict[int, tuple[Loaded, Translator]] = {}
        self.since: float | None = None  # when its present translation began, by `time.monotonic`

    def translator(self, loaded: Loaded) -> Translator:
        """Return this lane's translator of a model."""
        found = self._translators.get(id(loaded))
        if found is None:
            found = self._translators[id(loaded)] = loaded, loaded.translator.beside()
        return found[1]

    def forget(self, loaded: Loaded, *, close: bool) -> None:
        """Let go of a model's pose estimator; it is not closed where some thread may still be at work with it."""
        found = self._translators.pop(id(loaded), None)
        if found is not None and close:
            found[1].close()

    async def run(self, work: Callable[[], T]) -> T:
        """Run it in this lane's thread."""
        self.since = time.monotonic()
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        finally:
            self.since = None

    def close(self) -> None:
        """End its thread; a translation that does not end is left to it."""
        self._thread.shutdown(wait=False, cancel_futures=True)


class Lanes:
    """All lanes of a server, and the queue before them. For one event loop."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.lanes = [Lane(number) for number in range(limits.at_once)]
        self._free: asyncio.Queue[Lane] = asyncio.Queue()
        for lane in self.lanes:
            self._free.put_nowait(lane)
        self.inside = 0  # requests that have a place
        self.running = 0
        self._usual = _FIRST_GUESS

    @property
    def waiting(self) -> int:
        """How many requests have a place and no lane."""
        return self.inside - self.running

    def retry_after(self) -> int:
        """Return in how many seconds there should be a place."""
        return max(1, min(_LONGEST_WAIT, math.ceil(self._usual * (1 + self.waiting) / len(self.lanes))))

    def overdue(self) -> bool:
        """Whether every lane has been at the same translation for longer than any may take."""
        limit = 2 * max(self._limits.time, self._limits.length)
        return all(lane.since is not None and time.monotonic() - lane.since > limit for lane in self.lanes)

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """Take a place, in the queue at first, as long as the block lasts.

        Raises:
            Problem: there is none.
        """
        if self.inside >= self._limits.places:
            later = self.retry_after()
            raise Problem(
                503, "busy", f"{self.inside} requests are being answered or wait; come again in {later} s", later
            )
        self.inside += 1
        try:
            yield
        finally:
            self.inside -= 1

    @asynccontextmanager
    async def lane(self) -> AsyncIterator[Lane]:
        """Wait for a lane, and have it as long as the block lasts; whoever waits longer is first."""
        lane = await self._free.get()
        self.running += 1
        since = time.monotonic()
        try:
            yield lane
        finally:
            self._usual = _REMEMBERED * self._usual + (1 - _REMEMBERED) * (time.monotonic() - since)
            self.running -= 1
            self._free.put_nowait(lane)

    def close(self) -> None:
        """Free all lanes."""
        for lane in self.lanes:
            lane.close()
