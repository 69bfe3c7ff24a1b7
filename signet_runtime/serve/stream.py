"""`/v1/stream`: pictures or keypoints come in over a WebSocket, and sentences go out as they end."""

from __future__ import annotations

import asyncio
import contextlib
import json
import struct
import time
from collections.abc import Callable
from functools import partial
from typing import Annotated, Any, Literal

import numpy as np
from fastapi import FastAPI, WebSocket, WebSocketDisconnect
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from signet_runtime.serve.feed import Feed, open_keypoints, open_pictures
from signet_runtime.serve.guard import Token, unauthorised
from signet_runtime.serve.jobs import sentence_event
from signet_runtime.serve.problems import Problem, too_long
from signet_runtime.serve.service import Job, Service
from signet_runtime.serve.settings import Settings
from signet_runtime.skeleton import NUM_KEYPOINTS
from signet_runtime.translation import Translation

_TIME = struct.Struct("<d")
_LONGEST_TEXT = 65_536  # characters; 133 keypoints in full precision have a tenth of that
_WAIT = 0.01

# Why a socket was closed (RFC 6455 7.4.1).
_DONE, _REFUSED, _OURS, _LATER = 1000, 1008, 1011, 1013

_Fraction = Annotated[float, Field(ge=-10, le=10)]
_Side = Annotated[int, Field(ge=1, le=32_768)]


class _Message(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Start(_Message):
    """The first message."""

    type: Literal["start"]
    source: Literal["frames", "keypoints"]
    token: Annotated[str, Field(max_length=4096)] | None = None
    size: tuple[_Side, _Side] | None = None  # of the pictures in which the keypoints were found
    partial: Annotated[float, Field(ge=0.2, le=60)] = 1.0  # seconds


class Keypoints(_Message):
    """Of one picture, in fractions of its width and height."""

    type: Literal["keypoints"]
    time: float
    keypoints: Annotated[list[tuple[_Fraction, _Fraction]], Field(min_length=NUM_KEYPOINTS, max_length=NUM_KEYPOINTS)]
    scores: Annotated[
        list[Annotated[float, Field(ge=0, le=1)]], Field(min_length=NUM_KEYPOINTS, max_length=NUM_KEYPOINTS)
    ]


class End(_Message):
    """The last message."""

    type: Literal["end"]


_START = TypeAdapter(Start)
_LATER_ON: TypeAdapter[Keypoints | End] = TypeAdapter(Annotated[Keypoints | End, Field(discriminator="type")])


def add_stream(app: FastAPI, settings: Settings, service_of: Callable[[Any], Service]) -> None:
    """Add the path to an application."""
    token = Token(settings.token)

    @app.websocket("/v1/stream")
    async def stream(socket: WebSocket, model: str | None = None) -> None:
        await socket.accept()
        session = _Session(socket, service_of(socket))
        problem: Problem | None = None
        with contextlib.suppress(WebSocketDisconnect):  # it has gone: nobody is there to be told
            try:
                await session.run(token, model)
                await session.tell({"type": "end"})
            except Problem as raised:
                problem = raised
                await session.tell(raised.event())
            await socket.close(_closing(problem))


def _closing(problem: Problem | None) -> int:
    if problem is None:
        return _DONE
    if problem.retry_after is not None:
        return _LATER
    return _OURS if problem.status >= 500 else _REFUSED


class _Session:
    """One live stream.

    Raises:
        Problem: from `run`, and from nowhere else.
    """

    def __init__(self, socket: WebSocket, service: Service) -> None:
        self._socket, self._service = socket, service
        self._limits = service.settings.limits
        self._began = False
        self._ready_since: float | None = None  # before that the client may well wait

    async def run(self, token: Token, asked: str | None) -> None:
        """Follow the stream from its first message to its last sentence."""
        start = _parsed(_START, await self._text())
        assert isinstance(start, Start)
        if not (self._socket.scope["signet.authorised"] or token.is_brought(start.token or "")):
            raise unauthorised()
        if start.source == "keypoints" and start.size is None:
            raise Problem(400, "no_size", 'say in what pictures they were found: "size": [width, height]')
        model = await asyncio.to_thread(self._service.shelf.check, asked)
        frame_rate = await asyncio.to_thread(self._service.shelf.frame_rate, model)
        feed: Feed[Any] = Feed(frame_rate, self._limits, drops=start.source == "frames")
        if start.size is None:
            opened = partial(open_pictures, feed, self._limits)
        else:
            opened = partial(open_keypoints, feed, start.size)
        async with contextlib.AsyncExitStack() as held:
            await held.enter_async_context(self._service.lanes.place())
            self._began = True
            job = self._service.follow(model, held.pop_all(), opened, start.partial)
        await self._both_ways(feed, job)

    async def _both_ways(self, feed: Feed[Any], job: Job) -> None:
        reading = asyncio.create_task(self._read(feed))
        telling = asyncio.create_task(self._tell_all(job))
        try:
            await asyncio.wait({reading, telling}, return_when=asyncio.FIRST_COMPLETED)
            if reading.done() and (error := reading.exception()) is not None:
                if not isinstance(error, Problem):
                    raise error
                feed.end()  # what was signed until then is still translated
                async with asyncio.timeout(self._limits.time):
                    with contextlib.suppress(Problem):  # which followed from that one
                        await telling
                raise error
            async with asyncio.timeout(None if not reading.done() else self._limits.time):
                await telling
        except TimeoutError:
            raise Problem(504, "out_of_time", f"the last sentence was not done in {self._limits.time:g} s") from None
        finally:
            feed.end()
            job.channel.stop()
            for task in (reading, telling):
                task.cancel()
            await asyncio.gather(reading, telling, return_exceptions=True)
            self._service.metrics.dropped.inc(feed.dropped)

    async def _read(self, feed: Feed[Any]) -> None:
        """Take messages until the last."""
        pictures = feed.drops
        while True:
            while feed.full:
                await asyncio.sleep(_WAIT)
            message = await self._message()
            if pictures and message.get("bytes") is not None:
                content = message["bytes"]
                if len(content) <= _TIME.size:
                    raise Problem(400, "bad_message", "a picture comes after its time: 8 bytes, float64, little-endian")
                (seconds,) = _TIME.unpack_from(content)
                feed.put(seconds, content[_TIME.size :])
            else:
                parsed = _parsed(_LATER_ON, self._text_of(message))
                if isinstance(parsed, End):
                    feed.end()
                    return
                if pictures:
                    raise Problem(400, "bad_message", "the stream is of pictures, which come as binary messages")
                keypoints = np.array(parsed.keypoints, np.float32)
                feed.put(parsed.time, (keypoints, np.array(parsed.scores, np.float32)))
            self._service.metrics.frames.inc()

    async def _tell_all(self, job: Job) -> None:
        async for event in job.events():
            if isinstance(event, Translation):
                self._service.metrics.sentences.inc(event.complete)
                event = sentence_event("live", event)
            elif event["type"] == "ready":
                self._ready_since = time.monotonic()
            await self.tell(event)

    async def tell(self, event: dict[str, Any]) -> None:
        """Send an event.

        Raises:
            WebSocketDisconnect: the client does not read it.
        """
        try:
            async with asyncio.timeout(self._limits.silence):
                await self._socket.send_text(json.dumps(event, ensure_ascii=False))
        except (TimeoutError, RuntimeError):  # which Starlette raises where it has gone
            raise WebSocketDisconnect(_REFUSED) from None

    async def _text(self) -> str:
        return self._text_of(await self._message())

    def _text_of(self, message: dict[str, Any]) -> str:
        text = message.get("text")
        if not isinstance(text, str):
            raise Problem(400, "bad_message", "a message that is no picture is text, in JSON")
        if len(text) > _LONGEST_TEXT:
            raise Problem(413, "too_large", "a message is too long")
        return text

    async def _message(self) -> dict[str, Any]:
        silence = self._limits.silence
        while True:
            try:
                async with asyncio.timeout(silence):
                    message: dict[str, Any] = dict(await self._socket.receive())
                break
            except TimeoutError:
                if not self._waits_for_lane(silence):
                    raise Problem(408, "stalled", f"nothing came for {silence:g} s; start again") from None
        if self._ready_since is not None and time.monotonic() - self._ready_since > self._limits.length + silence:
            raise too_long(self._limits.length)
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(message.get("code", _DONE))
        return message

    def _waits_for_lane(self, silence: float) -> bool:
        since = self._ready_since
        return self._began and (since is None or time.monotonic() - since < silence)


def _parsed(kind: TypeAdapter[Any], text: str) -> Any:
    """Read a message.

    Raises:
        Problem: it is none of ours.
    """
    try:
        return kind.validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "message"
        raise Problem(400, "bad_message", f"{where[:100]}: {first['msg'][:200]}") from None
