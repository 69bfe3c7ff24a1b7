"""Samples of unequal length -> one padded batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from signet_runtime.pose.sequence import PoseSequence
from signet_runtime.regions import extract_regions, sample_frames

MAX_FRAMES = 256


class Batch(NamedTuple):
    """regions: (B, T, J, 3) each; mask: (B, T) bool; labels: (B, L) int64, -100 where padded."""

    regions: dict[str, Tensor]
    mask: Tensor
    labels: Tensor

    def to(self, device: torch.device) -> Batch:
        return Batch({k: v.to(device) for k, v in self.regions.items()}, self.mask.to(device), self.labels.to(device))


def pad_regions(sequences: Sequence[PoseSequence]) -> tuple[dict[str, Tensor], Tensor]:
    """Regions of every sequence, zero-padded to the longest, and the mask of real frames."""
    samples = [extract_regions(s.take(sample_frames(len(s), MAX_FRAMES))) for s in sequences]
    lengths = torch.tensor([len(sample["body"]) for sample in samples])
    mask = torch.arange(int(lengths.max())) < lengths[:, None]
    regions = {}
    for name, first in samples[0].items():
        padded = np.zeros((len(samples), mask.shape[1], *first.shape[1:]), np.float32)
        for row, sample in zip(padded, samples, strict=True):
            row[: len(sample[name])] = sample[name]
        regions[name] = torch.from_numpy(padded)
    return regions, mask


def collate(sequences: Sequence[PoseSequence], texts: Sequence[str], tokenizer: PreTrainedTokenizerBase) -> Batch:
    """Pose sequences and their sentences as one batch."""
    regions, mask = pad_regions(sequences)
    tokens = tokenizer(list(texts), padding=True, return_tensors="pt")
    return Batch(regions, mask, tokens.input_ids.masked_fill(tokens.attention_mask == 0, -100))
