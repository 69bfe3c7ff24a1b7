"""Videos of unknown origin, decoded in a process of their own that can reach nothing else."""

from __future__ import annotations

from pathlib import Path

from signet_runtime.sources.isolation.video import IsolatedVideo
from signet_runtime.sources.video import Video


def open_video(
    path: str | Path,
    frame_rate: float | None,
    *,
    start: float | None = None,
    end: float | None = None,
    track: int | None,
    isolate: bool,
) -> Video | IsolatedVideo:
    """Open a video, in a process of its own if it is to be isolated.

    Raises:
        InputError, EngineError: as `Video`, and `IsolatedVideo`.
    """
    return (IsolatedVideo if isolate else Video)(path, frame_rate, start=start, end=end, track=track)
