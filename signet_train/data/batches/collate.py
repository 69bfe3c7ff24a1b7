"""Samples of unequal length -> one padded batch."""

from __future__ import annotations

import atexit
import re
import signal
from collections.abc import Callable, Generator, Sequence
from multiprocessing.process import BaseProcess
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader, Dataset, Sampler
from transformers import PreTrainedTokenizerBase

from signet_runtime.errors import SignetError
from signet_train.data.batches.cache import CachedSample
from signet_train.data.batches.dataset import Sample
from signet_train.data.batches.sampling import Key
from signet_train.data.workers import available_cpus, signals_blocked


class Batch(NamedTuple):
    """One padded batch; what the experts see, or what cached experts saw.

    Attributes:
        ids: of the B samples.
        texts: their targets.
        mask: (B, T) bool, True on real frames.
        labels: (B, L) int64, -100 where padded.
        regions: float32 (B, T, J, 3) each; empty when features are given.
        features: float32 embeddings (B, N, T, E) and priors (B, N, D) of N frozen experts, or None.
    """

    ids: list[str]
    texts: list[str]
    mask: Tensor
    labels: Tensor
    regions: dict[str, Tensor]
    features: tuple[Tensor, Tensor] | None = None

    def to(self, device: torch.device) -> Batch:
        """Return the batch with its tensors on another device."""
        return self._replace(
            mask=self.mask.to(device),
            labels=self.labels.to(device),
            regions={name: region.to(device) for name, region in self.regions.items()},
            features=None if self.features is None else (self.features[0].to(device), self.features[1].to(device)),
        )


def pad_regions(samples: Sequence[dict[str, np.ndarray]]) -> tuple[dict[str, Tensor], Tensor]:
    """Pad every sample's regions (T, J, 3); gives (B, T, J, 3) each, and the mask of real frames (B, T)."""
    regions = {name: _pad([torch.from_numpy(sample[name]) for sample in samples]) for name in samples[0]}
    return regions, _mask([len(sample["body"]) for sample in samples])


def _pad(sequences: list[Tensor]) -> Tensor:
    return pad_sequence(sequences, batch_first=True)


def _mask(lengths: Sequence[int]) -> Tensor:
    return torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]


class Collate:
    """Samples with their tokenised targets as one batch; an object, so that worker processes can be given it."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, max_target_tokens: int) -> None:
        self.tokenizer, self.max_target_tokens = tokenizer, max_target_tokens

    def __call__(self, samples: Sequence[Sample] | Sequence[CachedSample]) -> Batch:
        texts = [sample.text for sample in samples]
        ids = [sample.id for sample in samples]
        tokens = self.tokenizer(
            texts, padding=True, truncation=True, max_length=self.max_target_tokens, return_tensors="pt"
        )
        labels = tokens.input_ids.masked_fill(tokens.attention_mask == 0, -100)
        seen = [sample for sample in samples if isinstance(sample, Sample)]
        if seen:
            regions, mask = pad_regions([sample.regions for sample in seen])
            return Batch(ids, texts, mask, labels, regions)
        cached = [sample for sample in samples if isinstance(sample, CachedSample)]
        frames_first = [torch.from_numpy(sample.embeddings).transpose(0, 1) for sample in cached]
        embeddings = _pad(frames_first).transpose(1, 2)
        priors = torch.from_numpy(np.stack([sample.priors for sample in cached]))
        mask = _mask([sample.embeddings.shape[1] for sample in cached])
        return Batch(ids, texts, mask, labels, {}, (embeddings, priors))


def _leave_signals_alone(_worker: int) -> None:
    """Let the process that trains answer Ctrl-C and SIGTERM, which terminals and schedulers send to this one too.

    It ends this one by itself; where it was killed, this one notices.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


_workers: set[BaseProcess] = set()  # of loaders that are open


@atexit.register
def _end_workers() -> None:
    """End the workers of loaders that nobody has closed: multiprocessing asks by SIGTERM, and waits for ever."""
    if _workers and hasattr(signal, "SIGCHLD"):
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # torch's handler takes their end for a failure
    for process in _workers:
        process.kill()


def load_batches(
    dataset: Dataset, order: Sampler[list[Key]] | list[list[Key]], collate: Callable[[Any], Any], workers: int
) -> Generator[Any]:
    """Yield the batches of a `BatchOrder` or a list, loaded by up to ``workers`` processes and CPUs (0: by this one).

    Raises:
        InputError, CheckpointError: what a sample raised, in its own one line.
    """
    loader = DataLoader(
        dataset,
        batch_sampler=order,
        collate_fn=collate,
        num_workers=min(workers, available_cpus()),
        worker_init_fn=_leave_signals_alone,
        generator=torch.Generator(),  # its own: drawn from torch's, a seed for workers would shift a step's dropout
    )
    # What a signal raises while processes are forked, or end, would be lost: it waits.
    with signals_blocked():
        batches = iter(loader)
    own: set[BaseProcess] = set(getattr(batches, "_workers", ()))
    _workers.update(own)
    try:
        yield from batches
    except SignetError as error:
        # torch puts a worker's traceback before what it said, which is the last line, after the error's name.
        said = re.sub(r"^[\w.]+Error: ", "", str(error).splitlines()[-1])
        raise type(error)(said) from error
    finally:
        with signals_blocked():
            if own:  # a traceback may hold the loader, and its processes would be waited for at exit
                batches._shutdown_workers()  # type: ignore[attr-defined]
            del batches
        _workers.difference_update(own)
