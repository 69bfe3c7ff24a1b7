"""Whether a bundle's TensorRT engines compute what its ONNX graphs compute, asked where they are first loaded.

Engines may be built where there is no GPU, for one that is elsewhere: until they run there nobody has seen them run.
"""

from __future__ import annotations

import hashlib
import json
import logging
from typing import Any

import numpy as np

from signet_runtime.bundle import Bundle, Engine, ShapeRange
from signet_runtime.engines.encoder import Encoder
from signet_runtime.engines.onnx import load_encoder
from signet_runtime.engines.random_clips import random_clips
from signet_runtime.engines.session import create_session
from signet_runtime.engines.tensorrt import TensorRTEngine, device, library_name, on_stream, this_gpu
from signet_runtime.errors import EngineError
from signet_runtime.regions import Regions
from signet_runtime.remembered import remember_verified, was_verified

logger = logging.getLogger("signet_runtime")

# Of the difference's root mean square to the reference's. fp32: another order of summation. Lower: what the format's
# rounding makes of a model's depth; an engine that is wrong is off by about 1.
LIMITS = {"fp32": 1e-4, "fp16": 1e-2, "bf16": 5e-2, "int8": 0.2}
_STEPS, _FRAMES = 4, 64


def check_once(
    bundle: Bundle, engine: Engine, encoder: Encoder, decoder: TensorRTEngine, decoder_with_past: TensorRTEngine
) -> None:
    """Run `check`, unless it found these files right before: by this user, on such a GPU, with this library.

    Raises:
        EngineError: a difference is beyond the limit of the engine's precision.
    """
    assert engine.build is not None
    files = (engine.encoder, engine.decoder, engine.decoder_with_past)
    hashes = [bundle.manifest.files[name].sha256 for name in files]
    identity = json.dumps(["parity", hashes, engine.kind, engine.build.version, this_gpu()])
    stamp = hashlib.sha256(identity.encode()).hexdigest()
    if not was_verified(stamp):
        logger.warning("%s: first use of its %s engines here, comparing with ONNX", bundle.path, engine.kind)
        check(bundle, engine, encoder, decoder, decoder_with_past)
        remember_verified(stamp)


def check(
    bundle: Bundle, engine: Engine, encoder: Encoder, decoder: TensorRTEngine, decoder_with_past: TensorRTEngine
) -> float:
    """Compare encoder states and the logits of some steps with ONNX Runtime's on the CPU, for two random clips.

    The reference is the bundle's ONNX engine of the same precision, or its first where there is none.

    Returns:
        The largest difference, its root mean square relative to the reference's.

    Raises:
        EngineError: a difference is beyond the limit of the engine's precision.
    """
    assert engine.build is not None
    portable = [e for e in bundle.manifest.engines if e.kind == "onnx"]
    reference = next((e for e in portable if e.precision == engine.precision), portable[0])
    reference_encoder = load_encoder(bundle, reference, "cpu")
    worst = 0.0
    for clip in _clips(engine.build.shapes):
        expected, found = reference_encoder([clip]), encoder([clip])
        pairs = [
            ("encoder states", expected.hidden_states, found.hidden_states),
            ("encoder mask", expected.attention_mask, found.attention_mask),
            ("routing weights", expected.routing_weights, found.routing_weights),
        ]
        for what, wanted, tensor in pairs:
            worst = max(worst, _difference(what, wanted, _to_host(tensor), engine, bundle))
    # Both decoders read the reference's states, so that an error of the encoder is not counted again.
    first = create_session(bundle.file(reference.decoder), "cpu")
    later = create_session(bundle.file(reference.decoder_with_past), "cpu")
    beams = engine.build.shapes.beams
    feed = {
        "input_ids": np.zeros((beams, 1), np.int64),
        "encoder_attention_mask": np.repeat(expected.attention_mask, beams, axis=0),
        "encoder_hidden_states": np.repeat(expected.hidden_states, beams, axis=0),
    }
    past: dict[str, np.ndarray] = {}
    past_found: dict[str, np.ndarray] = {}
    for step in range(min(_STEPS, engine.build.shapes.tokens)):
        session, part = (later, decoder_with_past) if step else (first, decoder)
        names = [value.name for value in session.get_inputs()]
        wanted_outputs = dict(
            zip(
                [value.name for value in session.get_outputs()],
                session.run(None, {name: past[name] if name in past else feed[name] for name in names}),
                strict=True,
            )
        )
        outputs = _run(part, {name: past_found[name] if name in past_found else feed[name] for name in names})
        wanted = wanted_outputs["logits"]
        worst = max(worst, _difference(f"logits of step {step + 1}", wanted, outputs["logits"], engine, bundle))
        past |= _as_past(wanted_outputs)
        past_found |= _as_past(outputs)
        feed["input_ids"] = wanted[:, -1:].argmax(axis=2)
    return worst


def _difference(what: str, wanted: np.ndarray, found: np.ndarray, engine: Engine, bundle: Bundle) -> float:
    limit = LIMITS[engine.precision]
    if wanted.shape != found.shape:
        difference = float("inf")
    else:
        wanted, found = wanted.astype(np.float64), found.astype(np.float64)
        difference = float(np.sqrt(np.square(found - wanted).mean() / max(np.square(wanted).mean(), 1e-30)))
    if not difference <= limit:
        raise EngineError(
            f"{bundle.path}: its {library_name(engine.kind)} engines are refused: {what} differ from ONNX by "
            f"{difference:.1e}, allowed for {engine.precision} is {limit:.0e}; export the bundle again, or use the "
            "onnx engine"
        )
    return difference


def _run(engine: TensorRTEngine, feed: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    import torch

    with on_stream():
        found = engine({name: torch.from_numpy(value).to(device()) for name, value in feed.items()})
    return {name: _to_host(tensor) for name, tensor in found.items()}


def _to_host(tensor: Any) -> np.ndarray:
    with on_stream():
        return tensor.float().cpu().numpy()


def _as_past(outputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name.replace("present", "past_key_values"): value for name, value in outputs.items() if name != "logits"}


def _clips(shapes: ShapeRange) -> list[Regions]:
    """Draw one clip as short as the engine takes and one of a usual length."""
    fewest, likely, most = shapes.frames
    lengths = [fewest, min(max(fewest, min(likely, _FRAMES)), most)]
    return random_clips(lengths, np.random.default_rng(0))
