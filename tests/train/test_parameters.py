"""The counts that docs/parameters.md derives are those of the modules."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from signet_train.config import FusionConfig, ModelConfig
from signet_train.model.signet import Signet
from signet_train.parameters import parameter_table

PAGE = Path(__file__).resolve().parents[2] / "docs" / "parameters.md"


@pytest.fixture(scope="module")
def model() -> Signet:
    with torch.device("meta"):
        return Signet(ModelConfig(fusion=FusionConfig()), num_experts=3)


def count(module: torch.nn.Module | None) -> int:
    assert module is not None
    return sum(p.numel() for p in module.parameters())


def stream(joints: int) -> int:
    """One region's ST-GCN, layer by layer (Tables 11 and 12)."""
    total, width = 3 * 64 + 64, 64
    for channels, kernel in ((64, 1), (128, 1), (256, 1), (256, 5), (256, 5), (256, 5)):
        total += 2 * joints**2 + 2 * (width * channels + channels) + 2 * channels
        total += channels * channels * kernel + channels + 2 * channels if kernel > 1 else 0
        total += width * channels + channels + 2 * channels if width != channels else 0
        width = channels
    return total


def test_backbone(model: Signet) -> None:
    expected = stream(9) + stream(21) + stream(18) + 1024 + 1024 * 768 + 768
    assert count(model.experts[0]) == expected == 5_346_088


def test_fusion_and_language_model(model: Signet) -> None:
    assert model.fusion is not None
    assert count(model.fusion.adapters) == 3 * (2 * 768 + 2 * 768 * 16)
    assert count(model.fusion.aggregation) == 2 * (512**2 + 512) + 2 * 512
    assert count(model.fusion.router) == 512 * 1728 + 1728 + 1728 * 3 + 3
    encoder = 12 * (4 * 768**2 + 3 * 768 * 2048 + 2 * 768)
    decoder = 12 * (8 * 768**2 + 3 * 768 * 2048 + 3 * 768)
    assert count(model.language_model) == 2 * 250_112 * 768 + encoder + decoder + 2 * (32 * 12 + 768)


def test_the_command_and_the_page_say_the_same() -> None:
    table, page = parameter_table(), PAGE.read_text()
    counts = re.findall(r"\d{1,3}(?:,\d{3})+", "\n".join(table.splitlines()[1:4]))
    assert len(counts) == 6
    for number in counts:
        assert number in page, number
    for published in ("17.4M / 1.5M", "582.4M", "599.8M / 583.9M"):
        assert published in page and published in table
