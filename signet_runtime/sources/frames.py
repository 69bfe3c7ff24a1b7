"""A directory of images, one a frame, read like a video: how several corpora are published."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from signet_runtime.errors import InputError
from signet_runtime.sources.clock import INSTANT
from signet_runtime.sources.video import Video, VideoInfo, check_stretch, empty_stretch

IMAGE_SUFFIXES = {".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}


class FrameDirectory:
    """The images in a directory, in the order of the numbers in their names: `Video` for recordings kept as frames.

    Args:
        path: the directory; hidden files and files that are no images are left out.
        fps: frames a second, which the images do not say.
        frame_rate, start, end: see `Video`.

    Raises:
        InputError: no images there, none from ``start`` to ``end``, or ``fps`` is missing. Iterating raises it
            too, for an image that is damaged or not of the first one's size.
    """

    info: VideoInfo
    notes: tuple[str, ...] = ()

    def __init__(
        self,
        path: str | Path,
        fps: float | None,
        frame_rate: float | None = None,
        *,
        start: float | None = None,
        end: float | None = None,
    ) -> None:
        path = Path(path)
        if fps is None or not 0 < fps < math.inf:
            stated = "" if fps is None else f"; {fps:g} is none"
            raise InputError(f"{path}: a directory of frames needs its frame rate (fps){stated}")
        begin, until = check_stretch(path, start, end)
        try:
            images = [p for p in path.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES and not p.name.startswith(".")]
        except OSError as error:
            raise InputError(f"{path}: cannot be read ({error.strerror or error})") from error
        if not images:
            raise InputError(f"{path}: no images in this directory ({', '.join(sorted(IMAGE_SUFFIXES))})")
        images.sort(key=_by_number)
        times = np.arange(len(images)) / fps
        first, last = np.searchsorted(times, [begin - INSTANT, until - INSTANT])
        if first == last:
            raise empty_stretch(path, begin, until, len(images) / fps)
        self._images = images[first:last]
        if frame_rate is not None and frame_rate < fps:
            # The frame nearest to every tick.
            ticks = np.arange(math.ceil(len(self._images) / fps * frame_rate - 1e-6)) / frame_rate
            nearest = np.minimum(np.ceil(ticks * fps - 0.5).astype(int), len(self._images) - 1)
            self._images = [self._images[i] for i in nearest]
            fps = frame_rate
        with Video(self._images[0]) as image:
            self.info = VideoInfo(fps, image.info.size, len(self._images))

    def __enter__(self) -> FrameDirectory:
        return self

    def __exit__(self, *exc_info: object) -> None:
        """Close nothing: no image stays open."""

    def __iter__(self) -> Iterator[np.ndarray]:
        for path in self._images:
            with Video(path) as image:
                if image.info.size != self.info.size:
                    raise InputError(f"{path}: {image.info.size} pixels, and the first frame has {self.info.size}")
                yield next(iter(image))

    @property
    def end(self) -> float:
        """When the last image is no longer shown (s)."""
        return len(self._images) / self.info.fps

    def timed(self) -> Iterator[tuple[np.ndarray, float]]:
        """Yield the frames, each with its time: seconds since the first of them."""
        for index, image in enumerate(self):
            yield image, index / self.info.fps


def _by_number(path: Path) -> list[tuple[str, int]]:
    """Sort frame2 before frame10, whether or not they are padded with zeros."""
    return [(text, int(number or 0)) for text, number in re.findall(r"([^0-9]*)([0-9]*)", path.stem)]
