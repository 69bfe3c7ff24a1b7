"""Spatio-temporal graph convolution over one region's joints (Sec. 3.2, Table 11).

Features travel as frames (N, J, C), the batch's frames in one row: all but the temporal convolution acts on
each frame alone. Channels come last, so every 1x1 convolution is one matrix product.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.nn.functional import all_reduce
from torch.nn import functional as F

from signet_runtime.skeleton import Region


class FrameLayout:
    """Where the frames of a padded batch lie: mask (B, T) bool, True on real frames.

    Padding must change no result. Only real frames are kept, so nothing is computed for padding and
    BatchNorm's statistics see none of it. A graph that is being exported must be static: there all frames
    are kept, and padding is zeroed wherever time is looked at, as a convolution's own padding is.
    """

    def __init__(self, mask: Tensor) -> None:
        self.mask = mask
        self.real_only = not torch.jit.is_tracing()

    def pack(self, x: Tensor) -> Tensor:
        """Pack (B, T, ...) -> (N, ...)."""
        return x[self.mask] if self.real_only else x.flatten(0, 1)

    def unpack(self, x: Tensor) -> Tensor:
        """Unpack (N, ...) -> (B, T, ...), zero on padding."""
        if self.real_only:
            padded = x.new_zeros(*self.mask.shape, *x.shape[1:])
            padded[self.mask] = x
            return padded
        shape = (*self.mask.shape, *x.shape[1:])
        return x.view(shape) * self.mask.view(*self.mask.shape, *[1] * (x.dim() - 1))


def distance_partition(region: Region) -> Tensor:
    """Return the column-normalised adjacency split by hop distance: (2, J, J), self-links then neighbours."""
    joints = len(region.joints)
    neighbours = torch.zeros(joints, joints)
    for i, j in region.edges:
        neighbours[i, j] = neighbours[j, i] = 1
    hops = torch.stack([torch.eye(joints), neighbours])
    return hops / hops.sum(dim=(0, 1))


class JointBatchNorm(nn.BatchNorm1d):
    """BatchNorm over frames and joints alike: (N, J, C).

    Attributes:
        synced: whether training counts the frames of all processes, so that their number changes nothing. PyTorch's own
            SyncBatchNorm does the same, on GPUs alone.
    """

    synced = False

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (N, J, C) by channel; in training by these frames, else by what was counted."""
        flat = x.reshape(-1, x.shape[-1])
        if self.training and self.synced and process_count() > 1:
            return self._over_all(flat).view(x.shape)
        return super().forward(flat).view(x.shape)

    def _over_all(self, x: Tensor) -> Tensor:
        values = x.float()
        count = values.new_full((1,), len(values))
        total = all_reduce(torch.cat([values.sum(dim=0), count]))
        mean, count = total[:-1] / total[-1], total[-1].detach()
        variance = all_reduce(((values - mean) ** 2).sum(dim=0)) / count
        assert self.running_mean is not None and self.running_var is not None and self.num_batches_tracked is not None
        with torch.no_grad():
            assert self.momentum is not None
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * count / (count - 1), self.momentum)
        return ((values - mean) * (variance + self.eps).rsqrt() * self.weight + self.bias).to(x.dtype)


def process_count() -> int:
    """Return how many processes train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def sync_statistics(module: nn.Module) -> None:
    """Let BatchNorm below a module count the frames of all processes that train together."""
    for part in module.modules():
        if isinstance(part, JointBatchNorm):
            part.synced = True


class GraphConvolution(nn.Module):
    """y = ReLU(BN(sum_k A_k^T (x W_k + b_k))) with learnable adjacency A (Table 11, "GCN")."""

    def __init__(self, in_channels: int, out_channels: int, adjacency: Tensor) -> None:
        super().__init__()
        subsets = len(adjacency)
        self.adjacency = nn.Parameter(adjacency.clone())  # (K, J, J), learned per block
        self.weight = nn.Parameter(torch.empty(subsets, out_channels, in_channels))
        self.bias = nn.Parameter(torch.zeros(subsets, out_channels))
        self.norm = JointBatchNorm(out_channels)
        nn.init.uniform_(self.weight, -(in_channels**-0.5), in_channels**-0.5)

    def forward(self, x: Tensor) -> Tensor:
        """Look at each frame alone: (N, J, C_in) -> (N, J, C_out), not negative."""
        subsets, joints, _ = self.adjacency.shape
        # Aggregating first gives all K subsets in one product: (J*K, J) @ (N, J, C) -> (N, J, K*C).
        gather = self.adjacency.permute(2, 0, 1).reshape(joints * subsets, joints)
        x = torch.bmm(gather.expand(x.shape[0], -1, -1), x).view(-1, joints, subsets * x.shape[-1])
        x = F.linear(x, self.weight.permute(1, 0, 2).flatten(1))
        # The bias is aggregated like the features it was added to.
        x = x + self.adjacency.sum(dim=1).t() @ self.bias
        return F.relu(self.norm(x), inplace=True)


class TemporalConvolution(nn.Module):
    """A (kernel, 1) convolution over time, BN and dropout (Table 11, "TCN")."""

    def __init__(self, channels: int, kernel: int, dropout: float) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, (kernel, 1), padding=(kernel // 2, 0))
        self.norm = JointBatchNorm(channels)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, layout: FrameLayout) -> Tensor:
        """Look at ``kernel`` frames around each, padding as zeros: (N, J, C) -> (N, J, C)."""
        # (B, T, J, C) seen as (B, C, T, J) is PyTorch's channels_last: nothing is copied.
        x = self.conv(layout.unpack(x).permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return self.dropout(self.norm(layout.pack(x)))


class STGCNBlock(nn.Module):
    """GCN, then TCN where the temporal kernel exceeds 1, a residual link, ReLU."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int, adjacency: Tensor, dropout: float) -> None:
        super().__init__()
        self.gcn = GraphConvolution(in_channels, out_channels, adjacency)
        self.tcn = TemporalConvolution(out_channels, kernel, dropout) if kernel > 1 else None
        self.residual: nn.Module = nn.Identity()
        if in_channels != out_channels:
            self.residual = nn.Sequential(nn.Linear(in_channels, out_channels), JointBatchNorm(out_channels))

    def forward(self, x: Tensor, layout: FrameLayout) -> Tensor:
        """Apply the block: (N, J, C_in) -> (N, J, C_out), not negative."""
        y = self.gcn(x)
        if self.tcn is not None:
            y = self.tcn(y, layout)
        return F.relu(y + self.residual(x), inplace=True)


class STGCNStage(nn.Module):
    """A chain of blocks of one temporal kernel: the spatial stage (kernel 1) or the temporal stage (5)."""

    def __init__(
        self, in_channels: int, channels: tuple[int, ...], kernel: int, adjacency: Tensor, dropout: float
    ) -> None:
        super().__init__()
        widths = (in_channels, *channels)
        self.blocks = nn.ModuleList(
            STGCNBlock(a, b, kernel, adjacency, dropout) for a, b in zip(widths, channels, strict=False)
        )

    def forward(self, x: Tensor, layout: FrameLayout) -> Tensor:
        """Apply the blocks in turn: (N, J, C_in) -> (N, J, C) of the last."""
        for block in self.blocks:
            x = block(x, layout)
        return x
