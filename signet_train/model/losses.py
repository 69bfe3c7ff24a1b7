"""The two losses: label-smoothed cross-entropy (Eq. 3, 10) and symmetric InfoNCE (Eq. 9)."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.nn.functional import all_gather
from torch.nn import functional as F


def token_loss(logits: Tensor, labels: Tensor, label_smoothing: float) -> Tensor:
    """Sum -log P(y_t | y_<t, Z), smoothed, over real tokens; logits (B, L, V), labels (B, L), -100 where padded."""
    return F.cross_entropy(
        logits.flatten(0, 1).float(), labels.flatten(), label_smoothing=label_smoothing, reduction="sum"
    )


def gather(embeddings: Tensor) -> Tensor:
    """Concatenate (B, H) of all processes, with gradients to all of them; itself where there is one process."""
    if not (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
        return embeddings
    return torch.cat(all_gather(embeddings.contiguous()))


def info_nce(visual: Tensor, text: Tensor, log_temperature: Tensor) -> Tensor:
    """Return Eq. 9, the mean over B pairs, both directions; visual and text (B, H) are L2-normalised here.

    The temperature is learned as its logarithm, clamped to [0.01, 1]: below, one pair would decide everything.
    """
    temperature = log_temperature.exp().clamp(0.01, 1.0)
    logits = F.normalize(visual.float(), dim=-1) @ F.normalize(text.float(), dim=-1).t() / temperature
    pairs = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits, pairs) + F.cross_entropy(logits.t(), pairs)) / 2
