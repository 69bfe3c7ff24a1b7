"""Eq. 3, 9 and 10 against plain numpy on random input."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from signet_train.model.losses import info_nce, token_loss


def softmax_log(x: np.ndarray) -> np.ndarray:
    shifted = x - x.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_token_loss_is_the_smoothed_sum_over_real_tokens(smoothing: float) -> None:
    rng = np.random.default_rng()
    logits, labels = rng.normal(size=(3, 5, 11)), rng.integers(0, 11, (3, 5))
    labels[1, 3:] = labels[2, 1:] = -100
    expected = 0.0
    for row, targets in zip(softmax_log(logits), labels, strict=True):
        for log_p, target in zip(row, targets, strict=True):
            if target != -100:
                expected -= (1 - smoothing) * log_p[target] + smoothing * log_p.mean()
    ours = token_loss(torch.tensor(logits), torch.tensor(labels), smoothing)
    assert ours.item() == pytest.approx(expected, rel=1e-5)


def test_info_nce_is_equation_9() -> None:
    rng = np.random.default_rng()
    visual, text, tau = rng.normal(size=(6, 9)), rng.normal(size=(6, 9)), 0.07
    v, t = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (visual, text))
    total = 0.0
    for i in range(6):
        to_text = np.exp(v[i] @ t.T / tau)
        to_visual = np.exp(t[i] @ v.T / tau)
        total += math.log(to_text[i] / to_text.sum()) + math.log(to_visual[i] / to_visual.sum())
    ours = info_nce(torch.tensor(visual), torch.tensor(text), torch.tensor(math.log(tau)))
    assert ours.item() == pytest.approx(-total / (2 * 6), rel=1e-5)


def test_the_temperature_learns_and_is_clamped() -> None:
    visual, text = torch.randn(4, 8), torch.randn(4, 8)
    log_temperature = torch.tensor(math.log(0.07), requires_grad=True)
    info_nce(visual, text, log_temperature).backward()
    assert log_temperature.grad is not None and log_temperature.grad.abs() > 0
    low, lower = (info_nce(visual, text, torch.tensor(math.log(tau))) for tau in (0.01, 0.0001))
    assert low == lower
