"""When frames are shown, and how many a second: by their own times.

What a container states as a rate may be an average, a guess, or the tick of its clock.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple, TypeVar

import numpy as np

T = TypeVar("T")

# For the rare file that does not say: a bare elementary stream, or a single frame.
UNKNOWN_FRAME_RATE = 25.0

# A statement above this is the tick of the container's clock (1000 in WebM, 90000 in MPEG), not a camera.
MOST_STATED = 250.0

_STANDARD = np.array([10, 12, 12.5, 15, 20, 24000 / 1001, 24, 25, 30000 / 1001, 30, 48, 50, 60000 / 1001, 60, 100, 120])

# How far a measured rate may be from a standard one that is meant, as a share.
_MEANT = 0.01

# Containers round the times of their frames to milliseconds: a frame this little before a boundary is on it (s).
INSTANT = 1e-3


# A clock that leaps further ahead than this was set (s): in MPEG streams, which are spliced, and elsewhere.
_LEAP_IN_STREAM, _LEAP = 10.0, 3600.0


class FileClock:
    """Seconds on a file's own clock, as a player shows them: 0 is where the first of its streams begins.

    Where the clock is set back or leaps ahead, as in streams that were spliced, time goes on from frame to frame.

    Args:
        origin: that beginning, in the frames' own times (s); None takes the first frame's.
        spliced: whether the format's clock may be set at any time (MPEG transport and program streams).
        period: seconds from a frame to the next one, as far as is known.
        stretch: by how much the frames' own times are too short.

    Attributes:
        was_set: how often that happened.
    """

    def __init__(self, origin: float | None, spliced: bool, period: float, stretch: float = 1.0) -> None:
        self._origin, self._period, self._stretch = origin, period, stretch
        self._leap = _LEAP_IN_STREAM if spliced else _LEAP
        self._last: float | None = None
        self.was_set = 0

    def seconds(self, time: float) -> float:
        """Return when the next frame is shown, whose own time is ``time``."""
        if self._origin is None:
            self._origin = time
        seconds = (time - self._origin) * self._stretch
        if self._last is not None:
            step = seconds - self._last
            if step < -INSTANT or step > self._leap:
                self._origin += (step - self._period) / self._stretch
                self.was_set += 1
                seconds = self._last + self._period
            elif step > INSTANT:
                self._period = step
        self._last = seconds
        return seconds


class Rate(NamedTuple):
    """fps: frames a second where frames come at their fastest. regular: whether they come so throughout."""

    fps: float
    regular: bool


def measure(times: np.ndarray, stated: float | None) -> Rate:
    """Return the rate of frames shown at ``times`` (s, ascending).

    The stated rate is taken where every frame is at most half a frame from where it says. Otherwise a regular sequence,
    whose frames are a frame at most from even spacing, has its mean rate; of any other it is the rate of its dense
    parts. Either is a standard one where it is within 1% of it.
    """
    if len(times) < 2 or times[-1] <= times[0]:
        return Rate(stated or UNKNOWN_FRAME_RATE, True)
    since = times - times[0]
    if stated is not None and _fits(since, stated, 0.5):
        return Rate(stated, True)
    mean = (len(times) - 1) / since[-1]
    standard = _standard(mean)
    for fps in (standard, mean):
        if _fits(since, fps, 1.0):
            return Rate(float(fps), True)
    gaps = np.diff(times)
    gaps = gaps[gaps > INSTANT] if (gaps > INSTANT).any() else np.array([1 / MOST_STATED])
    dense = gaps[gaps <= 2 * np.percentile(gaps, 10)]
    return Rate(float(_standard(1 / float(np.median(dense)))), False)


def _fits(since: np.ndarray, fps: float, frames: float) -> bool:
    return bool(np.abs(since - np.arange(len(since)) / fps).max() <= frames / fps + INSTANT)


def _standard(fps: float) -> float:
    nearest = _STANDARD[np.abs(_STANDARD - fps).argmin()]
    return float(nearest) if abs(nearest / fps - 1) <= _MEANT else fps


def hold(times: np.ndarray, rate: Rate, end: float) -> np.ndarray:
    """Return, for every tick of an even clock of this rate from the first of ``times`` to ``end``, the nearest frame.

    Indices, int64. A frame that is shown for longer is there as often; of a regular sequence every frame once.
    """
    if rate.regular:
        return np.arange(len(times))
    ticks = times[0] + np.arange(max(1, round((end - times[0]) * rate.fps))) / rate.fps
    after = np.minimum(np.searchsorted(times, ticks), len(times) - 1)
    before = np.maximum(after - 1, 0)
    return np.where(ticks - times[before] <= times[after] - ticks, before, after)


def sample(frames: Iterator[tuple[T, float]], rate: float, end: Callable[[], float]) -> Iterator[tuple[T, float]]:
    """Yield the frame nearest to every tick of a clock at ``rate``, from the first frame to before ``end``.

    Args:
        frames: each with its time (s), ascending.
        end: when the last one is no longer shown (s); asked for when it is there.
    """
    tick = 0
    previous = next(frames, None)
    if previous is None:
        return
    begin = previous[1]
    for frame in frames:
        while tick / rate <= frame[1] - begin:
            before, after = tick / rate - (previous[1] - begin), frame[1] - begin - tick / rate
            yield (previous if before <= after else frame)[0], begin + tick / rate
            tick += 1
        previous = frame
    until = max(end(), previous[1]) - begin
    while tick / rate < until - 1e-6:
        yield previous[0], begin + tick / rate
        tick += 1
