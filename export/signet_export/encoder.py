"""The fused encoder -> encoder.onnx: experts, adapters, router with static top-k and the mT5 encoder in one graph.

Or in two, where the experts' features can be computed while frames come (see `split`).
"""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path

import onnx
import onnxruntime
import torch
from torch import Tensor, nn

from signet_export.fuse import FusedEncoder
from signet_export.split import FeatureReader, FrameFeatures
from signet_runtime.engines.encoder import FEATURES, INPUTS, OUTPUTS
from signet_runtime.files import whole_file
from signet_runtime.skeleton import REGIONS

OPSET = 18

_AXES = {FEATURES: {0: "batch", 1: "frames"}, "routing_weights": {0: "batch"}}
_AXES |= {name: {0: "batch", 1: "frames"} for name in INPUTS}
_AXES |= {name: {0: "batch", 1: "positions"} for name in OUTPUTS[:2]}


def export_encoder(encoder: FusedEncoder, path: Path) -> None:
    """Write the graph: opset 18, batch and time dynamic; k, N and the prompt are constants of it.

    The graph is checked, and what is constant in it is computed now and not at every start.
    """
    _export(encoder, _example(), INPUTS, OUTPUTS, path)


def export_split_encoder(encoder: FusedEncoder, features: Path, path: Path) -> None:
    """Write an encoder of dense routing as two graphs, ``features`` for the first, as `export_encoder` writes one."""
    regions, example = FrameFeatures(encoder), _example()
    with torch.no_grad():
        seen = regions.eval()(*example)
    _export(regions, example, INPUTS, (FEATURES,), features)
    _export(FeatureReader(encoder), [seen, example[-1]], (FEATURES, INPUTS[-1]), OUTPUTS, path)


def _example() -> list[Tensor]:
    batch, frames = 2, 16
    regions = [torch.randn(batch, frames, len(region.joints), 3) for region in REGIONS.values()]
    return [*regions, torch.ones(batch, frames, dtype=torch.int64)]


def _export(
    encoder: FusedEncoder | FrameFeatures | FeatureReader,
    example: list[Tensor],
    inputs: tuple[str, ...],
    outputs: tuple[str, ...],
    path: Path,
) -> None:
    encoder = encoder.eval()
    # Tracing looks at every property of mT5's modules, and some of them warn.
    logging.getLogger("transformers").setLevel(logging.ERROR)
    with warnings.catch_warnings(), torch.no_grad():
        # The TorchScript exporter is deprecated, not broken; it traces mT5's masks where the newer one does not.
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", torch.jit.TracerWarning)
        warnings.filterwarnings("ignore", "no signature found|Constant folding")  # of scripted parts; both harmless
        with _scripted(encoder):
            traced = torch.jit.trace(encoder, tuple(example), check_trace=False)
        torch.onnx.export(
            traced,
            tuple(example),
            str(path),
            input_names=list(inputs),
            output_names=list(outputs),
            dynamic_axes={name: _AXES[name] for name in (*inputs, *outputs)},
            opset_version=OPSET,
            dynamo=False,
        )
    _fold_constants(path)
    onnx.checker.check_model(str(path), full_check=True)


@contextlib.contextmanager
def _scripted(encoder: nn.Module) -> Iterator[None]:
    """Keep its conditions as such, of which tracing would keep one side."""
    if not isinstance(encoder, FusedEncoder) or not encoder.skips:
        yield
        return
    remainders = encoder.remainders
    try:
        encoder.remainders = nn.ModuleList(torch.jit.script(remainder) for remainder in remainders)
        yield
    finally:
        encoder.remainders = remainders


def _fold_constants(path: Path) -> None:
    """Apply ONNX Runtime's basic optimisations once: what is left is plain ONNX, which any engine reads."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.log_severity_level = 3
    with whole_file(path) as folded:
        options.optimized_model_filepath = str(folded)
        onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
