"""What every request passes first: who may ask, from where, and what is said to browsers with every answer."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import json
from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from signet_runtime.serve.problems import Problem
from signet_runtime.serve.settings import Settings

# Nothing from elsewhere, nothing inline, in nobody's frame; a picture or a video may be one that the page itself made.
_HEADERS = {
    "content-security-policy": "default-src 'self'; img-src 'self' blob: data:; media-src 'self' blob:; "
    "connect-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(self), microphone=(), geolocation=(), display-capture=()",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}

# A refusal that closes the connection while the client still sends would be lost to it: for so long (s) what comes is
# thrown away.
_LINGER = 3.0

_SAFE = ("GET", "HEAD", "OPTIONS")


class Token:
    """What requests have to bring, compared in a time that says nothing of it; None: nothing."""

    def __init__(self, token: str | None) -> None:
        self._digest = None if token is None else _digest(token)

    def is_brought(self, given: str) -> bool:
        """Whether it is this one."""
        return self._digest is None or hmac.compare_digest(_digest(given), self._digest)

    def is_in(self, header: str) -> bool:
        """Whether a header Authorization has it."""
        scheme, _, given = header.partition(" ")
        return self._digest is None or (scheme.lower() == "bearer" and self.is_brought(given.strip()))


class Guard:
    """Refuses hosts, origins and tokens that are not ours, adds headers, and counts.

    Host is compared because a page whose name was made to point here (DNS rebinding) is of the same origin for the
    browser that shows it; Origin, because a form or a WebSocket of another page needs no permission to be sent.
    """

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app, self._settings = app, settings
        self._hosts = {"localhost", *(host.lower() for host in settings.hosts)}
        if not _is_address(settings.host):
            self._hosts.add(settings.host.lower())
        self._loopback = is_loopback(settings.host)
        self._token = Token(settings.token)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or let it pass."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        problem = self._problem(scope, headers)
        authorised = scope["signet.authorised"] = self._token.is_in(headers.get(b"authorization", ""))
        if scope["type"] == "websocket":
            await (self._app(scope, receive, send) if problem is None else _deny(scope, receive, send, problem))
            return
        answer = _Answer(scope, receive, send, b"expect" in headers)
        if problem is None and not authorised and self._is_guarded(scope["path"]):
            problem = unauthorised()
        if problem is None:
            await self._app(scope, answer.receive, answer.send)
        else:
            await answer.refuse(problem)

    def _problem(self, scope: Scope, headers: dict[bytes, str]) -> Problem | None:
        host = headers.get(b"host", "")
        if not self._is_our_host(host):
            return Problem(
                400, "host_not_allowed", "this server is not called by that name; its operator can --allow-host NAME"
            )
        origin = headers.get(b"origin")
        if scope["type"] == "websocket" or scope["method"] not in _SAFE:
            foreign = origin is not None and not _is_origin_of(origin, host)
            if foreign or headers.get(b"sec-fetch-site", "same-origin") not in ("same-origin", "none"):
                return Problem(403, "foreign_page", "another site's page may not use this server")
        return None

    def _is_our_host(self, header: str) -> bool:
        try:
            name = urlsplit(f"//{header}").hostname or ""
        except ValueError:
            return False
        if _is_address(name):
            return not self._loopback or ip_address(name).is_loopback
        return name.lower().rstrip(".") in self._hosts

    @staticmethod
    def _is_guarded(path: str) -> bool:
        return path.startswith("/v1/") or path == "/metrics"


def unauthorised() -> Problem:
    """Say that there is no token, or another."""
    return Problem(401, "unauthorised", "send the server's token (Authorization: Bearer …)")


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address or name."""
    return ip_address(host).is_loopback if _is_address(host) else host.lower() == "localhost"


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _is_origin_of(origin: str, host: str) -> bool:
    try:
        parts = urlsplit(origin)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and parts.netloc.lower() == host.lower()


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()


async def _deny(scope: Scope, receive: Receive, send: Send, problem: Problem) -> None:
    await receive()
    if "websocket.http.response" not in scope.get("extensions", {}):
        await send({"type": "websocket.close", "code": 1008})
        return
    headers = [(b"content-type", b"application/json")]
    await send({"type": "websocket.http.response.start", "status": problem.status, "headers": headers})
    await send({"type": "websocket.http.response.body", "body": json.dumps(problem.body()).encode()})


class _Answer:
    """One answer over HTTP: its headers, and its end where the client still sends."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, expects: bool) -> None:
        self._scope, self._receive, self._send = scope, receive, send
        self._refused = False
        self._all_read = scope["method"] in _SAFE
        self._waits = expects  # for "100 Continue", and so sends nothing yet

    async def receive(self) -> Message:
        message = await self._receive()
        self._waits = False
        if message["type"] != "http.request" or not message.get("more_body", False):
            self._all_read = True
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            given = {name.lower() for name, _ in message.get("headers", [])}
            own = [(k.encode(), v.encode()) for k, v in _HEADERS.items() if k.encode() not in given]
            if b"cache-control" not in given:
                # Nobody's sentences are kept; and of the page a new version is seen.
                kept = b"no-store" if self._scope["path"].startswith("/v1/") else b"no-cache"
                own.append((b"cache-control", kept))
            if not self._all_read:
                own.append((b"connection", b"close"))
            message["headers"] = [*message.get("headers", []), *own]
            self._count(message["status"])
        elif not message.get("more_body", False) and not self._all_read:
            await self._send({**message, "more_body": True})
            await self._discard()
            message = {"type": "http.response.body", "body": b"", "more_body": False}
        await self._send(message)

    async def refuse(self, problem: Problem) -> None:
        self._refused = True
        content = json.dumps(problem.body()).encode()
        head = {"content-type": "application/json", "content-length": str(len(content)), **problem.headers()}
        headers = [(name.lower().encode(), value.encode()) for name, value in head.items()]
        await self.send({"type": "http.response.start", "status": problem.status, "headers": headers})
        await self.send({"type": "http.response.body", "body": content})

    async def _discard(self) -> None:
        if self._waits:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LINGER):
                while not self._all_read:
                    await self.receive()

    def _count(self, status: int) -> None:
        service = getattr(self._scope["app"].state, "service", None) if "app" in self._scope else None
        if service is not None:
            route = "refused" if self._refused else getattr(self._scope.get("route"), "path", "page")
            service.metrics.requests.labels(route, str(status)).inc()
