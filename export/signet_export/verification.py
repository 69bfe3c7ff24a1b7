"""What `verification.json` in a bundle tells; apart from the check itself, so that to read it takes no PyTorch."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel

from signet_runtime.boundary import read_json, reading
from signet_runtime.errors import BundleError

FILE = "verification.json"


class Verification(BaseModel):
    """How far a bundle's engine is from the PyTorch model.

    Attributes:
        frames: of the clips that were compared, padded in one batch, and the first and last alone.
        largest, mean: absolute differences of encoder states; relative: their RMS over the states'.
        routing: largest difference of routing weights.
        same_tokens: by number of beams, the share of clips with the same tokens.
        allowed: what ``relative`` and ``routing`` may be.
    """

    precision: str
    frames: tuple[int, ...]
    largest: float
    mean: float
    relative: float
    routing: float
    same_tokens: dict[int, float]
    allowed: tuple[float, float]


def read_verification(path: Path) -> Verification:
    """Read a bundle's `verification.json`.

    Raises:
        BundleError: it cannot be read, or is none.
    """
    content = read_json(path, "settings_bytes", BundleError, advice="copy or export the bundle again")
    with reading(path, BundleError, "a verification", "copy or export the bundle again"):
        return Verification.model_validate(content)
