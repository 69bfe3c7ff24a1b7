"""An estimator that costs nothing and can fail in every way, in a module that worker processes can import."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable, Iterator

import numpy as np

from signet_runtime.errors import EngineError

# What a first frame of this brightness does to the process, or the estimator, that looks at it.
HANGS, KILLS, CRASHES, RAISES, RAISES_ENGINE_ERROR, SEES_NOBODY = 0, 40, 80, 120, 160, 200


class FakeEstimator:
    """Puts all joints where the frame's brightness says; ``seconds`` a clip."""

    name = "mediapipe"

    def __init__(self, seconds: float = 0.0) -> None:
        self._seconds = seconds
        self._broken = False

    def estimate(self, frames: Iterable[np.ndarray], *, live: bool = False) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        time.sleep(self._seconds)
        for frame in frames:
            brightness = round(float(frame.mean()) / 40) * 40
            self._broken = self._broken or brightness == RAISES
            if self._broken:
                raise RuntimeError("the graph has errors\nand more to say")
            if brightness == HANGS:
                time.sleep(3600)
            if brightness == RAISES_ENGINE_ERROR:
                raise EngineError("the device is gone")
            if brightness in (KILLS, CRASHES):
                os.kill(os.getpid(), signal.SIGKILL if brightness == KILLS else signal.SIGSEGV)
            confidence = 0 if brightness == SEES_NOBODY else 1
            yield np.full((133, 2), frame.mean() / 255, np.float32), np.full(133, confidence, np.float32)

    def close(self) -> None:
        pass


class WeighedEstimator(FakeEstimator):
    """One whose weights some machines have not."""

    def __init__(self) -> None:
        if "NO_WEIGHTS" in os.environ:
            raise EngineError("no weights for this estimator on this machine")
        super().__init__()


def no_estimator() -> FakeEstimator:
    raise EngineError("no weights for this estimator")


def dying_estimator() -> FakeEstimator:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("still alive")
