"""The sign language backbone: four ST-GCN streams and a projection (Sec. 3.2, Eq. 1-2, Table 12)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from signet_runtime.skeleton import BODY, FACE, LEFT_HAND, LEFT_WRIST, NOSE, RIGHT_WRIST, Region
from signet_train.config import BackboneConfig
from signet_train.model.stgcn import FrameLayout, STGCNStage, distance_partition


class BackboneOutput(NamedTuple):
    """embeddings Z: (B, T, E); the regions' features F: (B, T, C) each, of which priors pool the hands'."""

    embeddings: Tensor
    body: Tensor
    left_hand: Tensor
    right_hand: Tensor
    face: Tensor


class Stream(nn.Module):
    """One region: (x, y, c) -> 64 channels, spatial stage, temporal stage, mean over joints (Table 12)."""

    def __init__(self, region: Region, config: BackboneConfig) -> None:
        super().__init__()
        adjacency = distance_partition(region)
        self.projection = nn.Linear(3, config.input_channels)
        self.spatial = STGCNStage(config.input_channels, config.spatial_channels, 1, adjacency, config.dropout)
        self.temporal = STGCNStage(
            config.spatial_channels[-1], config.temporal_channels, config.temporal_kernel, adjacency, config.dropout
        )


class Backbone(nn.Module):
    """Keypoints of one signer -> embeddings for the language model.

    Left and right hand share one stream (A.3) and go through it as one batch, so that its BatchNorm keeps
    one set of statistics for what it will see: in one-handed signing the other hand is mostly missing.
    """

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__()
        self.config = config
        self.body = Stream(BODY, config)
        self.hand = Stream(LEFT_HAND, config)
        self.face = Stream(FACE, config)
        width = 4 * config.temporal_channels[-1]
        self.part_offset = nn.Parameter(torch.zeros(width))
        self.projection = nn.Linear(width, config.embedding)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)

    def forward(self, regions: dict[str, Tensor], mask: Tensor) -> BackboneOutput:
        """Embed the frames of a padded batch; padding changes nothing.

        Args:
            regions: body (B, T, 9, 3), left_hand and right_hand (B, T, 21, 3), face (B, T, 18, 3).
            mask: (B, T) bool, True on real frames.
        """
        frames = FrameLayout(mask)
        both = FrameLayout(torch.cat([mask, mask]))
        body = self.body.spatial(self.body.projection(frames.pack(regions["body"])), frames)
        face = self.face.spatial(self.face.projection(frames.pack(regions["face"])), frames)
        hands = both.pack(torch.cat([regions["left_hand"], regions["right_hand"]]))
        hands = self.hand.spatial(self.hand.projection(hands), both)
        if self.config.body_injection:
            # No gradient: the body stream is not trained through the parts that lean on it.
            joints = body.detach()
            wrists = torch.cat([joints[:, LEFT_WRIST], joints[:, RIGHT_WRIST]])
            hands = hands + wrists[:, None]
            face = face + joints[:, NOSE, None]

        feature_body = frames.unpack(self.body.temporal(body, frames).mean(dim=1))
        feature_left, feature_right = both.unpack(self.hand.temporal(hands, both).mean(dim=1)).chunk(2)
        feature_face = frames.unpack(self.face.temporal(face, frames).mean(dim=1))
        concat = torch.cat([feature_body, feature_left, feature_right, feature_face], dim=-1)  # Eq. 2
        embeddings = self.projection(concat + self.part_offset)
        return BackboneOutput(embeddings, feature_body, feature_left, feature_right, feature_face)
