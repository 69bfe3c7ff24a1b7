"""The encoder engine: regions in, mT5 encoder states and routing weights out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from signet_runtime.errors import BundleError
from signet_runtime.skeleton import REGIONS

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

INPUTS = (*REGIONS, "attention_mask")
OUTPUTS = ("encoder_hidden_states", "encoder_attention_mask", "routing_weights")


@dataclass(frozen=True)
class Encoded:
    """What the decoder attends to. P is the length of the prompt in the graph, T the longest clip's.

    Attributes:
        hidden_states: float32 (B, P+T, E).
        attention_mask: int64 (B, P+T).
        routing_weights: float32 (B, N), one weight an expert, 0 for those not chosen.
    """

    hidden_states: np.ndarray
    attention_mask: np.ndarray
    routing_weights: np.ndarray


def pad(clips: Sequence[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """The encoder's inputs: regions float32 (B, T, J, 3), zero after a clip's end, and attention_mask int64 (B, T)."""
    lengths = np.array([len(clip["body"]) for clip in clips])
    inputs: dict[str, np.ndarray] = {}
    for name, region in REGIONS.items():
        inputs[name] = np.zeros((len(clips), lengths.max(), len(region.joints), 3), np.float32)
        for row, clip in zip(inputs[name], clips, strict=True):
            row[: len(clip[name])] = clip[name]
    return {**inputs, "attention_mask": (np.arange(lengths.max()) < lengths[:, None]).astype(np.int64)}


class Encoder:
    """Backbones, adapters, router and mT5 encoder in one ONNX graph.

    Attributes:
        max_clips: most that one call takes; None: any number.

    Raises:
        BundleError: the graph does not have the inputs and outputs of an encoder engine.
    """

    max_clips: int | None = None

    def __init__(self, session: InferenceSession) -> None:
        self.session = session
        for kind, expected, found in (
            ("inputs", INPUTS, session.get_inputs()),
            ("outputs", OUTPUTS, session.get_outputs()),
        ):
            names = {value.name for value in found}
            if names != set(expected):
                raise BundleError(
                    f"the encoder engine has the {kind} {', '.join(sorted(names))}, not {', '.join(expected)}; "
                    "export the bundle again"
                )

    def __call__(self, clips: Sequence[dict[str, np.ndarray]]) -> Encoded:
        """Encode clips of possibly different lengths in one batch.

        Args:
            clips: for each clip the regions of `extract_regions`, float32 (T_i, J, 3).
        """
        return Encoded(*self.session.run(list(OUTPUTS), pad(clips)))
