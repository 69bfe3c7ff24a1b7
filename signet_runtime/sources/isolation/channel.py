"""How the process that decodes and the one that reads speak: JSON, with its length before it."""

from __future__ import annotations

import json
import socket
import struct
from typing import Any

# Pictures that may lie in the file of both before the one that reads has taken the first of them.
AHEAD = 4

# The longest message that is read: notes and errors are lines.
_LONGEST = 1 << 20  # bytes

_LENGTH = struct.Struct("<I")


def send(connection: socket.socket, message: dict[str, Any]) -> None:
    """Send a message.

    Raises:
        OSError: nobody is there any more.
    """
    text = json.dumps(message).encode()
    connection.sendall(_LENGTH.pack(len(text)) + text)


def receive(connection: socket.socket) -> dict[str, Any]:
    """Read a message.

    Raises:
        EOFError: nobody is there any more.
        ValueError: what came is no message.
    """
    (length,) = _LENGTH.unpack(_exactly(connection, _LENGTH.size))
    if length > _LONGEST:
        raise ValueError(f"a message of {length} bytes")
    message = json.loads(_exactly(connection, length))
    if not isinstance(message, dict):
        raise ValueError("a message without names")
    return message


def _exactly(connection: socket.socket, length: int) -> bytes:
    parts = b""
    while len(parts) < length:
        try:
            part = connection.recv(length - len(parts))
        except ConnectionError as error:
            raise EOFError from error
        if not part:
            raise EOFError
        parts += part
    return parts
