"""Pictures -> a video file."""

from __future__ import annotations

import os
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from signet_runtime.files import whole_file


def write_video(path: str | os.PathLike[str], frames: Iterable[np.ndarray], fps: float) -> None:
    """Write H.264 (yuv420p) in the container that the name's ending says; the file appears whole or not at all.

    Args:
        path: where to write; an existing file is replaced.
        frames: uint8 RGB (H, W, 3), all of one size, height and width even.
        fps: frames per second.

    Raises:
        ValueError: no frames, an odd size, or frames of different sizes.
        OutputError: it cannot be written.
    """
    with whole_file(Path(path)) as temporary:
        _encode(temporary, frames, fps)


def _encode(path: Path, frames: Iterable[np.ndarray], fps: float) -> None:
    rate = Fraction(fps).limit_denominator(1001)
    with av.open(str(path), "w") as container:
        stream = None
        for frame in frames:
            height, width = frame.shape[:2]
            if stream is None:
                if height % 2 or width % 2:
                    raise ValueError(f"H.264 needs an even width and height, got {width}x{height}")
                stream = container.add_stream("libx264", rate=rate, options={"crf": "18", "preset": "veryfast"})
                stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
                stream.thread_count = 1
            elif (stream.width, stream.height) != (width, height):
                raise ValueError(f"frames of one size expected: {stream.width}x{stream.height}, then {width}x{height}")
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")))
        if stream is None:
            raise ValueError("no frames to write")
        container.mux(stream.encode())
