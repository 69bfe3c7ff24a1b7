"""What keypoints know of how they were made, and what a run's data have in common."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import langcodes
import numpy as np

from signet_runtime.errors import InputError
from signet_runtime.pose.estimators import FAMILIES
from signet_train.data.located import LocatedRows
from signet_train.data.poses import load_poses, split_location

# What is taken where keypoints name their family alone: published archives do, and this is what their code runs.
VARIANTS = {"rtmpose": "rtmpose-lightweight"}

_SURVEYED = 200  # rows whose keypoints are asked before a run begins; every other one is asked when it is loaded
_SAME_RATE = 0.02  # 24.97 and 25 frames a second are one clock


@dataclass(frozen=True, slots=True)
class Provenance:
    """Who found keypoints, and how many frames a second they have."""

    estimator: str
    fps: float


def estimator_of(source: str) -> str:
    """Return the estimator by `PoseSequence.source`; letter clips of spoken-to-signed are MediaPipe's."""
    return "mediapipe" if source.startswith("spoken-to-signed/") else source


def same_estimator(one: str, other: str) -> bool:
    """Whether two names may be one estimator: what knows only its family may be any variant of it."""
    families = {name.partition("-")[0] for name in (one, other)}
    return one == other or (len(families) == 1 and families <= set(FAMILIES) and bool({one, other} & families))


def same_rate(one: float, other: float) -> bool:
    """Whether two rates are one clock, within what containers round."""
    return abs(one - other) <= _SAME_RATE * max(one, other)


def provenance(location: str, root: Path) -> Provenance:
    """Read who made a sample's keypoints, without the keypoints where they can be left alone.

    Raises:
        InputError: as `load_poses`.
    """
    path, clip = split_location(location)
    if clip is None and "://" not in location and path.lower().endswith(".npz"):
        try:
            with np.load(root / path, allow_pickle=False) as arrays:
                if "source" in arrays:
                    return Provenance(estimator_of(str(arrays["source"])), float(arrays["fps"]))
        except Exception:  # whatever is wrong, loading says it better
            pass
    sequence = load_poses(location, root)
    return Provenance(estimator_of(sequence.source), sequence.fps)


@dataclass(frozen=True, slots=True)
class Survey:
    """What was found in data.

    Attributes:
        estimators: of the keypoints, the most frequent first, each with the id of a row.
        rates: the lowest and the highest frame rate.
        languages: of the texts, BCP 47.
    """

    estimators: dict[str, str]
    rates: tuple[float, float]
    languages: tuple[str, ...]

    @property
    def rate(self) -> float | None:
        """The rate that all recordings have, None where they have several."""
        low, high = self.rates
        return high if same_rate(low, high) else None

    @property
    def language(self) -> str:
        """The texts' language, ``mul`` for several."""
        return self.languages[0] if len(self.languages) == 1 else "mul"


def survey(rows: LocatedRows) -> Survey:
    """Ask the keypoints of up to 200 rows, evenly over all of them, and every row's language.

    Raises:
        InputError: keypoints cannot be read; the message names the row.
    """
    found: dict[str, str] = {}
    counted: Counter[str] = Counter()
    low, high = math.inf, 0.0
    for i in np.unique(np.linspace(0, len(rows) - 1, min(_SURVEYED, len(rows))).astype(int)):
        located = rows[int(i)]
        row, root = located.row, located.root
        try:
            made = provenance(row.poses, root)
        except InputError as error:
            raise InputError(f"row {row.id!r}: {error}") from error
        found.setdefault(made.estimator, row.id)
        counted[made.estimator] += 1
        low, high = min(low, made.fps), max(high, made.fps)
    estimators = {name: found[name] for name, _ in counted.most_common()}
    return Survey(estimators, (low, high), languages_of(rows))


def languages_of(rows: LocatedRows) -> tuple[str, ...]:
    """Return the languages of rows' texts, sorted."""
    return tuple(sorted(language for language in rows.distinct("language") if language))


def same_language(one: str, other: str) -> bool:
    """Whether two BCP 47 tags are of one language, whatever their regions and scripts."""
    try:
        return langcodes.Language.get(one).language == langcodes.Language.get(other).language
    except ValueError:
        return one == other
