"""How a server is set up: every limit once, with what is taken where nothing is said."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from signet_runtime.options import TranslatorOptions


@dataclass(frozen=True)
class Limits:
    """What one request, and all of them together, may take.

    Attributes:
        at_once: translations that run side by side, each with a pose estimator of its own; a live stream is one as long
            as it lasts.
        waiting: further ones that may wait, their uploads among them; whoever comes then is told to come later.
        size: bytes of a recording.
        keypoints_size: bytes of a file of keypoints, which is read as a whole.
        length: seconds of a recording, or of a live stream.
        time: seconds from the end of an upload to its last sentence, waiting included.
        connections: open at a time.
        header_time: seconds for the head of a request, from the moment that the connection is there.
        silence: seconds without a byte of a body, a message of a live stream, or room for an answer.
        rate: bytes a second that a body has to have on average, after ``silence``.
        message: bytes of one message of a live stream.
        pixels: of one picture of a live stream.
        models: how many are kept loaded; the one that was not used for longest makes room.
    """

    at_once: int = field(default_factory=lambda: max(2, (os.cpu_count() or 1) // 2))
    waiting: int = 16
    size: int = 200_000_000
    keypoints_size: int = 32_000_000
    length: float = 600.0
    time: float = 600.0
    connections: int = 256
    header_time: float = 10.0
    silence: float = 10.0
    rate: float = 16_384.0
    message: int = 4_000_000
    pixels: int = 2_560 * 1_440
    models: int = 2

    @property
    def places(self) -> int:
        """How many requests there is room for, at work or waiting."""
        return self.at_once + self.waiting


@dataclass(frozen=True)
class Settings:
    """A server.

    Attributes:
        host, port: where it listens.
        bundles: directories of bundles that are served besides the demonstration and the models by name.
        only: serve the models of these names, of those that are here; None: all.
        hosts: names by which it may be called besides addresses and localhost, as a proxy's.
        token: that requests to the API have to bring; None: everybody may.
        scratch: where uploads lie while they are read; None is the system's directory for temporary files.
        options: of every translator.
        limits: see `Limits`.
    """

    host: str = "127.0.0.1"
    port: int = 8765
    bundles: tuple[Path, ...] = ()
    only: tuple[str, ...] | None = None
    hosts: tuple[str, ...] = ()
    token: str | None = None
    scratch: Path | None = None
    options: TranslatorOptions = field(default_factory=TranslatorOptions)
    limits: Limits = field(default_factory=Limits)
