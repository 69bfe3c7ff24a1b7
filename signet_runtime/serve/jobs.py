"""One recording from its upload to its last sentence: what a lane's thread does, and how others learn of it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import asdict
from typing import Any

import numpy as np

from signet_runtime.commands.inputs import as_one_sentence
from signet_runtime.errors import SignetError
from signet_runtime.sentences.keypoints import PoseStream
from signet_runtime.sentences.segmenter import PosedFrame
from signet_runtime.serve.problems import Problem, Stopped, of_error, too_long, too_slow
from signet_runtime.serve.settings import Limits
from signet_runtime.serve.upload import Upload
from signet_runtime.translation import Translation
from signet_runtime.translator import Translator

logger = logging.getLogger("signet_runtime.serve")

Event = dict[str, Any]

# Events that may wait for whoever reads them; then the translation waits too.
_ROOM = 512
_LOOK = 0.2  # seconds between looks at whether anybody still waits
_PROGRESS_EVERY = 0.2  # seconds
_GRACE = 1.0  # seconds for which a thread may be late


class Channel:
    """What a lane's thread tells, for one reader in the event loop.

    Args:
        limits: how long the thread waits for room, and what is said where the time is over.
        deadline: when it is, by `time.monotonic`; None: never.
    """

    def __init__(self, limits: Limits, deadline: float | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        self._events: asyncio.Queue[Event | Translation | None] = asyncio.Queue()
        self._room = threading.Semaphore(_ROOM)
        self._limits, self._deadline = limits, deadline
        self._stopped = threading.Event()

    @property
    def stopped(self) -> bool:
        """Whether nobody reads any more."""
        return self._stopped.is_set()

    def tell(self, event: Event | Translation) -> None:
        """Tell something, from a thread.

        Raises:
            Stopped: nobody reads any more, or too slowly.
        """
        until = time.monotonic() + self._limits.silence
        while not self._room.acquire(timeout=_LOOK):
            if self.stopped or time.monotonic() > until:
                raise Stopped
        if self.stopped:
            raise Stopped
        self._put(event)

    def end(self) -> None:
        """Say that there will be nothing more, from a thread."""
        self._put(None)

    def _put(self, event: Event | Translation | None) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody is there
            self._loop.call_soon_threadsafe(self._events.put_nowait, event)

    def stop(self) -> None:
        """Say that nobody reads any more; the thread notices with its next frame."""
        self._stopped.set()

    async def __aiter__(self) -> AsyncIterator[Event | Translation]:
        while True:
            # The thread looks at the time with every frame. It may be at what takes long before there is any.
            left = None if self._deadline is None else max(0.0, self._deadline + _GRACE - time.monotonic())
            try:
                event = await asyncio.wait_for(self._events.get(), left)
            except TimeoutError:
                raise too_slow(self._limits.time) from None
            if event is None:
                return
            self._room.release()
            yield event


class Following:
    """Looks at every frame that passes, on behalf of the request.

    Args:
        deadline: when the time of the request is over, by `time.monotonic`; None: it has none.
        poses: tell the keypoints.
    """

    def __init__(self, channel: Channel, limits: Limits, deadline: float | None, *, poses: bool) -> None:
        self._channel, self._limits, self._deadline, self._poses = channel, limits, deadline, poses
        self._done, self._total = 0, 0
        self._said = 0.0
        self.seen = 0

    def progress(self, done: int, total: int | None) -> None:
        """Take how many frames there will be; see `Translator.sentences`."""
        self._done, self._total = done, total or 0

    def watch(self, frame: PosedFrame) -> None:
        """Take a frame.

        Raises:
            Problem: the recording is too long, or the time is over.
            Stopped: nobody waits for the sentences.
        """
        if self._channel.stopped:
            raise Stopped
        # What a file says of its length is a reason to refuse it early, after a second, and none to believe it.
        duration = frame.seconds / self.seen * self._total if self.seen and self._total else None
        self.seen += 1
        longest = self._limits.length
        if frame.seconds > longest or (frame.seconds > 1 and duration is not None and duration > 1.05 * longest):
            raise too_long(longest)
        if self._deadline is not None and time.monotonic() > self._deadline:
            raise too_slow(self._limits.time)
        if self._poses:
            self._channel.tell(pose_event(frame))
        now = time.monotonic()
        if now - self._said >= _PROGRESS_EVERY:
            self._said = now
            said = None if duration is None else round(duration, 3)
            self._channel.tell({"type": "progress", "position": round(frame.seconds, 3), "duration": said})


def pose_event(frame: PosedFrame) -> Event:
    """Return the event of a frame's keypoints, in fractions of the picture, to a tenth of a pixel of a large one."""
    return {
        "type": "pose",
        "time": round(frame.seconds, 4),
        "keypoints": np.round(frame.keypoints.astype(np.float64), 4).tolist(),
        "scores": np.round(frame.scores.astype(np.float64), 3).tolist(),
    }


def ready_event(model: str, translator: Translator, stream: PoseStream | None = None) -> Event:
    """Return the event of a recording that was opened, or of a live stream (None) that may begin."""
    size = {} if stream is None else {"size": list(stream.size)}
    return {"type": "ready", "model": model, "frame_rate": translator.bundle.manifest.frame_rate, **size}


def sentence_event(source: str, translation: Translation) -> Event:
    """Return the event of a sentence, or of what there is of one."""
    if not translation.complete:
        return {"type": "partial", "start": translation.start, "text": translation.text}
    return {"type": "sentence", "input": source, **asdict(translation)}


def read_recording(
    model: str,
    translator: Translator,
    upload: Upload,
    channel: Channel,
    limits: Limits,
    deadline: float,
    *,
    cut: str,
    poses: bool,
) -> None:
    """Translate an upload, in a lane's thread, and tell all of it.

    Raises:
        Problem: it cannot be translated, or takes more than it may.
        Stopped: nobody waits for it.
    """
    following = Following(channel, limits, deadline, poses=poses)
    whole = as_one_sentence(translator.bundle.manifest.max_frames, cut)

    def opened(stream: PoseStream) -> None:
        channel.tell(ready_event(model, translator, stream))

    with naming(following, {str(upload.path): upload.name}):
        sentences = translator.sentences(
            upload.path,
            whole=whole,
            partial=2.0 if poses else None,
            progress=following.progress,
            opened=opened,
            watch=following.watch,
        )
        _tell_all(sentences, channel)


def follow_stream(translator: Translator, stream: PoseStream, channel: Channel, limits: Limits, partial: float) -> None:
    """Translate keypoints that come as they are found, in a lane's thread, and tell all of it.

    Raises:
        Problem: they cannot be translated, or are more than there may be.
        Stopped: nobody waits for it.
    """
    following = Following(channel, limits, None, poses=True)
    with naming(following, {}):
        _tell_all(translator.sentences(stream, partial=partial, watch=following.watch), channel)


def _tell_all(sentences: Iterator[Translation], channel: Channel) -> None:
    said: set[str] = set()
    with contextlib.closing(sentences):  # type: ignore[type-var]
        for translation in sentences:
            for note in translation.notes:
                if note not in said:
                    said.add(note)
                    channel.tell({"type": "notice", "message": note})
            channel.tell(translation)


@contextlib.contextmanager
def naming(following: Following, hidden: dict[str, str]) -> Iterator[None]:
    """Turn what goes wrong in the block into what a stranger may know of it.

    Raises:
        Problem, Stopped
    """
    try:
        yield
    except (Problem, Stopped):
        raise
    except SignetError as error:
        raise of_error(error, following.seen > 0, hidden) from error
    except MemoryError as error:
        raise Problem(503, "no_memory", "the server has too little memory for it; send a smaller recording") from error
    except Exception as error:
        logger.exception("a translation failed")
        raise Problem(500, "failed", "the translation failed; the server's log says why") from error


def run_in_lane(work: Callable[[], None], channel: Channel) -> Problem | None:
    """Do a lane's work to its end; return what went wrong, as far as somebody waits to know."""
    try:
        work()
    except Problem as problem:
        return problem
    except Stopped:
        return None
    finally:
        channel.end()
    return None
