"""The table of pose estimators, and their one interface."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from signet_runtime.errors import EngineError

logger = logging.getLogger("signet_runtime")


@dataclass(frozen=True)
class EstimatorRow:
    """What the package knows of a pose estimator without importing it.

    Attributes:
        module: its module, imported when it is asked for. It has ``load(name, **options)``, which returns the
            `PoseEstimator` or raises `EngineError`, and ``describe_weights(name)``, which says in a line where the
            weights are that this estimator loads.
        package: the distribution that it runs on, as pip calls it.
        extra: of this package, that installs it.
        fallbacks: what "auto" takes where it cannot run, the first of these that can.
        options: those keywords of `load_estimator` that ``load`` takes, of "offline", "device", "weights",
            "detect_every" and "signer". What does not take "device" always runs on the CPU.
        cpus: how many CPUs one process of it fills.
        needs_opencv: whether its package imports cv2.
        weights_variable: the environment variable that may name the directory of its weights.
    """

    module: str
    package: str
    extra: str
    fallbacks: tuple[str, ...]
    options: frozenset[str] = frozenset()
    cpus: int = 1
    needs_opencv: bool = False
    weights_variable: str | None = None

    def load(self, name: str, **options: Any) -> PoseEstimator:
        """Load it, with those of the options that it takes.

        Raises:
            EngineError: it cannot run here.
        """
        taken = {option: value for option, value in options.items() if option in self.options}
        return import_module(self.module).load(name, **taken)

    def describe_weights(self, name: str) -> str:
        """Return where its weights are, in a line."""
        return import_module(self.module).describe_weights(name)

    def default_workers(self, cpus: int, device: str) -> int:
        """Return how many processes of it do the most at once, on so many CPUs or on a GPU."""
        if device != "cpu" and "device" in self.options:
            return 1
        return max(1, cpus // self.cpus)


_RTMPOSE = EstimatorRow(
    module="signet_runtime.pose.rtmpose.estimator",
    package="rtmlib",
    extra="rtmpose",
    fallbacks=("mediapipe",),
    options=frozenset({"offline", "device", "weights", "detect_every", "signer"}),
    cpus=4,
    needs_opencv=True,
    weights_variable="SIGNET_RTMPOSE",
)

# Every pose estimator, by its name, which becomes `PoseSequence.source`; the variants of one are FAMILY-VARIANT. To add
# one is to add a row here, and the module that it names.
ESTIMATORS: dict[str, EstimatorRow] = {
    "mediapipe": EstimatorRow(
        module="signet_runtime.pose.holistic.estimator",
        package="ai-edge-litert",
        extra="edge",
        fallbacks=("rtmpose-balanced",),
        options=frozenset({"offline", "signer"}),
        cpus=2,
        weights_variable="SIGNET_MEDIAPIPE_MODELS",
    ),
    "rtmpose-lightweight": _RTMPOSE,
    "rtmpose-balanced": _RTMPOSE,
    "rtmpose-performance": _RTMPOSE,
    "rtmpose-x": _RTMPOSE,
}

# What is taken where nothing is said, and in place of what this version does not know.
DEFAULT = "mediapipe"

# The families that can be asked for by their name alone, and the variant that it means unless the model was trained on
# another of the family.
FAMILIES = {"rtmpose": "rtmpose-balanced"}


class PoseEstimator(Protocol):
    """Finds the whole-body keypoints of one signer.

    Attributes:
        name: its key in `ESTIMATORS`; becomes `PoseSequence.source`.
    """

    name: str

    def estimate(self, frames: Iterable[np.ndarray], *, live: bool = False) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield keypoints frame by frame, in order.

        Args:
            frames: uint8 RGB (H, W, 3), all of one size: one recording. Whatever is tracked from frame to
                frame starts anew at every call.
            live: give a frame's keypoints before asking for the next frame, which is faster for a frame and slower
                for a recording. The keypoints are the same.

        Yields:
            keypoints float32 (133, 2) in fractions of the frame's width and height, and scores float32
            (133,) in [0, 1]; all 0 when the signer is not in the frame.
        """
        ...

    def close(self) -> None:
        """Free the models; the estimator is of no use afterwards."""
        ...


def load_estimator(
    choice: str,
    trained_on: str,
    *,
    offline: bool,
    device: str = "cpu",
    weights: Path | None = None,
    detect_every: int | None = 1,
    signer: str = "active",
) -> PoseEstimator:
    """Load the estimator that was asked for.

    Args:
        choice: one of `estimator_choices`. "auto" is the one that the model was trained on, and where that cannot
            run a fallback of its row, which is said on stderr. The name of a family is the variant that the model was
            trained on, or the one in `FAMILIES`.
        trained_on: the estimator that made the model's training data.
        offline: never touch the network (``SIGNET_OFFLINE=1`` does the same).
        device: where it runs, if its row takes a device.
        weights: directory of its weights, if its row takes one, instead of its environment variable and cache.
        detect_every: look for people in every so many frames, if its row takes that; None leaves it to the estimator.
        signer: whom to follow among several people, see `SignerTracker`, if its row takes that.

    Raises:
        EngineError: the choice, or with "auto" everything, cannot run here.
    """

    def load(name: str) -> PoseEstimator:
        if name not in ESTIMATORS:
            raise EngineError(f"no pose estimator is called '{name}': choose from {', '.join(estimator_choices())}")
        options = {"offline": offline, "device": device, "weights": weights, "detect_every": detect_every}
        return ESTIMATORS[name].load(name, signer=signer, **options)

    if choice == "auto":
        return _load_auto(trained_on, load)
    if choice in FAMILIES:
        choice = trained_on if trained_on.startswith(f"{choice}-") else FAMILIES[choice]
    return load(choice)


def _load_auto(trained_on: str, load: Callable[[str], PoseEstimator]) -> PoseEstimator:
    try:
        return load(trained_on)
    except EngineError as error:
        reason = error
    failed = [f"{trained_on}: {reason}"]
    for name in ESTIMATORS[trained_on].fallbacks if trained_on in ESTIMATORS else (DEFAULT,):
        try:
            estimator = load(name)
        except EngineError as error:
            failed.append(f"{name}: {error}")
            continue
        logger.warning(
            "the model was trained on %s keypoints, but %s cannot run here (%s); using %s instead, results may suffer",
            trained_on,
            trained_on,
            reason,
            name,
        )
        return estimator
    raise EngineError(f"no pose estimator can run: {'; '.join(failed)}") from reason


def estimator_choices() -> tuple[str, ...]:
    """Return what `load_estimator` can be asked for: "auto", and every estimator after the name of its family."""
    choices = ["auto"]
    for name in ESTIMATORS:
        family = name.partition("-")[0]
        choices += [family, name] if family in FAMILIES else [name]
    return tuple(dict.fromkeys(choices))


def takes_option(choice: str, option: str) -> bool:
    """Return whether anything that a choice may stand for takes an option (see `EstimatorRow.options`)."""
    return any(
        option in row.options for name, row in ESTIMATORS.items() if choice in ("auto", name, name.partition("-")[0])
    )
