"""The parity check that every export must pass: the bundle's engines against the PyTorch model."""

from __future__ import annotations

import numpy as np
import torch
from pydantic import BaseModel

from signet_runtime.bundle import Bundle
from signet_runtime.engines.onnx import Encoded, Encoder
from signet_runtime.engines.session import create_session
from signet_runtime.errors import BundleError
from signet_runtime.generation import TextDecoder
from signet_runtime.skeleton import REGIONS
from signet_train.data.collate import pad_regions
from signet_train.model.signet import Signet

FILE = "verification.json"
# Of encoder states relative to their size (RMS), and of routing weights. In fp32 no state may be further off than that
# either, and every token must be the same.
TOLERANCES = {"fp32": (1e-4, 1e-4), "fp16": (1e-2, 5e-3), "int8": (0.1, 5e-2)}
_LENGTHS = (40, 1, 7, 25, 64, 12)  # frames; most are no multiple of the filters' tiles
_TOKENS = 32  # that are compared: a model that has not been trained never ends by itself


class Verification(BaseModel):
    """How far a bundle's engine is from the PyTorch model, as `verification.json` tells.

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


def random_clips(lengths: list[int], rng: np.random.Generator) -> list[dict[str, np.ndarray]]:
    """Smooth random motion in the shape of regions, one clip per length: float32 (T, J, 3), in range."""
    clips = []
    for length in lengths:
        clip = {}
        for name, region in REGIONS.items():
            walk = rng.normal(0, 0.05, (length, len(region.joints), 3)).cumsum(axis=0)
            walk += rng.uniform(-0.8, 0.8, (1, len(region.joints), 3))
            walk[..., 2] = rng.uniform(0.3, 1, walk.shape[:2])
            clip[name] = np.clip(walk, -1, 1).astype(np.float32)
        clips.append(clip)
    return clips


def verify(
    bundle: Bundle,
    model: Signet,
    clips: list[dict[str, np.ndarray]] | None = None,
    beams: tuple[int, ...] = (1, 4),
) -> Verification:
    """Compare encoder states, routing and generated tokens with the PyTorch model's.

    Args:
        clips: regions per clip; by default ragged random motion.

    Raises:
        BundleError: states or routing differ by more than the precision's tolerance, the masks differ, or in fp32 any
            state or token.
    """
    engine = bundle.engine("onnx")
    encoder_session = create_session(bundle.file(engine.encoder), "cpu")
    encoder = Encoder(encoder_session)
    decoder = TextDecoder.onnx(
        bundle,
        encoder_session,
        create_session(bundle.file(engine.decoder), "cpu"),
        create_session(bundle.file(engine.decoder_with_past), "cpu"),
    )
    clips = clips or random_clips(list(_LENGTHS), np.random.default_rng(0))
    model = model.eval()
    batches = [_compare(bundle, encoder, model, batch) for batch in (clips, clips[:1], clips[-1:])]
    states, wanted = np.concatenate([d for d, _, _ in batches]), np.concatenate([w for _, w, _ in batches])
    largest, routing = float(states.max()), max(r for _, _, r in batches)
    relative = float(np.sqrt((states**2).mean() / (wanted**2).mean()))
    allowed = TOLERANCES[engine.precision]
    exact = engine.precision == "fp32"
    if not (relative <= allowed[0] and routing <= allowed[1] and (largest <= allowed[0] or not exact)):
        raise BundleError(
            f"{bundle.path}: the encoder differs from the model by {largest:.1e} (RMS {relative:.1%}, routing "
            f"{routing:.1e}), allowed is {allowed[0]:.0e} (routing {allowed[1]:.0e}) in {engine.precision}"
        )
    same = {n: _same_tokens(decoder, encoder(clips), model, clips, n) for n in beams}
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


@torch.no_grad()
def _compare(
    bundle: Bundle, encoder: Encoder, model: Signet, clips: list[dict[str, np.ndarray]]
) -> tuple[np.ndarray, np.ndarray, float]:
    """Absolute differences of states where there is something to attend to, those states, and routing's largest."""
    encoded = encoder(clips)
    padded, mask = pad_regions(clips)
    expected = model(padded, mask)
    real = expected.mask.numpy()
    if not np.array_equal(encoded.attention_mask, real):
        raise BundleError(f"{bundle.path}: the encoder masks other positions than the model does")
    wanted = expected.hidden_states.numpy()[real]
    routing = float(np.abs(encoded.routing_weights - expected.routing_weights.numpy()).max())
    return np.abs(encoded.hidden_states[real] - wanted).ravel(), wanted.ravel(), routing


def _same_tokens(
    decoder: TextDecoder, encoded: Encoded, model: Signet, clips: list[dict[str, np.ndarray]], beams: int
) -> float:
    limit = min(decoder.max_new_tokens, _TOKENS)
    padded, mask = pad_regions(clips)
    tokens = model.generate(model.features(padded, mask), mask, beams, limit)
    special = {model.language_model.config.pad_token_id, model.language_model.config.eos_token_id}
    wanted = [[t for t in row if t not in special] for row in tokens.tolist()]
    found = decoder.generate(encoded, beams, limit)
    return float(np.mean([a == b for a, b in zip(found, wanted, strict=True)]))
