"""Attention over the experts' hand priors (Sec. 3.5, Eq. 4, Algorithm 1)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from signet_train.model.pooling import masked_mean


def hand_prior(left_hand: Tensor, right_hand: Tensor, mask: Tensor) -> Tensor:
    """Return Eq. 4's [Mean_T(F_rh); Mean_T(F_lh)] over real frames; two (B, T, C) and mask (B, T) -> (B, 2C)."""
    return torch.cat([masked_mean(right_hand, mask), masked_mean(left_hand, mask)], dim=-1)


class Aggregation(nn.Module):
    """Algorithm 1: one descriptor of the input from N experts' views of the hands.


    Args:
        dropout: of the attention's weights in training, which the paper does not mention and the authors' code has.
    """

    def __init__(self, width: int, hidden: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.dropout = dropout
        self.query = nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, width))  # Eq. 14
        self.norm = nn.LayerNorm(width)

    def forward(self, priors: Tensor) -> Tensor:
        """Aggregate H (B, N, D) -> H_global (B, D)."""
        query = self.query(priors.mean(dim=1))
        logits = torch.einsum("bd,bnd->bn", query, priors) / priors.shape[-1] ** 0.5
        attention = F.dropout(logits.softmax(dim=-1), self.dropout, self.training)
        return self.norm(torch.einsum("bn,bnd->bd", attention, priors))
