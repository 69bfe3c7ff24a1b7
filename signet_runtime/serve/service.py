"""What all requests share: the models, the lanes, the scratch directory and the counters."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path

from signet_runtime.errors import EngineError, SignetError
from signet_runtime.serve.jobs import Channel, Event, follow_stream, read_recording, ready_event, run_in_lane
from signet_runtime.serve.lanes import Lane, Lanes
from signet_runtime.serve.metrics import Metrics
from signet_runtime.serve.problems import Problem, too_slow
from signet_runtime.serve.settings import Settings
from signet_runtime.serve.shelf import Loaded, Shelf
from signet_runtime.serve.upload import Upload
from signet_runtime.translation import Translation
from signet_runtime.translator import Translator

logger = logging.getLogger("signet_runtime.serve")


class Job:
    """A translation that was begun, and that goes on in its lane until it notices that nobody waits for it.

    Attributes:
        channel: what it tells.
    """

    def __init__(self, channel: Channel, task: asyncio.Task[Problem | None]) -> None:
        self.channel, self._task = channel, task

    async def events(self) -> AsyncIterator[Event | Translation]:
        """Yield what it tells, to its end.

        Raises:
            Problem: it went wrong.
        """
        async for event in self.channel:
            yield event
        problem = await asyncio.shield(self._task)
        if problem is not None:
            raise problem


class Service:
    """Runs translations for the routes.

    Args:
        scratch: a private directory for uploads.

    Attributes:
        stuck: whether something did not end when it was closed.

    Raises:
        SignetError: the models cannot be read.
    """

    def __init__(self, settings: Settings, scratch: Path) -> None:
        self.settings, self.scratch = settings, scratch
        self.lanes = Lanes(settings.limits)
        self.shelf = Shelf(settings, self._forget)
        self.metrics = Metrics(self.lanes, self.shelf)
        self.stuck = False
        self._tasks: set[asyncio.Task[Problem | None]] = set()
        self._channels: set[Channel] = set()

    def _forget(self, loaded: Loaded) -> None:
        for lane in self.lanes.lanes:
            lane.forget(loaded, close=True)

    def translate(self, model: str, upload: Upload, held: contextlib.AsyncExitStack, *, cut: str, poses: bool) -> Job:
        """Begin to translate an upload.

        Args:
            held: what the job holds until its end: its place, and the directory of the upload.
        """
        limits = self.settings.limits
        deadline = time.monotonic() + limits.time
        channel = Channel(limits, deadline)

        def work(translator: Translator) -> None:
            read_recording(model, translator, upload, channel, limits, deadline, cut=cut, poses=poses)

        return self._begin(model, channel, held, work, deadline)

    def follow(
        self,
        model: str,
        held: contextlib.AsyncExitStack,
        opened: Callable[[Translator], contextlib.AbstractContextManager[object]],
        partial: float,
    ) -> Job:
        """Begin to translate what comes; ``opened`` gives its `PoseStream`, in the lane's thread."""
        from signet_runtime.sentences.keypoints import PoseStream

        channel = Channel(self.settings.limits)

        def work(translator: Translator) -> None:
            channel.tell(ready_event(model, translator))
            with opened(translator) as stream:
                assert isinstance(stream, PoseStream)
                follow_stream(translator, stream, channel, self.settings.limits, partial)

        return self._begin(model, channel, held, work, None)

    def _begin(
        self,
        model: str,
        channel: Channel,
        held: contextlib.AsyncExitStack,
        work: Callable[[Translator], None],
        deadline: float | None,
    ) -> Job:
        task = asyncio.create_task(self._carry_out(model, channel, held, work, deadline))
        self._tasks.add(task)
        self._channels.add(channel)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda _: self._channels.discard(channel))
        return Job(channel, task)

    async def _carry_out(
        self,
        model: str,
        channel: Channel,
        held: contextlib.AsyncExitStack,
        work: Callable[[Translator], None],
        deadline: float | None,
    ) -> Problem | None:
        """Wait for a lane and do the work there, whatever becomes of the request; no step of it is cancelled."""
        async with held, self.lanes.lane() as lane:
            if channel.stopped:
                channel.end()
                return None
            if deadline is not None and time.monotonic() > deadline:
                channel.end()
                return too_slow(self.settings.limits.time)
            with self.metrics.translation() as outcome:
                problem = await lane.run(lambda: run_in_lane(lambda: self._work(lane, model, channel, work), channel))
                outcome.code = "cancelled" if channel.stopped else "done" if problem is None else problem.code
            return problem

    def _work(self, lane: Lane, model: str, channel: Channel, work: Callable[[Translator], None]) -> None:
        """Take the model, in the lane's thread, and work with it."""
        with self.shelf.taken(model) as loaded:
            ended = False
            try:
                translator = lane.translator(loaded)
                work(translator)
                ended = True
            except Problem as problem:
                ended = isinstance(problem.__cause__, SignetError)  # the reading came to an end of its own
                raise
            finally:
                if not ended:  # a thread of the pose estimator's may be in the middle of something
                    lane.forget(loaded, close=False)

    async def warm(self) -> None:
        """Load the default model, and for every lane its pose estimator, so that the first request finds them.

        Raises:
            SignetError: the model cannot be read, or run.
        """

        def load(lane: Lane) -> None:
            with self.shelf.taken(self.shelf.default) as loaded:
                translator = lane.translator(loaded)
                try:
                    _ = translator.estimator
                except EngineError as error:
                    logger.warning("keypoints can be translated, and videos cannot: %s", error)

        for lane in self.lanes.lanes:
            await lane.run(partial(load, lane))

    def stop(self) -> None:
        """Tell everything that runs that nobody waits for it any more."""
        for channel in self._channels:
            channel.stop()

    async def close(self, patience: float = 5.0) -> None:
        """Stop everything, and wait for it a little."""
        self.stop()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=patience)
        self.stuck = bool(self._tasks)
        self.lanes.close()
        if not self.stuck:
            self.shelf.close()
