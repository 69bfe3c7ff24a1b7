"""Checkpoint -> encoder.onnx: experts, adapters, router with static top-k and the mT5 encoder in one graph."""

from __future__ import annotations

import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

from signet_runtime.skeleton import REGIONS
from signet_train.model.signet import Signet

OPSET = 18
INPUTS = (*REGIONS, "attention_mask")
OUTPUTS = ("encoder_hidden_states", "encoder_attention_mask", "routing_weights")


class EncoderEngine(nn.Module):
    """`Signet.forward` with the engine's signature (positional inputs, mask in and out as int64)."""

    def __init__(self, model: Signet):
        super().__init__()
        self.model = model

    def forward(
        self, body: Tensor, left_hand: Tensor, right_hand: Tensor, face: Tensor, attention_mask: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        regions = dict(zip(REGIONS, (body, left_hand, right_hand, face), strict=True))
        states, mask, weights = self.model(regions, attention_mask.bool())
        return states, mask.long(), weights


def export_encoder(model: Signet, path: Path) -> None:
    """Write the graph (opset 18, batch and time dynamic, k and N constants); the model must be in eval mode."""
    batch, frames = 2, 16
    example = [torch.randn(batch, frames, len(region.joints), 3) for region in REGIONS.values()]
    mask = torch.ones(batch, frames, dtype=torch.int64)
    dynamic = {name: {0: "batch", 1: "frames"} for name in (*INPUTS, *OUTPUTS[:2])}
    with warnings.catch_warnings():
        # The TorchScript exporter is deprecated, not broken; it traces mT5's masks where the newer one does not.
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", torch.jit.TracerWarning)
        torch.onnx.export(
            EncoderEngine(model).eval(),
            (*example, mask),
            str(path),
            input_names=list(INPUTS),
            output_names=list(OUTPUTS),
            dynamic_axes={**dynamic, "routing_weights": {0: "batch"}},
            opset_version=OPSET,
            dynamo=False,
        )
