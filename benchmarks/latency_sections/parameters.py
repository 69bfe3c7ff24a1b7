"""What the methods of the paper's Table 5 consist of: its figures, and the modules' own counts beside them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from benchmarks.measuring.report import Report
from benchmarks.peers.models import WIDTH, build_peers
from benchmarks.peers.signet import AuthorsPeer
from signet_train.config import BackboneConfig, FusionConfig, LanguageModelConfig, ModelConfig
from signet_train.model.signet import Signet, build_language_model

EXPERTS = 3


@dataclass(frozen=True)
class Published:
    """A row of Table 5: "total / trainable" as printed there, and ms on an RTX 3090."""

    method: str
    video_encoder: str
    language_model: str
    full_model: str
    latency: int | None


TABLE_5 = (
    Published("Sign2GPT", "34.9M / 12.8M", "1736.7M / 3.8M", "1771.6M / 16.7M", None),
    Published("C²RL", "11.7M / 11.7M", "680M / 680M", "691.7M / 691.7M", None),
    Published("Uni-Sign", "9.7M / 9.7M", "582.4M / 582.4M", "592.1M / 592.1M", 416),
    Published("Geo-Sign", "6.7M / 6.7M", "582.4M / 582.4M", "589.1M / 589.1M", 2550),
    Published("SIGNET", "17.4M / 1.5M", "582.4M / 582.4M", "599.8M / 583.9M", 320),
)


def paper_size(small: bool = False) -> ModelConfig:
    """Three experts, mT5-base; ``small``: a model of seconds, as wide as the peers hard-wire."""
    if not small:
        return ModelConfig(fusion=FusionConfig())
    backbone = BackboneConfig(input_channels=8, spatial_channels=(8, 16), temporal_channels=(16, 16))
    language_model = LanguageModelConfig(vocab_size=512, d_model=WIDTH, d_ff=64, num_layers=1, num_heads=2)
    return ModelConfig(backbone=backbone, fusion=FusionConfig(), language_model=language_model)


def count(module: nn.Module | None) -> int:
    """Parameters."""
    return sum(p.numel() for p in module.parameters()) if module is not None else 0


def parameters(report: Report, checkouts: dict[str, Path]) -> None:
    """Count the parameters of the real modules, of SIGNET and of the peers given, beside the paper's."""
    table = report.table(
        "parameters",
        "Parameters, total / trainable",
        "method",
        "source",
        "video encoder",
        "language model",
        "full model",
    )
    with torch.device("meta"):  # nothing is allocated
        model = Signet(paper_size(), EXPERTS)
    experts, fusion, language_model = count(model.experts), count(model.fusion), count(model.language_model)
    published = {row.method: row for row in TABLE_5}

    def add(method: str, source: str, encoder: int, trained: int) -> None:
        pairs = ((encoder, trained), (language_model, language_model))
        full = tuple(map(sum, zip(*pairs, strict=True)))
        table.rows.append([method, source, *(f"{total:,} / {trainable:,}" for total, trainable in (*pairs, full))])

    def add_published(method: str) -> None:
        row = published[method]
        table.rows.append([method, "the paper", row.video_encoder, row.language_model, row.full_model])

    for method in ("Sign2GPT", "C²RL"):
        add_published(method)
    small = build_language_model(paper_size(small=True).language_model)  # the peers' encoders do not depend on its size
    with build_peers(checkouts, small, table.notes) as peers:
        for method in ("Uni-Sign", "Geo-Sign"):
            add_published(method)
            for peer in peers:
                if peer.name.startswith(method):
                    encoder = peer.encoder_parameters()
                    add(peer.name, "counted in its public code", encoder, encoder)
    add_published("SIGNET")
    add("SIGNET", "counted here", experts + fusion, fusion)
    for peer in peers:
        if isinstance(peer, AuthorsPeer):
            trained = sum(p.numel() for n, p in peer.model.gate.named_parameters() if not n.startswith("mt5_model."))
            add(peer.name, "counted in its public code", peer.encoder_parameters(), trained)
    table.notes += [
        f"One backbone has {count(model.experts[0]):,} parameters, which the paper rounds to 5.3M before it adds "
        "three; the router's hidden width (1728) is fitted to the table's 1.5M, the paper does not state it.",
    ]
