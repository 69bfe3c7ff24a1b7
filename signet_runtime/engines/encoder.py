"""What every encoder engine takes and gives, whatever runs it: regions in, mT5 encoder states and routing weights out.

The names are those of the graphs' inputs and outputs, which `signet_export` writes and the engines here look for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from signet_runtime.regions import Regions
from signet_runtime.skeleton import REGIONS

INPUTS = (*REGIONS, "attention_mask")
FEATURES = "features"  # between the two graphs of an encoder that can read along
OUTPUTS = ("encoder_hidden_states", "encoder_attention_mask", "routing_weights")


class Encoded(Protocol):
    """What the decoder attends to: numpy arrays, or tensors where the engine computes; nobody changes them.

    P is the length of the prompt in the graph, T the longest clip's.
    """

    @property
    def hidden_states(self) -> Any:
        """(B, P+T, E)."""

    @property
    def attention_mask(self) -> Any:
        """int64 (B, P+T)."""

    @property
    def routing_weights(self) -> Any:
        """float32 (B, N), one weight an expert, 0 for those not chosen."""


@dataclass(frozen=True)
class HostEncoded:
    """`Encoded` as arrays: float32 (B, P+T, E), int64 (B, P+T) and float32 (B, N)."""

    hidden_states: np.ndarray
    attention_mask: np.ndarray
    routing_weights: np.ndarray


class Encoder(Protocol):
    """Backbones, adapters, router and mT5 encoder."""

    @property
    def max_clips(self) -> int | None:
        """Most that one call takes; None: any number."""

    @property
    def can_stream(self) -> bool:
        """Whether it is a `StreamingEncoder`."""

    def __call__(self, clips: Sequence[Regions]) -> Encoded:
        """Encode clips of possibly different lengths in one batch.

        Args:
            clips: for each clip the regions of `signet_runtime.regions.prepare`, float32 (T_i, J, 3).

        Raises:
            InputError: clips that the engine was not built for.
        """


class StreamingEncoder(Encoder, Protocol):
    """An encoder whose experts can be run before a clip has ended."""

    @property
    def reach(self) -> int:
        """How many frames before and after it a frame's features depend on."""

    def features(self, clip: Regions) -> np.ndarray:
        """Return what the experts see in one clip: float32 (T, F)."""

    def read(self, features: np.ndarray, attention_mask: np.ndarray) -> Encoded:
        """Encode features float32 (B, T, F) of clips, with their mask int64 (B, T)."""


def pad(clips: Sequence[Regions]) -> dict[str, np.ndarray]:
    """Return the encoder's inputs by `INPUTS`.

    Returns:
        Regions float32 (B, T, J, 3), zero after a clip's end, and attention_mask int64 (B, T).
    """
    lengths = np.array([len(clip["body"]) for clip in clips])
    inputs: dict[str, np.ndarray] = {}
    for name, region in REGIONS.items():
        inputs[name] = np.zeros((len(clips), lengths.max(), len(region.joints), 3), np.float32)
        for row, clip in zip(inputs[name], clips, strict=True):
            row[: len(clip[name])] = clip[name]
    return {**inputs, "attention_mask": (np.arange(lengths.max()) < lengths[:, None]).astype(np.int64)}
