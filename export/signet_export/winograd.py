"""F(4, 5): four outputs of a five-tap convolution from eight products instead of twenty (Winograd, 1980).

The outputs of a tile are A^T [(G g) * (B^T d)], with g the taps and d the eight inputs that the tile sees. With
channels, each of the eight products is one of matrices.
"""

from __future__ import annotations

from fractions import Fraction

import torch
from torch import Tensor
from torch.nn import functional as F

TILE, TAPS = 4, 5
_POINTS = [Fraction(0), *(s * Fraction(p) for p in ("1", "2", "1/2") for s in (1, -1))]  # and infinity
_SPAN = TILE + TAPS - 1


def transforms() -> tuple[Tensor, Tensor, Tensor]:
    """Return A^T (4, 8), G (8, 5) and B^T (8, 8), exact in fp64."""
    finite = range(_SPAN - 1)
    out = [[a**j for a in _POINTS] + [Fraction(int(j == TILE - 1))] for j in range(TILE)]
    filters, inputs = [], []
    for i in finite:
        others = [_POINTS[j] for j in finite if j != i]
        scale = Fraction(1)
        for b in others:
            scale *= _POINTS[i] - b
        filters.append([_POINTS[i] ** k / scale for k in range(TAPS)])
        inputs.append([*_polynomial(others), Fraction(0)])
    filters.append([Fraction(int(k == TAPS - 1)) for k in range(TAPS)])
    inputs.append(_polynomial(_POINTS))
    return _matrix(out), _matrix(filters), _matrix(inputs)


def _matrix(rows: list[list[Fraction]]) -> Tensor:
    return torch.tensor([[float(value) for value in row] for row in rows], dtype=torch.float64)


def _polynomial(roots: list[Fraction]) -> list[Fraction]:
    """Return the coefficients of the product of (x - root), lowest power first."""
    coefficients = [Fraction(1)]
    for root in roots:
        shifted = [Fraction(0), *coefficients]
        for power, value in enumerate(coefficients):
            shifted[power] -= root * value
        coefficients = shifted
    return coefficients


def transform_filters(weight: Tensor) -> Tensor:
    """Transform a convolution's taps (..., C_out, C_in, 5) -> a matrix a point (..., 8, C_in, C_out)."""
    _, filters, _ = transforms()
    return torch.einsum("pk,...oik->...pio", filters, weight.double()).to(weight.dtype).contiguous()


def convolve(x: Tensor, filters: Tensor, out: Tensor, inputs: Tensor) -> Tensor:
    """Convolve over time, zeros beyond both ends.

    Time is kept as (4, T/4), frame t at [t % 4, t // 4]: then a tile's frames, points and outputs are rows of matrices
    and nothing has to be transposed.

    Args:
        x: (N, 4, T/4, M, C), M whatever is convolved alike.
        filters: of `transform_filters`, (N, 8, C, O).
        out, inputs: A^T and B^T of `transforms`.

    Returns:
        (N, 4, T/4 * M * O).
    """
    # A tile sees the last two frames of the one before, its own four, and the first two of the one after.
    before = F.pad(x[:, 2:], (0, 0, 0, 0, 1, -1))
    after = F.pad(x[:, :2], (0, 0, 0, 0, -1, 1))
    seen = torch.cat([before, x, after], dim=1)
    points = torch.matmul(inputs, seen.flatten(2))
    products = torch.matmul(points.view(filters.shape[0], 8, -1, filters.shape[2]), filters)
    return torch.matmul(out, products.flatten(2))
