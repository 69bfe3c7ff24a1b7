"""The portable engine: a bundle's ONNX graphs on ONNX Runtime, on a CPU or through CUDA."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from signet_runtime.bundle import Bundle, Engine
from signet_runtime.engines.encoder import FEATURES, INPUTS, OUTPUTS, HostEncoded, pad
from signet_runtime.engines.load import LoadedEngine
from signet_runtime.engines.session import create_session
from signet_runtime.errors import BundleError, EngineError, one_line
from signet_runtime.generation import DecoderBackend, load_text_decoder
from signet_runtime.regions import Regions

if TYPE_CHECKING:
    from onnxruntime import InferenceSession


_ADVICE = "export the bundle again"


class OnnxEncoder:
    """The encoder in one ONNX graph or in two; a `StreamingEncoder` where it is two.

    Args:
        session: of the whole encoder, or of what comes after the features.
        features: of the experts, where that is a graph of its own.
        reach: how many frames before and after it a frame's features depend on.

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

    def __call__(self, clips: Sequence[Regions]) -> HostEncoded:
        """Encode clips of possibly different lengths, float32 (T_i, J, 3) each, in one batch."""
        inputs = pad(clips)
        if self._features is None:
            return _encoded(_run(self.session, OUTPUTS, inputs), inputs["attention_mask"])
        return self.read(_run(self._features, (FEATURES,), inputs)[0], inputs["attention_mask"])

    def features(self, clip: Regions) -> np.ndarray:
        """Return what the experts see in one clip, where that is a graph of its own: float32 (T, F)."""
        assert self._features is not None
        found = _run(self._features, (FEATURES,), pad([clip]))[0]
        if found.ndim != 3 or found.shape[:2] != (1, len(clip["body"])):
            raise BundleError(f"the features engine gives {found.shape}, not (clips, frames, width); {_ADVICE}")
        return found[0]

    def read(self, features: np.ndarray, attention_mask: np.ndarray) -> HostEncoded:
        """Encode features float32 (B, T, F) of clips, with their mask int64 (B, T)."""
        given = {FEATURES: features, "attention_mask": attention_mask}
        return _encoded(_run(self.session, OUTPUTS, given), attention_mask)


def _run(session: InferenceSession, outputs: Sequence[str], given: dict[str, np.ndarray]) -> list[np.ndarray]:
    try:
        found: list[np.ndarray] = session.run(list(outputs), given)
    except Exception as error:  # ONNX Runtime's exceptions share no base class
        raise EngineError(f"the encoder failed ({one_line(error)[:300]}); run signet-doctor") from error
    return found


def _encoded(found: Sequence[np.ndarray], mask: np.ndarray) -> HostEncoded:
    """See that a graph of anybody's gives what an encoder gives, for so many clips of so many frames."""
    states, states_mask, routing = found
    clips, frames = mask.shape
    if (
        states.ndim != 3
        or len(states) != clips
        or states.shape[1] < frames
        or states_mask.shape != states.shape[:2]
        or routing.ndim != 2
        or len(routing) != clips
        or states.dtype.kind != "f"
        or states_mask.dtype.kind not in "iu"
        or routing.dtype.kind != "f"
    ):
        shapes = ", ".join(str(array.shape) for array in found)
        raise BundleError(f"the encoder engine gives {shapes}, not states, their mask and routing; {_ADVICE}")
    if not (np.isfinite(states[states_mask != 0]).all() and np.isfinite(routing).all()):
        raise BundleError(f"the encoder engine gives numbers that are NaN or infinite; {_ADVICE}")
    return HostEncoded(states, states_mask, routing)


def load(bundle: Bundle, engine: Engine, device: str, generation: DecoderBackend | None) -> LoadedEngine:
    """Load a bundle's ONNX engine on ``device``, for `load_engine`.

    Args:
        generation: None is "fast" on a CPU. On a GPU the two have not been compared, so there it is the reference.

    Raises:
        BundleError: a graph is damaged, or not of an encoder or its decoders.
        EngineError: ONNX Runtime cannot run on the device, or what ``generation`` needs is not installed.
    """
    encoder = load_encoder(bundle, engine, device)
    backend = generation or ("fast" if device == "cpu" else "optimum")
    return LoadedEngine(encoder, load_text_decoder(bundle, engine, device, encoder.session, backend))


def load_encoder(bundle: Bundle, engine: Engine, device: str) -> OnnxEncoder:
    """Load the encoder of a bundle's ONNX engine on ``device`` ("cpu" or "cuda").

    Raises:
        BundleError: a graph is damaged, or not of an encoder.
        EngineError: ONNX Runtime cannot run on the device.
    """
    session = create_session(bundle.file(engine.encoder), device)
    if engine.features is None:
        return OnnxEncoder(session)
    return OnnxEncoder(session, create_session(bundle.file(engine.features), device), engine.reach or 0)


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
