"""What a validation finds, beside the texts: the loss, and where the router sends the clips of each language."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor

from signet_train.data.batches.collate import Batch
from signet_train.data.batches.dataset import LocatedRow
from signet_train.evaluation.predictions import Prediction
from signet_train.model.losses import token_loss
from signet_train.model.router import top_k_weights
from signet_train.model.signet import Features, Signet
from signet_train.stages.objectives import Translation

# By sign language and k, how much each expert counts on average (Eq. 8).
Routing = dict[str, dict[int, list[float]]]


@dataclass(frozen=True)
class Validation:
    """Figures by name; and of what writes text, the texts and the routing."""

    figures: dict[str, float]
    predictions: Sequence[Prediction] = ()
    routing: Routing = field(default_factory=dict)


class Observer:
    """Sums up what the batches of a validation tell, on every process.

    Args:
        label_smoothing: of the loss, as in training.
        rows: those of the data set, whose indices the batches have.
    """

    def __init__(self, model: Signet, label_smoothing: float, rows: Sequence[LocatedRow]) -> None:
        self._model, self._smoothing, self._rows = model, label_smoothing, rows
        self._loss = self._tokens = 0.0
        self._weights: dict[tuple[str, int], Tensor] = {}
        self._clips: dict[tuple[str, int], int] = defaultdict(int)

    def __call__(self, features: Features, batch: Batch, indices: Sequence[int]) -> None:
        """Take a batch in; ``indices`` are of its rows."""
        logits = self._model.logits(features, batch.mask, batch.labels)
        self._loss += float(token_loss(logits, batch.labels, self._smoothing))
        self._tokens += Translation.count(batch)
        fusion = self._model.routed
        if fusion is None:
            return
        scores = fusion.router.mlp(fusion.aggregation(features.priors)).float().cpu()
        for k in range(1, scores.shape[1] + 1):
            for index, weights in zip(indices, top_k_weights(scores, k), strict=True):
                key = self._rows[index].row.sign_language, k
                self._weights[key] = self._weights.get(key, torch.zeros_like(weights)) + weights
                self._clips[key] += 1

    def loss(self, accelerator: Accelerator) -> float:
        """Return the mean loss of a token, over all processes."""
        sums = accelerator.reduce(torch.tensor([self._loss, self._tokens], device=accelerator.device), reduction="sum")
        assert isinstance(sums, Tensor)
        return float(sums[0] / sums[1])

    def routing(self) -> Routing:
        """Return how much each expert counts, by sign language and k, over all processes."""
        own = [(key, self._weights[key].tolist(), self._clips[key]) for key in self._weights]
        total: dict[tuple[str, int], tuple[Tensor, int]] = {}
        for key, weights, clips in gather_object(own):
            before, count = total.get(key, (torch.zeros(len(weights)), 0))
            total[key] = before + torch.tensor(weights), count + clips
        found: Routing = {}
        for (language, k), (weights, clips) in sorted(total.items(), key=lambda item: item[0]):
            found.setdefault(language, {})[k] = [round(value, 4) for value in (weights / clips).tolist()]
        return found
