"""Pictures that a program has: an array of them, or whatever gives one after another."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sized
from itertools import chain

import numpy as np

from signet_runtime.errors import InputError
from signet_runtime.sources.clock import UNKNOWN_FRAME_RATE, sample
from signet_runtime.sources.video import VideoInfo


class FrameArrays:
    """Pictures as arrays, read once, one at a time.

    Args:
        frames: uint8 RGB (H, W, 3) each, all of one size: an array (T, H, W, 3), or anything that gives them.
        fps: frames a second; None takes 25, and notes it.
        frame_rate: give the frames nearest to the ticks of such a clock, where it is slower.

    Attributes:
        info: rate and size, and how many there will be, as far as that is known.
        notes: what was assumed.

    Raises:
        InputError: there are none, or one is no such picture, or of another size than the first.
    """

    def __init__(self, frames: np.ndarray | Iterable[np.ndarray], fps: float | None, frame_rate: float | None) -> None:
        self.notes: list[str] = []
        if fps is None:
            fps = UNKNOWN_FRAME_RATE
            self.notes.append(f"nothing says how many frames a second there are; {fps:g} are assumed, fps= says it")
        if not fps > 0:
            raise InputError(f"fps {fps}: frames a second are more than none")
        count = len(frames) if isinstance(frames, Sized) else None
        pictures = iter(frames)
        first = next(pictures, None)
        if first is None:
            raise InputError("the frames: there are none")
        self._size = self._checked(first, 0).shape
        self._own_rate, self._count = fps, 0
        self._frames: Iterator[tuple[np.ndarray, float]] = self._each(chain([first], pictures))
        if frame_rate is not None and frame_rate < fps:
            count = None if count is None else max(1, round(count / fps * frame_rate))
            self._frames, fps = sample(self._frames, frame_rate, lambda: self.end - 0.5 / self._own_rate), frame_rate
        self.info = VideoInfo(fps, (self._size[1], self._size[0]), count)

    @property
    def end(self) -> float:
        """When the last picture is no longer shown (s)."""
        return self._count / self._own_rate

    def timed(self) -> Iterator[tuple[np.ndarray, float]]:
        """Yield the pictures, each with its time: seconds since the first of them."""
        yield from self._frames

    def _each(self, pictures: Iterator[np.ndarray]) -> Iterator[tuple[np.ndarray, float]]:
        for index, picture in enumerate(pictures):
            checked = self._checked(picture, index)
            if checked.shape != self._size:
                raise InputError(f"frame {index}: has shape {checked.shape}, and the first one {self._size}")
            self._count = index + 1
            yield checked, index / self._own_rate

    @staticmethod
    def _checked(picture: np.ndarray, index: int) -> np.ndarray:
        array = np.array(picture)  # a copy: who gives them may write the next one in the same place
        if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3 or 0 in array.shape:
            raise InputError(f"frame {index}: {array.dtype} {array.shape}, and not uint8 RGB (height, width, 3)")
        return array
