"""A model's text for a set of rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from accelerate import Accelerator
from tqdm import tqdm

from signet_train.checkpoint import Checkpoint
from signet_train.data.collate import Collate, load_batches
from signet_train.data.order import in_order
from signet_train.data.predictions import Prediction
from signet_train.metrics import ascii_punctuation
from signet_train.stages.objectives import features_of


@torch.no_grad()
def predict(
    checkpoint: Checkpoint,
    dataset: torch.utils.data.Dataset,
    accelerator: Accelerator,
    *,
    num_beams: int,
    batch_size: int,
) -> list[Prediction]:
    """Beam search over every sample, in order, on every process; leaves the model in eval mode.

    Inference routes by top-k (Eq. 8), so this is what an exported bundle writes.
    """
    config, model = checkpoint.config, checkpoint.model.eval()
    rows = len(dataset)  # type: ignore[arg-type]
    keys = in_order(rows, batch_size, accelerator.num_processes, accelerator.process_index)
    collate = Collate(checkpoint.tokenizer, config.data.max_target_tokens)
    batches = load_batches(dataset, keys, collate, config.data.workers)
    found: list[tuple[int, Prediction]] = []
    for key, batch in zip(
        keys, tqdm(batches, desc="generate", total=len(keys), leave=False, mininterval=2), strict=True
    ):
        on_device = batch.to(accelerator.device)
        with accelerator.autocast():
            tokens = model.generate(
                features_of(model, on_device), on_device.mask, num_beams, config.card.max_new_tokens
            )
        # mT5's vocabulary is padded beyond its tokenizer's pieces, and an untrained model writes such ids too.
        known = [[token for token in row if token < len(checkpoint.tokenizer)] for row in tokens.tolist()]
        texts: Sequence[str] = checkpoint.tokenizer.batch_decode(known, skip_special_tokens=True)
        for (_, index), name, reference, text in zip(key, batch.ids, batch.texts, texts, strict=True):
            found.append((index, Prediction(name, reference, text)))
    return [prediction for _, prediction in sorted(everyones(accelerator, found), key=lambda pair: pair[0])]


def comparable(predictions: Sequence[Prediction], tokenize: str) -> list[Prediction]:
    """As they are scored: Chinese with ASCII punctuation, which is how mT5 writes it, on both sides."""
    if tokenize != "zh":
        return list(predictions)
    return [Prediction(p.id, ascii_punctuation(p.reference), ascii_punctuation(p.hypothesis)) for p in predictions]


def everyones(accelerator: Accelerator, values: list[Any]) -> list[Any]:
    """The lists of all processes as one, the same on each."""
    if accelerator.num_processes == 1:
        return values
    gathered: list[Any] = [None] * accelerator.num_processes
    torch.distributed.all_gather_object(gathered, values)
    return [value for part in gathered for value in part]
