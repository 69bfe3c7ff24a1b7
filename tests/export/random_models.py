"""Small models of which every weight is random, and batches for them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from signet_runtime.skeleton import REGIONS
from signet_train.config import ModelConfig
from signet_train.model.signet import Signet

_SIZES: dict[str, Any] = {
    "language_model": {
        "vocab_size": 64,
        "d_model": 32,
        "d_kv": 8,
        "d_ff": 32,
        "num_layers": 1,
        "num_heads": 4,
        "absolute_positions": True,
    },
}


def random_signet(
    experts: int, k: int, *, injection: bool = True, fused: bool = True, adapter_rank: int = 2, seed: int = 0
) -> Signet:
    """All that starts trivial (statistics, adjacency, adapters, offsets) is random."""
    torch.manual_seed(seed)
    backbone = {
        "input_channels": 8,
        "spatial_channels": [8, 16],
        "temporal_channels": [16, 16],
        "embedding": 32,
        "body_injection": injection,
    }
    settings = {"adapter_rank": adapter_rank, "query_hidden": 8, "router_hidden": 8, "top_k": k}
    fusion = settings if fused else None
    model = Signet(ModelConfig.model_validate({**_SIZES, "backbone": backbone, "fusion": fusion}), experts).eval()
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm1d):
                module.running_mean.normal_(std=0.3)  # type: ignore[union-attr, operator]
                module.running_var.uniform_(0.5, 2)  # type: ignore[union-attr, operator]
                module.weight.uniform_(0.5, 1.5)
                module.bias.normal_(std=0.2)
        for name, parameter in model.named_parameters():
            if name.endswith(("up", "part_offset", "norm.bias")):
                parameter.normal_(std=0.3)
            if name.endswith("adjacency"):
                parameter.add_(torch.randn_like(parameter) * 0.2)
    return model


def random_batch(lengths: list[int], seed: int) -> tuple[dict[str, Tensor], Tensor]:
    g = torch.Generator().manual_seed(seed)
    mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    shape = (len(lengths), max(lengths))
    regions = {n: torch.rand(*shape, len(r.joints), 3, generator=g) * 2 - 1 for n, r in REGIONS.items()}
    return {n: r.masked_fill(~mask[:, :, None, None], 7.0) for n, r in regions.items()}, mask
