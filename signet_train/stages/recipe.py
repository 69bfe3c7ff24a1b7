"""What the training loop is given: one stage's training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from torch.utils.data import Dataset

from signet_train.checkpoint import Checkpoint
from signet_train.stages.objectives import Alignment, Translation
from signet_train.stages.validation import Validation


@dataclass
class Run:
    """One stage's training.

    Attributes:
        checkpoint: the model and what is saved with it.
        objective: the loss, a module that holds the model.
        dataset: training samples by `Key`.
        validate: gives what a validation finds, on every process; ``metric`` among its figures decides what is best.
            It calls what it is given after every batch, which may interrupt it.
        best: which end of ``metric`` is good.
    """

    checkpoint: Checkpoint
    objective: Translation | Alignment
    dataset: Dataset
    validate: Callable[[Callable[[], None]], Validation]
    metric: str
    best: Literal["highest", "lowest"]
