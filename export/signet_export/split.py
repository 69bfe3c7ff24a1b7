"""The fused encoder as two graphs: what experts see in frames, which can be computed as these come, and all after it.

The features of a frame depend on no frame further than `reach` away: of every temporal convolution, the taps before and
after the middle one. What reads a whole clip (the hands' mean over time and with it the routing, the mT5 encoder) is in
the second graph. Routing comes last, so every expert is computed whole.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from signet_export.fuse import FusedEncoder, in_tiles
from signet_train.config import BackboneConfig


def reach(config: BackboneConfig) -> int:
    """Return how many frames before and after it a frame's features depend on."""
    return len(config.temporal_channels) * (config.temporal_kernel // 2)


class FrameFeatures(nn.Module):
    """The first graph, of an encoder whose routing is ``dense``; it has the encoder's weights, not copies."""

    def __init__(self, encoder: FusedEncoder) -> None:
        super().__init__()
        assert not encoder.skips
        self.hands, self.remainders = encoder.hands, encoder.remainders

    def forward(
        self, body: Tensor, left_hand: Tensor, right_hand: Tensor, face: Tensor, attention_mask: Tensor
    ) -> Tensor:
        """Read regions (B, T, J, 3) and mask (B, T) -> (B, T, N * (E + 2C)).

        Of every expert that is its adapted embedding, then the left and the right hand's features.
        """
        mask = in_tiles(attention_mask.to(body.dtype)[:, :, None, None])
        frames = body.shape[1]
        both = torch.cat([in_tiles(left_hand), in_tiles(right_hand)], dim=2)
        body, face = in_tiles(body), in_tiles(face)
        seen = []
        for hands, remainder in zip(self.hands, self.remainders, strict=True):
            features, lifted = hands(both, body, mask)
            pair = torch.cat(features.chunk(2, dim=1), dim=3)
            seen.append(torch.cat([remainder(pair, lifted, face, mask), pair], dim=3))
        return torch.cat(seen)[:, :, :frames].permute(1, 2, 0, 3).flatten(2)


class FeatureReader(nn.Module):
    """The second graph: what the features of a whole clip are routed and read as."""

    def __init__(self, encoder: FusedEncoder) -> None:
        super().__init__()
        self.encoder = encoder
        self.experts, self.embedding, self.hand = encoder.num_experts, encoder.embedding, encoder.hand_width

    def forward(self, features: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Encode features (B, T, N * (E + 2C)), mask (B, T) int64 -> states (B, P+T, E), their mask, weights (B, N)."""
        b, t = attention_mask.shape
        seen = features.view(b, t, self.experts, self.embedding + 2 * self.hand).permute(2, 0, 1, 3)
        embeddings, left, right = seen.split([self.embedding, self.hand, self.hand], dim=3)
        weights = self.encoder.route(left, right, attention_mask.to(features.dtype))
        fused = (weights.t()[:, :, None, None] * embeddings).sum(dim=0)
        return *self.encoder.read(fused, attention_mask), weights
