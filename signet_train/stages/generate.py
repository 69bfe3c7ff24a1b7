"""A model's text for a set of rows."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from tqdm import tqdm

from signet_train.checkpoint import Checkpoint
from signet_train.data.batches.collate import Collate, load_batches
from signet_train.data.batches.sampling import in_order
from signet_train.evaluation.metrics import ascii_punctuation
from signet_train.evaluation.predictions import Prediction
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
    """Translate every sample by beam search, in order, on every process; leaves the model in eval mode.

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
    return [prediction for _, prediction in sorted(gather_object(found), key=lambda pair: pair[0])]


def comparable(predictions: Sequence[Prediction], tokenize: str) -> list[Prediction]:
    """Return them as they are scored: Chinese with ASCII punctuation, which is how mT5 writes it, on both sides."""
    if tokenize != "zh":
        return list(predictions)
    return [Prediction(p.id, ascii_punctuation(p.reference), ascii_punctuation(p.hypothesis)) for p in predictions]
