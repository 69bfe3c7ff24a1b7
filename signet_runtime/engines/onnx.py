"""The encoder engine: regions in, mT5 encoder states and routing weights out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from signet_runtime.bundle import Bundle, Engine
from signet_runtime.engines.session import create_session
from signet_runtime.errors import BundleError
from signet_runtime.skeleton import REGIONS

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

INPUTS = (*REGIONS, "attention_mask")
FEATURES = "features"
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
    """Backbones, adapters, router and mT5 encoder, in one ONNX graph or in two.

    Args:
        session: of the whole encoder, or of what comes after the features.
        features: of the experts, where that is a graph of its own.
        reach: how many frames before and after it a frame's features depend on.

    Attributes:
        max_clips: most that one call takes; None: any number.

    Raises:
        BundleError: a graph does not have the inputs and outputs of an encoder engine.
    """

    max_clips: int | None = None

    def __init__(self, session: InferenceSession, features: InferenceSession | None = None, reach: int = 0) -> None:
        self.session, self._features, self.reach = session, features, reach
        if features is None:
            _check("the encoder engine", session, INPUTS, OUTPUTS)
        else:
            _check("the features engine", features, INPUTS, (FEATURES,))
            _check("the encoder engine", session, (FEATURES, INPUTS[-1]), OUTPUTS)

    @property
    def can_stream(self) -> bool:
        """Whether `features` can be computed before a clip has ended."""
        return self._features is not None

    def __call__(self, clips: Sequence[dict[str, np.ndarray]]) -> Encoded:
        """Encode clips of possibly different lengths in one batch.

        Args:
            clips: for each clip the regions of `extract_regions`, float32 (T_i, J, 3).
        """
        inputs = pad(clips)
        if self._features is None:
            return Encoded(*self.session.run(list(OUTPUTS), inputs))
        return self.read(self._features.run([FEATURES], inputs)[0], inputs["attention_mask"])

    def features(self, clip: dict[str, np.ndarray]) -> np.ndarray:
        """What the experts see in one clip, where that is a graph of its own: float32 (T, F)."""
        assert self._features is not None
        return self._features.run([FEATURES], pad([clip]))[0][0]

    def read(self, features: np.ndarray, attention_mask: np.ndarray) -> Encoded:
        """Encode features (B, T, F) of clips, int64 mask (B, T)."""
        return Encoded(*self.session.run(list(OUTPUTS), {FEATURES: features, "attention_mask": attention_mask}))


def load_encoder(bundle: Bundle, engine: Engine, device: str) -> Encoder:
    """The encoder of a bundle's ONNX engine on ``device`` ("cpu" or "cuda").

    Raises:
        BundleError: a graph is damaged, or not of an encoder.
        EngineError: ONNX Runtime cannot run on the device.
    """
    session = create_session(bundle.file(engine.encoder), device)
    if engine.features is None:
        return Encoder(session)
    return Encoder(session, create_session(bundle.file(engine.features), device), engine.reach or 0)


def _check(what: str, session: InferenceSession, inputs: Sequence[str], outputs: Sequence[str]) -> None:
    for kind, expected, found in (
        ("inputs", inputs, session.get_inputs()),
        ("outputs", outputs, session.get_outputs()),
    ):
        names = {value.name for value in found}
        if names != set(expected):
            raise BundleError(
                f"{what} has the {kind} {', '.join(sorted(names))}, not {', '.join(expected)}; export the bundle again"
            )
