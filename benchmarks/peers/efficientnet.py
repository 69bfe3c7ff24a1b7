"""EfficientNet-B0's features (Tan and Le 2019, Table 1), layer by layer as torchvision builds them.

Uni-Sign's RGB branch takes them from torchvision, which is no dependency of this project and whose compiled part must
fit the installed PyTorch. Where it does not load this stands in, with random weights: the same layers at the same cost
(that of transformers takes 1.7 times as long forward).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

# expansion, kernel, stride, channels, blocks
_STAGES = (
    (1, 3, 1, 16, 1),
    (6, 3, 2, 24, 2),
    (6, 5, 2, 40, 2),
    (6, 3, 2, 80, 3),
    (6, 5, 1, 112, 3),
    (6, 5, 2, 192, 4),
    (6, 3, 1, 320, 1),
)
_STEM, _HEAD = 32, 1280
_DROPPED = 0.2  # share of the last block's residuals in training; grows from 0 at the first


def _convolution(into: int, out: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    convolution = nn.Conv2d(into, out, kernel, stride, (kernel - 1) // 2, groups=groups, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(out))


class _Excitation(nn.Module):
    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.weigh = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(channels, squeezed, 1),
            nn.SiLU(inplace=True),
            nn.Conv2d(squeezed, channels, 1),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.weigh(x) * x


class _Block(nn.Module):
    def __init__(self, into: int, out: int, expansion: int, kernel: int, stride: int, dropped: float) -> None:
        super().__init__()
        wide = into * expansion
        expand = [*_convolution(into, wide, 1), nn.SiLU(inplace=True)] if expansion > 1 else []
        self.block = nn.Sequential(
            *expand,
            *_convolution(wide, wide, kernel, stride, groups=wide),
            nn.SiLU(inplace=True),
            _Excitation(wide, max(1, into // 4)),
            *_convolution(wide, out, 1),
        )
        self.adds, self.dropped = stride == 1 and into == out, dropped

    def forward(self, x: Tensor) -> Tensor:
        result = self.block(x)
        if not self.adds:
            return result
        if self.training and self.dropped:
            kept = torch.empty(len(x), 1, 1, 1, dtype=x.dtype, device=x.device).bernoulli_(1 - self.dropped)
            result = result * kept.div_(1 - self.dropped)
        return result.add_(x)


def efficientnet_b0_features() -> nn.Sequential:
    """Images (N, 3, H, W) -> (N, 1280, H/32, W/32), rounded up; 4,007,548 parameters."""
    layers: list[nn.Module] = [*_convolution(3, _STEM, 3, 2), nn.SiLU(inplace=True)]
    into, total = _STEM, sum(blocks for *_, blocks in _STAGES)
    number = 0
    for expansion, kernel, stride, out, blocks in _STAGES:
        for position in range(blocks):
            dropped = _DROPPED * number / total
            layers.append(_Block(into, out, expansion, kernel, stride if position == 0 else 1, dropped))
            into, number = out, number + 1
    return nn.Sequential(*layers, *_convolution(into, _HEAD, 1), nn.SiLU(inplace=True))
