"""HTTP connections that may not dawdle: slow-loris keeps servers busy by heads of requests that never end."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

from signet_runtime.serve.settings import Limits


class PatientProtocol(H11Protocol):
    """Uvicorn's protocol on h11, which closes a connection whose request does not begin in time, or is one too many.

    h11 holds the head of a request to 16 KiB; its body is held to a rate where it is read (see `upload.body`).
    """

    limits = Limits()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a request."""
        super().connection_made(transport)
        self._head_timer: asyncio.TimerHandle | None = None
        if len(self.connections) > self.limits.connections:
            transport.abort()
            return
        self._wait_for_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no longer."""
        self._stop_waiting()
        super().connection_lost(exc)

    def handle_events(self) -> None:
        """Read what came; a request that began has its head."""
        cycle = self.cycle
        super().handle_events()
        if self.cycle is not cycle:
            self._stop_waiting()

    def handle_websocket_upgrade(self, event: Any) -> None:
        """Hand the connection over, which has its head."""
        self._stop_waiting()
        super().handle_websocket_upgrade(event)

    def on_response_complete(self) -> None:
        """Wait for the next request, as for the first."""
        super().on_response_complete()
        if not self.transport.is_closing() and (self.cycle is None or self.cycle.response_complete):
            self._wait_for_head()

    def pause_writing(self) -> None:
        """Wait for the client to read what it was sent."""
        super().pause_writing()
        self._read_timer = self.loop.call_later(self.limits.silence, self.transport.abort)

    def resume_writing(self) -> None:
        """Go on."""
        self._read_timer.cancel()
        super().resume_writing()

    def _wait_for_head(self) -> None:
        self._stop_waiting()
        self._head_timer = self.loop.call_later(self.limits.header_time, self._give_up)

    def _stop_waiting(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _give_up(self) -> None:
        self._head_timer = None
        if not self.transport.is_closing():
            self.transport.abort()


def protocol(limits: Limits) -> type[PatientProtocol]:
    """Return the protocol with a server's limits."""
    return type("PatientProtocol", (PatientProtocol,), {"limits": limits})
