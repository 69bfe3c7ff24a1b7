"""Encoder states -> text: how a bundle's decoders write, and which of two ways does it.

`fast` needs numpy and ONNX Runtime alone; `optimum` is the reference that it is compared with, needs PyTorch, and also
drives TensorRT engines. Both write the same tokens.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Protocol, get_args

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

    from signet_runtime.bundle import Bundle, Engine
    from signet_runtime.engines.encoder import Encoded
    from signet_runtime.generation.hypothesis import Hypothesis

DecoderBackend = Literal["fast", "optimum"]
DECODER_BACKENDS: tuple[DecoderBackend, ...] = get_args(DecoderBackend)


class TextDecoder(Protocol):
    """A bundle's decoders and its tokenizer."""

    @property
    def max_new_tokens(self) -> int:
        """The bundle's limit."""

    def generate(
        self, encoded: Encoded, num_beams: int | None = None, max_new_tokens: int | None = None
    ) -> list[list[int]]:
        """Return the token ids for each clip of the batch, without the start, end and padding tokens.

        Args:
            encoded: what the encoder engine gave; it is not changed.
            num_beams: 1 is greedy search; None takes the bundle's default.
            max_new_tokens: None takes the bundle's limit.
        """

    @property
    def reentrant(self) -> bool:
        """Whether several threads may search at once."""

    @property
    def gives_attention(self) -> bool:
        """Whether `search` can give what each token looked at."""

    def search(
        self, encoded: Encoded, num_beams: int | None = None, *, n_best: int = 1, attention: bool = False
    ) -> list[list[Hypothesis]]:
        """Return for each clip its likeliest texts, the best first, the tokens of which are those of `generate`.

        Args:
            n_best: how many, as many as there are beams at most.
            attention: give what each token looked at, see `gives_attention`.
        """

    def text(self, tokens: list[list[int]]) -> list[str]:
        """Spell the token ids of `generate`; ids that only pad mT5's vocabulary spell nothing."""

    def pieces(self, tokens: list[int]) -> list[str]:
        """Name the pieces that token ids stand for; one that begins a word begins with a space."""


def load_text_decoder(
    bundle: Bundle, engine: Engine, device: str, encoder: InferenceSession, way: DecoderBackend = "fast"
) -> TextDecoder:
    """Load the decoders of an ONNX engine on ``device``.

    Args:
        encoder: the engine's encoder; Optimum wants it, and never runs it.

    Raises:
        EngineError: what ``way`` needs is not installed, or the device is not available.
        BundleError: decoders, configuration or tokenizer cannot be read, or fast generation lacks what the bundle's
            search asks for.
    """
    from signet_runtime.engines.session import create_session

    # `fast` runs the first decoder once a clip, for one token: arranging its weights, in a copy, would not pay. Integer
    # products are slower by more than that without it, and have a quarter of the weights.
    prepack = way == "optimum" or engine.precision == "int8"
    decoder = create_session(bundle.file(engine.decoder), device, prepack=prepack)
    decoder_with_past = create_session(bundle.file(engine.decoder_with_past), device)
    if way == "fast":
        from signet_runtime.generation.fast import FastDecoder

        return FastDecoder.from_bundle(bundle, decoder, decoder_with_past)
    from signet_runtime.generation.optimum import OptimumDecoder

    return OptimumDecoder.onnx(bundle, encoder, decoder, decoder_with_past)
