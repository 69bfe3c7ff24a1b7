"""A model's text for a set of rows."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from tqdm import tqdm

from signet_train.checkpoint import Checkpoint
from signet_train.data.batches.collate import Batch, Collate, load_batches
from signet_train.data.batches.sampling import in_order
from signet_train.evaluation.metrics import ascii_punctuation
from signet_train.evaluation.predictions import Prediction
from signet_train.model.signet import Features
from signet_train.stages.objectives import features_of


@torch.no_grad()
def predict(
    checkpoint: Checkpoint,
    dataset: torch.utils.data.Dataset,
    accelerator: Accelerator,
    *,
    num_beams: int,
    batch_size: int,
    observe: Callable[[Features, Batch, Sequence[int]], None] | None = None,
    candidates: int = 1,
) -> list[Prediction]:
    """Translate every sample by beam search, in order, on every process; leaves the model in eval mode.

    Inference routes by top-k (Eq. 8), so this is what an exported bundle writes.

    Args:
        observe: called with this process's batches: features, the batch, and its indices.
        candidates: how many texts of each sample to keep, with their scores; no more than there are beams.
    """
    config, model = checkpoint.config, checkpoint.model.eval()
    rows = len(dataset)  # type: ignore[arg-type]
    keys = in_order(rows, batch_size, accelerator.num_processes, accelerator.process_index)
    collate = Collate(checkpoint.tokenizer, config.data.max_target_tokens)
    batches = load_batches(dataset, keys, collate, config.data.workers)
    found: list[tuple[int, Prediction]] = []
    for key, batch in zip(
        keys, tqdm(batches, desc="generate", total=len(keys), leave=False, delay=3, mininterval=_every()), strict=True
    ):
        on_device = batch.to(accelerator.device)
        with accelerator.autocast():
            features = features_of(model, on_device)
            tokens, scores = model.generate_ranked(
                features, on_device.mask, num_beams, config.card.max_new_tokens, candidates
            )
            if observe is not None:
                observe(features, on_device, [index for _, index in key])
        # mT5's vocabulary is padded beyond its tokenizer's pieces, and an untrained model writes such ids too.
        written = tokens.flatten(0, 1).tolist()
        known = [[token for token in row if token < len(checkpoint.tokenizer)] for row in written]
        texts: Sequence[str] = checkpoint.tokenizer.batch_decode(known, skip_special_tokens=True)
        for i, ((_, index), name, reference) in enumerate(zip(key, batch.ids, batch.texts, strict=True)):
            own = texts[i * candidates : (i + 1) * candidates]
            ranked = tuple(zip(own, scores[i].tolist(), strict=True)) if candidates > 1 else ()
            found.append((index, Prediction(name, reference, own[0], ranked)))
    return [prediction for _, prediction in sorted(gather_object(found), key=lambda pair: pair[0])]


def _every() -> float:
    """Return the seconds between two reports of progress: a log is no terminal."""
    return 2 if sys.stderr.isatty() else 60


def comparable(predictions: Sequence[Prediction], tokenize: str) -> list[Prediction]:
    """Return them as they are scored: Chinese with ASCII punctuation, which is how mT5 writes it, on both sides."""
    if tokenize != "zh":
        return list(predictions)
    return [
        replace(p, reference=ascii_punctuation(p.reference), hypothesis=ascii_punctuation(p.hypothesis))
        for p in predictions
    ]
