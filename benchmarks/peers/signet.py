"""The authors' SIGNET, built from their own public code, with our batch as theirs.

    git clone https://github.com/elsobhano/SIGNET        it lacks stgcn.py, which is Uni-Sign's: give that peer, too

Weights are random, and the language model is the one that SIGNET's rows use. Experts are frozen and in eval mode, as in
their Stages II and III.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from transformers import MT5ForConditionalGeneration

from benchmarks.peers.signet_checkout import load_models
from signet_runtime.errors import InputError
from signet_runtime.skeleton import REGIONS
from signet_train.data.batches.collate import Batch

_PARTS = dict(zip(REGIONS, ("body", "left", "right", "face_all"), strict=True))  # ours -> theirs
_ARGUMENTS = SimpleNamespace(hidden_dim=256, dataset="How2Sign", label_smoothing=0.2, use_lora=False)
NAME = "SIGNET, the authors' code"


class AuthorsSignet(nn.Module):
    """Their experts and their gate, trained as their loop does."""

    def __init__(self, models: Any, experts: int) -> None:
        super().__init__()
        self.experts = nn.ModuleList(models.SignetExpert(_ARGUMENTS) for _ in range(experts)).requires_grad_(False)
        self.gate = models.SignetGate(_ARGUMENTS, num_experts=experts)

    def train(self, mode: bool = True) -> AuthorsSignet:
        super().train(mode)
        self.experts.eval()
        return self

    def forward(self, source: dict[str, Tensor], mask: Tensor, sentences: Sequence[str]) -> Tensor:
        """Stage III's loss."""
        with torch.no_grad():
            seen = [expert(source, None) for expert in self.experts]
        return self.gate(seen, {"gt_sentence": sentences}, mask)["loss"]


@dataclass(frozen=True)
class AuthorsPeer:
    """As `benchmarks.peers.models.Peer`, of the authors' own SIGNET."""

    model: AuthorsSignet
    name: str = NAME
    paper: str | None = None
    rgb: bool = False

    def encoder_parameters(self) -> int:
        """Return how many there are beside the language model's."""
        return sum(p.numel() for n, p in self.model.named_parameters() if not n.startswith("gate.mt5_model."))

    def run(self, inputs: Any) -> Tensor:
        """Compute its forward pass on what `inputs` gives: the loss."""
        return self.model(*inputs)

    def inputs(self, batch: Batch, tokens: int, dtype: torch.dtype) -> tuple[dict[str, Tensor], Tensor, list[str]]:
        """Return the same regions and mask by its names, with a sentence of as many tokens."""
        text = " ".join(f"word{i % 10}" for i in range(tokens - 1))  # and the end of sentence
        regions = {_PARTS[name]: region.to(dtype) for name, region in batch.regions.items()}
        return regions, batch.mask.long(), [text] * len(batch.mask)


def build_authors(
    checkout: Path, unisign: Path | None, tokenizer: str, language_model: MT5ForConditionalGeneration, experts: int
) -> AuthorsPeer:
    """Build their model around a language model.

    Args:
        unisign: a checkout of Uni-Sign, for the graph convolutions that theirs lacks.
        tokenizer: a directory.

    Raises:
        InputError: their code cannot be imported.
    """
    try:
        models = load_models(checkout, unisign)
    except FileNotFoundError as error:
        raise InputError(str(error)) from error
    except ImportError as error:
        raise InputError(f"{checkout}: cannot be imported ({error}); install what it needs") from error
    namespace = models.SignetGate.__init__.__globals__
    namespace["mt5_path"] = tokenizer
    namespace["MT5ForConditionalGeneration"] = SimpleNamespace(from_pretrained=lambda path: language_model)
    return AuthorsPeer(AuthorsSignet(models, experts))
