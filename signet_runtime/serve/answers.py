"""A translated upload as an answer: one document in a format, or events line by line while it is read."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Coroutine, Sequence
from typing import Any, TypeVar

from fastapi import Request, Response
from starlette.types import Receive, Scope, Send

from signet_runtime.outputs.formats import FORMATS
from signet_runtime.outputs.json_lines import to_json
from signet_runtime.serve.jobs import Event, sentence_event
from signet_runtime.serve.names import attachment
from signet_runtime.serve.problems import Problem
from signet_runtime.serve.service import Job, Service
from signet_runtime.serve.upload import GoneError
from signet_runtime.translation import Translation

T = TypeVar("T")

NDJSON = "application/x-ndjson"

# What ?format= and Accept may ask for, and what is answered; the first is the default.
TYPES = {
    "json": "application/json",
    "ndjson": NDJSON,
    "srt": "application/x-subrip",
    "vtt": "text/vtt",
    "eaf": "text/x-eaf+xml",
    "text": "text/plain",
    "tsv": "text/tab-separated-values",
}


def chosen_format(asked: str | None, accept: str) -> str:
    """Return a format of `TYPES`: what the query asks for, or else the first type that the client accepts.

    Raises:
        Problem: there is no such format.
    """
    if asked is not None:
        if asked not in TYPES:
            raise Problem(400, "no_such_format", f"this format is not known; there are {', '.join(TYPES)}")
        return asked
    for entry in accept.split(","):
        kind = entry.partition(";")[0].strip().lower()
        for name, offered in TYPES.items():
            if kind == offered:
                return name
    return next(iter(TYPES))


async def while_there(receive: Receive, work: Coroutine[Any, Any, T]) -> T:
    """Await something as long as the client is there.

    Raises:
        GoneError: it went first; the work was cancelled.
    """
    task = asyncio.create_task(work)
    left = asyncio.create_task(_left(receive))
    try:
        await asyncio.wait({task, left}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise GoneError
        return task.result()
    finally:
        for each in (task, left):
            each.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await each


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def whole_answer(request: Request, service: Service, job: Job, model: str, name: str, form: str) -> Response:
    """Return everything in one document, when it is done.

    Raises:
        Problem: the translation went wrong.
        GoneError: nobody waits for it any more.
    """

    async def collect() -> tuple[list[Translation], list[str]]:
        sentences: list[Translation] = []
        notes: list[str] = []
        async for event in job.events():
            if isinstance(event, Translation):
                sentences.append(event)
            elif event["type"] == "notice":
                notes.append(event["message"])
        return sentences, notes

    try:
        sentences, notes = await while_there(request.receive, collect())
    finally:
        job.channel.stop()
    service.metrics.sentences.inc(len(sentences))
    return as_document(form, model, name, sentences, notes)


def as_document(form: str, model: str, name: str, sentences: Sequence[Translation], notes: Sequence[str]) -> Response:
    """Return sentences in a format of `TYPES`, as a file that is called as the recording, ``name``."""
    if form == "json":
        rows = [json.loads(to_json(name, sentence)) for sentence in sentences]
        said = {"model": model, "input": name, "notes": list(notes), "sentences": rows}
        return Response(json.dumps(said, ensure_ascii=False), media_type=TYPES["json"])
    document = FORMATS[form]()
    # ELAN writes down where a recording is; where the stranger has it is not known here, and this machine's folders
    # are nobody's business.
    source = f"/recordings/{name}" if form == "eaf" else name
    pieces = [document.add(source, sentence) for sentence in sentences]
    text = "".join(piece for piece in (*pieces, document.end()) if piece)
    headers = {"Content-Disposition": attachment(name, ".txt" if form == "text" else f".{form}")}
    return Response(text, media_type=TYPES[form], headers=headers)


class EventAnswer(Response):
    """Events as lines of JSON, once the recording is open; what goes wrong before has a status of its own."""

    def __init__(self, service: Service, job: Job, name: str) -> None:
        super().__init__(media_type=NDJSON)
        self._service, self._job, self._name = service, job, name
        # A proxy that collected them would show them all at the end.
        self._head = [
            (b"content-type", NDJSON.encode()),
            (b"x-accel-buffering", b"no"),
            (b"cache-control", b"no-store"),
        ]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send them as long as the client is there."""
        try:
            with contextlib.suppress(GoneError):
                await while_there(receive, self._send_all(send))
        finally:
            self._job.channel.stop()

    async def _send_all(self, send: Send) -> None:
        begun = False

        async def tell(event: Event) -> None:
            nonlocal begun
            if not begun:
                begun = True
                await send({"type": "http.response.start", "status": 200, "headers": self._head})
            line = json.dumps(event, ensure_ascii=False) + "\n"
            await send({"type": "http.response.body", "body": line.encode(), "more_body": True})

        try:
            async for event in self._job.events():
                if isinstance(event, Translation):
                    self._service.metrics.sentences.inc(event.complete)
                    event = sentence_event(self._name, event)
                await tell(event)
            await tell({"type": "end"})
        except Problem as problem:
            if not begun:
                raise
            await tell(problem.event())
        await send({"type": "http.response.body", "body": b"", "more_body": False})
