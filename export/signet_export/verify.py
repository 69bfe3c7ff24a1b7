"""The parity check that every export must pass: the bundle's engines against the PyTorch model."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from signet_export.verification import Verification
from signet_runtime.bundle import Bundle
from signet_runtime.engines.encoder import Encoded, Encoder
from signet_runtime.engines.incremental import incremental
from signet_runtime.engines.onnx import OnnxEncoder, load_encoder
from signet_runtime.engines.random_clips import random_clips
from signet_runtime.engines.session import create_session
from signet_runtime.errors import BundleError
from signet_runtime.generation.fast import FastDecoder
from signet_runtime.generation.optimum import OptimumDecoder
from signet_train.data.batches.collate import pad_regions
from signet_train.model.signet import Features, Signet

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

logger = logging.getLogger("signet_export")

# Of encoder states relative to their size (RMS), and of routing weights. In fp32 no state may be further off than that
# either, and every token must be the same.
TOLERANCES = {"fp32": (1e-4, 1e-4), "fp16": (1e-2, 5e-3), "int8": (0.1, 5e-2)}
_LENGTHS = (40, 1, 7, 25, 64, 12)  # frames; most are no multiple of the filters' tiles
_STEP = 9  # frames at a time, for engines that read along
_TOKENS = 32  # that are compared: a model that has not been trained never ends by itself


def verify(
    bundle: Bundle,
    model: Signet,
    clips: list[dict[str, np.ndarray]] | None = None,
    beams: tuple[int, ...] = (1, 4),
) -> Verification:
    """Compare encoder states, routing and the tokens that either way of generating writes with the PyTorch model's.

    Where features can be computed as frames come, the states of the longest clip read so are compared too.

    Args:
        clips: regions per clip; by default ragged random motion.

    Raises:
        BundleError: states or routing differ by more than the precision's tolerance, the masks differ, or in fp32 any
            state or token.
    """
    engine = bundle.engine("onnx")
    encoder = load_encoder(bundle, engine, "cpu")
    sessions = (create_session(bundle.file(name), "cpu") for name in (engine.decoder, engine.decoder_with_past))
    decoders = _decoders(bundle, encoder, *sessions)
    clips = clips or random_clips(list(_LENGTHS), np.random.default_rng(0))
    model = model.eval()
    together, first, last = (_compare(bundle, encoder, model, c) for c in (clips, clips[:1], clips[-1:]))
    compared = [together, first, last]
    along = incremental(encoder)
    if along is not None:
        longest = max(clips, key=lambda clip: len(clip["body"]))
        for stop in range(_STEP, len(longest["body"]), _STEP):
            along.update({name: region[:stop] for name, region in longest.items()})
        compared.append(_compare(bundle, along, model, [longest]))
    states, wanted = (np.concatenate(parts) for parts in zip(*((c.off, c.wanted) for c in compared), strict=True))
    largest, routing = float(states.max()), max(c.routing for c in compared)
    relative = float(np.sqrt((states**2).mean() / (wanted**2).mean()))
    allowed = TOLERANCES[engine.precision]
    exact = engine.precision == "fp32"
    if not (relative <= allowed[0] and routing <= allowed[1] and (largest <= allowed[0] or not exact)):
        raise BundleError(
            f"{bundle.path}: the encoder differs from the model by {largest:.1e} (RMS {relative:.1%}, routing "
            f"{routing:.1e}), allowed is {allowed[0]:.0e} (routing {allowed[1]:.0e}) in {engine.precision}"
        )
    same = {n: _same_tokens(decoders, model, together, n) for n in beams}
    if exact and min(same.values()) < 1:
        worst = min(same, key=lambda n: same[n])
        raise BundleError(f"{bundle.path}: the decoder writes other tokens than the model with {worst} beams")
    return Verification(
        precision=engine.precision,
        frames=tuple(len(clip["body"]) for clip in clips),
        largest=largest,
        mean=float(states.mean()),
        relative=relative,
        routing=routing,
        same_tokens=same,
        allowed=allowed,
    )


class _Compared(NamedTuple):
    """One batch through both; ``off``: absolute differences of the states that are attended to, ``wanted``: these."""

    encoded: Encoded
    features: Features
    mask: Tensor
    off: np.ndarray
    wanted: np.ndarray
    routing: float


@torch.no_grad()
def _compare(bundle: Bundle, encoder: Encoder, model: Signet, clips: list[dict[str, np.ndarray]]) -> _Compared:
    encoded = encoder(clips)
    padded, mask = pad_regions(clips)
    features = model.features(padded, mask)
    expected = model.encode(features, mask)
    real = expected.mask.numpy()
    if not np.array_equal(encoded.attention_mask, real):
        raise BundleError(f"{bundle.path}: the encoder masks other positions than the model does")
    wanted = expected.hidden_states.numpy()[real]
    routing = float(np.abs(encoded.routing_weights - expected.routing_weights.numpy()).max())
    off = np.abs(encoded.hidden_states[real] - wanted)
    return _Compared(encoded, features, mask, off.ravel(), wanted.ravel(), routing)


def _decoders(
    bundle: Bundle, encoder: OnnxEncoder, decoder: InferenceSession, decoder_with_past: InferenceSession
) -> list[FastDecoder | OptimumDecoder]:
    """Open every way of generating that the bundle has."""
    optimum = OptimumDecoder.onnx(bundle, encoder.session, decoder, decoder_with_past)
    try:
        return [optimum, FastDecoder.from_bundle(bundle, decoder, decoder_with_past)]
    except BundleError as error:
        logger.warning("it needs --generation optimum: %s", error)
        return [optimum]


def _same_tokens(decoders: list[FastDecoder | OptimumDecoder], model: Signet, batch: _Compared, beams: int) -> float:
    """Return the share of clips with the model's tokens, by the decoder that has fewer of them."""
    limit = min(decoders[0].max_new_tokens, _TOKENS)
    tokens = model.generate(batch.features, batch.mask, beams, limit)
    special = {model.language_model.config.pad_token_id, model.language_model.config.eos_token_id}
    wanted = [[t for t in row if t not in special] for row in tokens.tolist()]
    written = (decoder.generate(batch.encoded, beams, limit) for decoder in decoders)
    return min(float(np.mean([a == b for a, b in zip(found, wanted, strict=True)])) for found in written)
