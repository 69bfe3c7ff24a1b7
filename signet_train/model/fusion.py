"""Between frozen experts and mT5: adapters, aggregation, router (Fig. 3), and what these are compared with."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from signet_train.config import FusionConfig, ModelConfig
from signet_train.model.adapter import Adapter
from signet_train.model.aggregation import Aggregation, hand_prior
from signet_train.model.backbone import BackboneOutput
from signet_train.model.pooling import masked_mean
from signet_train.model.router import Router, fuse

# What the router's priors have beside the hands (`FusionConfig.router_reads`).
_BESIDE_HANDS: dict[str, tuple[str, ...]] = {"hands": (), "hands+body": ("body",), "hands+body+face": ("body", "face")}


class Features(NamedTuple):
    """embeddings Z: (B, N, T, E); priors H: (B, N, D), the hands' mean over time (Eq. 4)."""

    embeddings: Tensor
    priors: Tensor


def router_prior(features: BackboneOutput, mask: Tensor, router_reads: str) -> Tensor:
    """Return what the router knows of a clip by one expert: the hand prior (Eq. 4), or more of the body too (Table 7).

    Features (B, T, C) a region, mask (B, T) -> (B, R C): the means over real frames of R regions, side by side.
    """
    hands = hand_prior(features.left_hand, features.right_hand, mask)
    others = [masked_mean(getattr(features, region), mask) for region in _BESIDE_HANDS[router_reads]]
    return torch.cat([hands, *others], dim=-1)


class Fusion(nn.Module):
    """Adapters, hand-prior aggregation and router: what is trained between frozen experts and mT5 (Fig. 3)."""

    def __init__(self, config: ModelConfig, num_experts: int) -> None:
        super().__init__()
        fusion = config.fusion or FusionConfig()
        prior = (2 + len(_BESIDE_HANDS[fusion.router_reads])) * config.backbone.temporal_channels[-1]  # D = C_rh + C_lh
        self.adapters = _adapters(config.backbone.embedding, fusion, num_experts)
        self.aggregation = Aggregation(prior, fusion.query_hidden, fusion.attention_dropout)
        self.router = Router(prior, fusion.router_hidden, num_experts, fusion.gumbel_temperature, fusion.top_k)

    def forward(self, features: Features) -> tuple[Tensor, Tensor]:
        """Return Z_fused (B, T, E) and routing weights (B, N)."""
        weights = self.router(self.aggregation(features.priors))
        experts = zip(self.adapters, features.embeddings.unbind(dim=1), strict=True)
        return fuse(weights, torch.stack([adapter(z) for adapter, z in experts], dim=1)), weights


class Unrouted(nn.Module):
    """All experts in every clip: averaged, or concatenated and projected back to one's width (Tables 8 and 10).

    The projection begins as the average, so that both start from the same function.
    """

    def __init__(self, config: ModelConfig, num_experts: int) -> None:
        super().__init__()
        fusion, embedding = config.fusion or FusionConfig(), config.backbone.embedding
        self.adapters = _adapters(embedding, fusion, num_experts)
        self.projection: nn.Linear | None = None
        if fusion.gating == "concatenate":
            self.projection = nn.Linear(num_experts * embedding, embedding)
            with torch.no_grad():
                self.projection.weight.copy_(torch.eye(embedding).repeat(1, num_experts) / num_experts)
                self.projection.bias.zero_()

    def forward(self, features: Features) -> tuple[Tensor, Tensor]:
        """Return Z_fused (B, T, E), and the weight that every expert has, (B, N)."""
        adapted = [adapter(z) for adapter, z in zip(self.adapters, features.embeddings.unbind(dim=1), strict=True)]
        weights = torch.full_like(features.priors[:, :, 0], 1 / len(adapted))
        if self.projection is None:
            return torch.stack(adapted).mean(dim=0), weights
        return self.projection(torch.cat(adapted, dim=-1)), weights


def _adapters(embedding: int, fusion: FusionConfig, num_experts: int) -> nn.ModuleList:
    if not fusion.adapter_rank:
        return nn.ModuleList(nn.Identity() for _ in range(num_experts))
    return nn.ModuleList(
        Adapter(embedding, fusion.adapter_rank, fusion.adapter_dropout, fusion.adapter_start)
        for _ in range(num_experts)
    )
