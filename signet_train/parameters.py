"""How large SIGNET is, exactly, next to the paper's Table 5."""

from __future__ import annotations

import torch
from torch import nn

from signet_train.config import FusionConfig, ModelConfig
from signet_train.model.signet import Signet

# Table 5, in millions: total and trainable.
_TABLE_5 = {"video encoder": (17.4, 1.5), "language model": (582.4, 582.4), "full model": (599.8, 583.9)}


def _count(module: nn.Module | None) -> int:
    return sum(p.numel() for p in module.parameters()) if module is not None else 0


def parameter_table() -> str:
    """Count the parameters of the paper-size model with three experts; nothing is allocated."""
    with torch.device("meta"):
        model = Signet(ModelConfig(fusion=FusionConfig()), num_experts=3)
    experts, fusion, language_model = _count(model.experts), _count(model.routed), _count(model.language_model)
    ours = {
        "video encoder": (experts + fusion, fusion),
        "language model": (language_model, language_model),
        "full model": (experts + fusion + language_model, fusion + language_model),
    }
    assert model.routed is not None
    lines = [f"{'':16}{'total':>13}{'trainable':>13}   Table 5 (total / trainable)"]
    for part, (total, trainable) in ours.items():
        paper_total, paper_trainable = _TABLE_5[part]
        lines.append(f"{part:16}{total:13,}{trainable:13,}   {paper_total}M / {paper_trainable}M")
    lines += [
        "",
        f"one backbone {_count(model.experts[0]):,} (Table 12: 5.3M); three are {experts:,}",
        f"fusion: adapters {_count(model.routed.adapters):,}, "
        f"aggregation {_count(model.routed.aggregation):,}, router {_count(model.routed.router):,}",
        "The router's hidden width (1728) is fitted to the table's 1.5M: the paper does not state it.",
    ]
    return "\n".join(lines)
