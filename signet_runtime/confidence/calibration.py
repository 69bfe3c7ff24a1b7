"""From the evidence to a number in [0, 1]: the logistic model that a bundle may have.

`signet-export --calibrate-confidence` fits it on samples that were not trained on, and on motion that says nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from signet_runtime.boundary import read_json, reading
from signet_runtime.bundle import Bundle
from signet_runtime.confidence.evidence import EVIDENCE, MOTION_SIZE, gather
from signet_runtime.errors import BundleError
from signet_runtime.generation.hypothesis import Hypothesis
from signet_runtime.regions import Regions

FILE = "confidence.json"


# Within float32, in which some of it is computed.
_Number = Annotated[float, Field(ge=-1e30, le=1e30)]


class Calibration(BaseModel):
    """A logistic regression on standardised evidence; the contents of `confidence.json`.

    Attributes:
        evidence: what it weighs, `EVIDENCE` of the version that fitted it.
        means, scales, weights: of each of it: (value - mean) / scale * weight is summed.
        bias: added to the sum.
        motion_mean, whitening: see `evidence.gather`; a row of the matrix after another.
        samples: how many texts it was fitted on, and how many clips that say nothing.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    evidence: tuple[str, ...] = EVIDENCE
    means: tuple[_Number, ...]
    scales: tuple[Annotated[_Number, Field(gt=0)], ...]
    weights: tuple[_Number, ...]
    bias: _Number
    motion_mean: tuple[_Number, ...] = Field(min_length=MOTION_SIZE, max_length=MOTION_SIZE)
    whitening: tuple[_Number, ...] = Field(min_length=MOTION_SIZE**2, max_length=MOTION_SIZE**2)
    samples: tuple[int, int]

    @model_validator(mode="after")
    def _is_of_this_version(self) -> Calibration:
        if self.evidence != EVIDENCE:
            raise ValueError(f"weighs {', '.join(self.evidence)}, this version {', '.join(EVIDENCE)}")
        if {len(self.means), len(self.scales), len(self.weights)} != {len(EVIDENCE)}:
            raise ValueError("has not one mean, scale and weight for each of its evidence")
        return self


class Reliability:
    """A bundle's calibration, ready to judge texts."""

    def __init__(self, calibration: Calibration) -> None:
        scales = np.array(calibration.scales)
        self._weights = np.array(calibration.weights) / scales
        self._bias = calibration.bias - float(np.array(calibration.means) @ self._weights)
        self._motion_mean = np.array(calibration.motion_mean, np.float32)
        self._whitening = np.array(calibration.whitening, np.float32).reshape(MOTION_SIZE, MOTION_SIZE)

    def __call__(self, text: Hypothesis, routing: Sequence[float], regions: Regions) -> float:
        """Return how much of a text is expected to be right, in [0, 1]; see `evidence.gather` for what is given."""
        evidence = gather(text, routing, regions, self._motion_mean, self._whitening)
        return 1 / (1 + math.exp(min(500.0, -float(evidence @ self._weights) - self._bias)))


def read_calibration(bundle: Bundle) -> Reliability | None:
    """Return what judges a bundle's texts; None where it was exported without a calibration.

    Raises:
        BundleError: the file cannot be read, or is of another version.
    """
    if FILE not in bundle.manifest.files:
        return None
    return Reliability(load_calibration(bundle.file(FILE)))


def load_calibration(path: Path) -> Calibration:
    """Read a `confidence.json`.

    Raises:
        BundleError: it cannot be read, or is of another version.
    """
    content = read_json(path, "settings_bytes", BundleError, advice="copy or export the bundle again")
    with reading(path, BundleError, "a calibration", "calibrate and export the bundle again"):
        return Calibration.model_validate(content)


def write_calibration(directory: Path, calibration: Calibration) -> None:
    """Write the file into a bundle that is being made."""
    (directory / FILE).write_text(calibration.model_dump_json() + "\n", encoding="utf-8")
