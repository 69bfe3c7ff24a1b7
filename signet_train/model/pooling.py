"""The mean over what is real of a padded batch."""

from __future__ import annotations

from torch import Tensor


def masked_mean(states: Tensor, mask: Tensor) -> Tensor:
    """Return the mean over real positions: (B, T, C) and mask (B, T), True where real -> (B, C); 0 where none is."""
    weight = mask.to(states.dtype)[..., None]
    return (states * weight).sum(dim=1) / weight.sum(dim=1).clamp(min=1)
