"""The parity check that every export must pass: the bundle's engines against the PyTorch model."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from signet_runtime.bundle import Bundle
from signet_runtime.engines.onnx import Encoder
from signet_runtime.engines.session import create_session
from signet_runtime.errors import BundleError
from signet_runtime.generation import TextDecoder
from signet_runtime.skeleton import REGIONS
from signet_train.data.collate import pad_regions
from signet_train.model.signet import Signet

TOLERANCE = 1e-4  # absolute, on encoder states and routing weights


@dataclass(frozen=True)
class Parity:
    """encoder_error: largest absolute difference of encoder states; clips: how many were compared."""

    encoder_error: float
    clips: int


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
) -> Parity:
    """Compare encoder states, routing and generated tokens, each clip padded in one batch with the others.

    Args:
        clips: regions per clip; by default ragged random motion.

    Raises:
        BundleError: states differ by more than 1e-4, or any token differs.
    """
    engine = bundle.manifest.engines[0]
    encoder_session = create_session(bundle.file(engine.encoder), "cpu")
    encoder = Encoder(encoder_session)
    decoder = TextDecoder(
        bundle,
        encoder_session,
        create_session(bundle.file(engine.decoder), "cpu"),
        create_session(bundle.file(engine.decoder_with_past), "cpu"),
    )
    clips = clips or random_clips([40, 1, 7, 25, 64, 12], np.random.default_rng(0))
    encoded = encoder(clips)

    padded, mask = pad_regions(clips)
    model = model.eval()
    with torch.no_grad():
        expected = model(padded, mask)
    real = expected.mask.numpy()
    if not np.array_equal(encoded.attention_mask, real):
        raise BundleError(f"{bundle.path}: the exported encoder masks other positions than the model does")
    error = float(np.abs(encoded.hidden_states - expected.hidden_states.numpy())[real].max())
    routing = float(np.abs(encoded.routing_weights - expected.routing_weights.numpy()).max())
    if not max(error, routing) <= TOLERANCE:
        raise BundleError(
            f"{bundle.path}: the exported encoder differs from the model by {error:.1e} (routing {routing:.1e}), "
            f"allowed is {TOLERANCE:.0e}; nothing was written"
        )
    limit = bundle.manifest.generation.max_new_tokens
    for num_beams in beams:
        tokens = model.generate(model.features(padded, mask), mask, num_beams, limit)
        special = {model.language_model.config.pad_token_id, model.language_model.config.eos_token_id}
        wanted = [[t for t in row if t not in special] for row in tokens.tolist()]
        if decoder.generate(encoded, num_beams) != wanted:
            raise BundleError(
                f"{bundle.path}: the exported decoder writes other tokens than the model with {num_beams} beams; "
                "nothing was written"
            )
    return Parity(error, len(clips))
