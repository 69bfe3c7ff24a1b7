"""From settings to a server that listens, until a signal ends it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
from collections.abc import Iterator

import click
import uvicorn

from signet_runtime.errors import OutputError
from signet_runtime.limits import VARIABLE
from signet_runtime.limits import Limits as FileLimits
from signet_runtime.serve.app import create_app
from signet_runtime.serve.guard import is_loopback
from signet_runtime.serve.patience import protocol
from signet_runtime.serve.settings import Limits, Settings

logger = logging.getLogger("signet_runtime")

# Of keypoints: pictures a second, and at that rate bytes of one. The widest layout has 9 kB, and 60 a second at most.
_FASTEST = 120
_FRAME_BYTES = 8_192

# Of a picture in a video: 8K. Several are in memory at a time.
_PIXELS = 7_680 * 4_320

# Seconds that requests have to end after a signal; then they are ended.
_GRACE = 10


def run(settings: Settings, quiet: bool) -> None:
    """Serve until SIGINT or SIGTERM.

    Raises:
        OutputError: the address cannot be listened at, or there is no place for uploads.
        SignetError: the default model cannot be read, or run.
    """
    limits = settings.limits
    narrow_limits(limits)
    app = create_app(settings)
    listening = _listen(settings)
    if settings.token is None and not is_loopback(settings.host):
        logger.warning("whoever reaches %s may use this server; --token-file FILE asks for a token", settings.host)
    config = uvicorn.Config(
        app,
        http=protocol(limits),
        ws="websockets-sansio",
        ws_max_size=limits.message,
        ws_per_message_deflate=False,  # what is small when packed may be large
        lifespan="off",  # what fails at the start is the command's to say
        log_config=_logging(quiet),
        access_log=not quiet,
        server_header=False,
        proxy_headers=False,  # nothing here depends on who asks
        timeout_graceful_shutdown=_GRACE,
        backlog=limits.connections,
    )
    server = _Server(config, settings, quiet, listening)

    async def serve() -> None:
        async with app.router.lifespan_context(app):
            await server.serve(sockets=[listening])

    with listening:
        asyncio.run(serve())
    if app.state.service.stuck:  # a thread that does not end would keep the process
        sys.stderr.flush()
        os._exit(0)


def narrow_limits(limits: Limits) -> None:
    """Hold what a file may declare (`signet_runtime.limits`) to what this server takes; the environment has its say."""
    frames = max(1, round(limits.length * _FASTEST))
    narrow = {
        "frames": frames,
        "people": 4 * frames,
        "json_bytes": limits.keypoints_size,
        "keypoint_bytes": max(limits.keypoints_size, frames * _FRAME_BYTES),
        "pixels": _PIXELS,
        "decode_seconds": min(60, limits.time),
    }
    usual = FileLimits()
    said = [f"{name}={min(value, getattr(usual, name))}" for name, value in narrow.items()]
    os.environ[VARIABLE] = ",".join(filter(None, [*said, os.environ.get(VARIABLE, "")]))


def _listen(settings: Settings) -> socket.socket:
    try:
        family = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((settings.host, settings.port), family=family, backlog=settings.limits.connections)
    except OSError as error:
        # Of the address that was tried asyncio's and socket's own words are no help.
        reason = error.strerror if isinstance(error, socket.gaierror) else os.strerror(error.errno or 0)
        raise OutputError(
            f"{settings.host}:{settings.port}: cannot listen there ({reason}); give another --host or --port"
        ) from error


class _Server(uvicorn.Server):
    """Uvicorn's, which says where it is in our words, and takes the first signal as the end of its work."""

    def __init__(self, config: uvicorn.Config, settings: Settings, quiet: bool, listening: socket.socket) -> None:
        super().__init__(config)
        self._settings, self._quiet = settings, quiet
        self._port = listening.getsockname()[1]

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, and say where."""
        await super().startup(sockets)
        if self.started and not self._quiet:
            host = f"[{self._settings.host}]" if ":" in self._settings.host else self._settings.host
            click.echo(f"signet-serve: http://{host}:{self._port} is ready; Ctrl-C ends it", err=True)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Let SIGINT and SIGTERM end the server, once; again, at once."""
        before = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _logging(quiet: bool) -> dict[str, object]:
    level = "ERROR" if quiet else "WARNING"
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {
            "line": {"format": "signet-serve: %(levelname)s: %(message)s"},
            "plain": {"format": "%(message)s"},
        },
        "handlers": {
            "line": {"class": "logging.StreamHandler", "formatter": "line"},
            "plain": {"class": "logging.StreamHandler", "formatter": "plain"},
        },
        "loggers": {
            "uvicorn": {"handlers": ["line"], "level": level, "propagate": False},
            "uvicorn.error": {"level": level},
            "uvicorn.access": {"handlers": ["plain"], "level": "INFO", "propagate": False},
        },
    }
