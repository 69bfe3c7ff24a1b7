"""The fused encoder -> encoder.onnx: experts, adapters, router with static top-k and the mT5 encoder in one graph."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path

import onnx
import onnxruntime
import torch
from torch import nn

from signet_export.fuse import FusedEncoder
from signet_runtime.skeleton import REGIONS

OPSET = 18
INPUTS = (*REGIONS, "attention_mask")
OUTPUTS = ("encoder_hidden_states", "encoder_attention_mask", "routing_weights")


def export_encoder(encoder: FusedEncoder, path: Path) -> None:
    """Write the graph: opset 18, batch and time dynamic; k, N and the prompt are constants of it.

    The graph is checked, and what is constant in it is computed now and not at every start.
    """
    batch, frames = 2, 16
    example = [torch.randn(batch, frames, len(region.joints), 3) for region in REGIONS.values()]
    mask = torch.ones(batch, frames, dtype=torch.int64)
    dynamic = {name: {0: "batch", 1: "frames"} for name in INPUTS}
    dynamic |= {name: {0: "batch", 1: "positions"} for name in OUTPUTS[:2]}
    encoder = encoder.eval()
    remainders = encoder.remainders
    # Tracing looks at every property of mT5's modules, and some of them warn.
    logging.getLogger("transformers").setLevel(logging.ERROR)
    with warnings.catch_warnings(), torch.no_grad():
        # The TorchScript exporter is deprecated, not broken; it traces mT5's masks where the newer one does not.
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", torch.jit.TracerWarning)
        warnings.filterwarnings("ignore", "no signature found|Constant folding")  # of scripted parts; both harmless
        try:
            if encoder.skips:  # tracing would keep one side of the condition
                encoder.remainders = nn.ModuleList(torch.jit.script(remainder) for remainder in remainders)
            traced = torch.jit.trace(encoder, (*example, mask), check_trace=False)
        finally:
            encoder.remainders = remainders
        torch.onnx.export(
            traced,
            (*example, mask),
            str(path),
            input_names=list(INPUTS),
            output_names=list(OUTPUTS),
            dynamic_axes={**dynamic, "routing_weights": {0: "batch"}},
            opset_version=OPSET,
            dynamo=False,
        )
    _fold_constants(path)
    onnx.checker.check_model(str(path), full_check=True)


def _fold_constants(path: Path) -> None:
    """ONNX Runtime's basic optimisations, done once: what is left is plain ONNX, which any engine reads."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.log_severity_level = 3
    folded = path.with_name(f"{path.name}.folded")
    options.optimized_model_filepath = str(folded)
    onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    folded.replace(path)
