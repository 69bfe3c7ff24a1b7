"""Low-rank residual refinement of a frozen expert's embeddings (Sec. 3.4, Eq. 12)."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Adapter(nn.Module):
    """Z~ = Z + Dropout(B(A(LayerNorm(Z)))), A ~ N(0, 1e-4) and B = 0: it starts as the identity.

    1e-4 is the variance, as N's second argument is; the standard deviation is 0.01.

    Args:
        start: "redrawn" draws both matrices with a deviation of 0.02, and the start is no identity: where the authors'
            code arrives (docs/official.md).
    """

    def __init__(self, embedding: int, rank: int, dropout: float, start: str = "identity") -> None:
        super().__init__()
        self.norm = nn.LayerNorm(embedding)
        self.down = nn.Parameter(torch.randn(embedding, rank) * 0.01)
        self.up = nn.Parameter(torch.zeros(rank, embedding))
        if start == "redrawn":
            nn.init.trunc_normal_(self.down, std=0.02)
            nn.init.trunc_normal_(self.up, std=0.02)
        self.dropout = nn.Dropout(dropout)

    def forward(self, z: Tensor) -> Tensor:
        """Refine (..., E) -> (..., E)."""
        return z + self.dropout(self.norm(z) @ self.down @ self.up)
