"""Which experts an input is sent to, and how much each counts (Sec. 3.6, Eq. 5-8)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def top_k_weights(logits: Tensor, k: int) -> Tensor:
    """Return Eq. 8: softmax over the k largest logits, zero elsewhere; (B, N) -> (B, N)."""
    values, chosen = logits.topk(k, dim=-1)
    return torch.zeros_like(logits).scatter(-1, chosen, values.softmax(dim=-1))


class Router(nn.Module):
    """A two-layer MLP. Training samples soft weights (Eq. 6), inference takes the top k (Eq. 8).

    k matters at inference only: one training serves every k.
    """

    def __init__(self, width: int, hidden: int, num_experts: int, temperature: float, top_k: int) -> None:
        super().__init__()
        if not 1 <= top_k <= num_experts:
            raise ValueError(f"top_k must lie between 1 and the number of experts ({num_experts}), got {top_k}")
        self.mlp = nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, num_experts))
        self.temperature = temperature
        self.top_k = top_k

    def forward(self, descriptor: Tensor) -> Tensor:
        """Route H_global (B, D) -> routing weights (B, N) that sum to 1."""
        logits = self.mlp(descriptor)  # Eq. 5
        if self.training:
            return F.gumbel_softmax(logits, tau=self.temperature)  # Eq. 6
        return top_k_weights(logits, self.top_k)


def fuse(weights: Tensor, adapted: Tensor) -> Tensor:
    """Compute Eq. 7: weights (B, N), adapted embeddings (B, N, T, E) -> (B, T, E)."""
    return torch.einsum("bn,bnte->bte", weights, adapted)
