"""What MediaPipe does against trembling: a low-pass filter and the one-euro filter, for many values at once."""

from __future__ import annotations

import math

import numpy as np


class LowPass:
    """Exponential smoothing: ``alpha`` of the new value and the rest of the last result (low_pass_filter.cc)."""

    def __init__(self) -> None:
        self._last: np.ndarray | None = None

    def __call__(self, values: np.ndarray, alpha: np.ndarray | float) -> np.ndarray:
        """Return the smoothed values; the first ones as they are."""
        self._last = values if self._last is None else self._last + alpha * (values - self._last)
        return self._last

    def reset(self) -> None:
        """Forget what was seen."""
        self._last = None


class OneEuro:
    """The one-euro filter: a low-pass filter that lets through what moves fast (one_euro_filter.cc).

    Casiez et al., "1 € Filter", CHI 2012, equations 1-6, with the speed measured in sizes of the object.

    Args:
        rate: values a second.
        min_cutoff: cut-off frequency at rest, Hz.
        beta: by how many Hz it rises per unit of speed.
    """

    _SPEED_CUTOFF = 1.0  # Hz

    def __init__(self, rate: float, min_cutoff: float, beta: float) -> None:
        self._rate, self._min_cutoff, self._beta = rate, min_cutoff, beta
        self._raw: np.ndarray | None = None
        self._speed, self._value = LowPass(), LowPass()

    def __call__(self, values: np.ndarray, size: float) -> np.ndarray:
        """Return the smoothed values.

        Args:
            size: the object's, in the unit of the values.
        """
        change = np.zeros_like(values) if self._raw is None else values - self._raw
        self._raw = values
        speed = self._speed(change * self._rate / size, self._alpha(self._SPEED_CUTOFF))
        return self._value(values, self._alpha(self._min_cutoff + self._beta * np.abs(speed)))

    def reset(self) -> None:
        """Forget what was seen."""
        self._raw = None
        self._speed.reset()
        self._value.reset()

    def _alpha(self, cutoff: np.ndarray | float) -> np.ndarray | float:
        return 1 / (1 + self._rate / (2 * math.pi * cutoff))
