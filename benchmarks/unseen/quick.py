"""A small reader that takes minutes to train: which data, and which of a model's inputs, carry over to strangers?

What a demo would be trained on goes into a few convolutions and CTC in place of experts, router and mT5. It has no
language model, so it says how letters are read, not how words would be; it is for choosing, never for reporting.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.unseen.folds import Recipe, known_to
from benchmarks.unseen.joining import spell_otherwise
from benchmarks.unseen.scoring import Tally, tally
from signet_runtime.pose.sequence import PoseSequence
from signet_runtime.regions import Regions, prepare
from signet_train.config import TrainConfig, load_config
from signet_train.data.batches.dataset import LocatedRow, PoseDataset, Sample
from signet_train.data.spelled.clips import Pace, spell, words
from signet_train.data.spelled.corpus import spelling_rows

_WIDTH, _BATCH, _RATE = 160, 48, 2e-3
_READ = ("body", "left_hand", "right_hand")


class Reader(nn.Module):
    """Regions (B, T, inputs) -> log-probabilities of characters by frame, the blank first: (B, T, 1 + characters)."""

    def __init__(self, inputs: int, characters: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for width in (inputs, _WIDTH):
            layers += [nn.Linear(width, _WIDTH), nn.LayerNorm(_WIDTH), nn.ReLU()]
        self.frames = nn.Sequential(*layers)
        self.convolutions = nn.ModuleList(nn.Conv1d(_WIDTH, _WIDTH, 5, padding=2) for _ in range(3))
        self.norms = nn.ModuleList(nn.LayerNorm(_WIDTH) for _ in range(3))
        self.out = nn.Linear(_WIDTH, 1 + characters)

    def forward(self, frames: Tensor, mask: Tensor) -> Tensor:
        x = self.frames(frames) * mask
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            x = (x + torch.relu(norm(convolution(x.mT).mT))) * mask
        return self.out(x).log_softmax(dim=-1)


def train_reader(fold: str, recipe: Recipe, steps: int) -> tuple[Reader, str, TrainConfig]:
    """Train on what a fold's demo would be: the reader, its characters, and the configuration of its data."""
    redrawn = str(recipe.redrawn.resolve()) if recipe.redrawn else None
    made = spelling_rows(
        known_to(fold),
        recipe.max_letters,
        recipe.words,
        redrawn,
        recipe.seed,
        foreign=recipe.foreign,
        people=recipe.people,
    )
    rows = [row for row in made if row.split == "train"]
    config = load_config(recipe.configs / "baltic.toml", [*recipe.changes, f"seed={recipe.seed}"])
    samples = PoseDataset([LocatedRow(row, recipe.configs) for row in rows], config, training=True)
    characters = "".join(sorted({character for row in rows for character in row.text}))
    torch.manual_seed(recipe.seed)
    rng = np.random.default_rng(recipe.seed)
    reader: Reader | None = None
    for step in range(steps):
        batch = [samples[step, int(i)] for i in rng.integers(len(rows), size=_BATCH)]
        frames, mask = padded([_flat(sample.regions) for sample in batch])
        if reader is None:
            reader = Reader(frames.shape[-1], len(characters))
            optimiser = torch.optim.AdamW(reader.parameters(), lr=_RATE, weight_decay=0.01)
            schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, _RATE, total_steps=steps, pct_start=0.1)
        loss = _loss(reader(frames, mask), batch, characters)
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(reader.parameters(), 1.0)
        optimiser.step()
        schedule.step()
    assert reader is not None
    return reader.eval(), characters, config


def read_letters(
    reader: Reader, characters: str, config: TrainConfig, language: str, otherwise: bool, count: int, fold: str
) -> Tally:
    """Read ``count`` words that no report reads (the split `dev`), joined by training's generator or the other."""
    rng = np.random.default_rng([7, *language.encode()])
    listed = words(language, split="dev", max_letters=8 if otherwise else 6)
    chosen = rng.choice(listed, size=min(count, len(listed)), replace=False).tolist()
    clips = [spell_otherwise(w, language, rng) if otherwise else spell(w, language, Pace()) for w in chosen]
    return tally(chosen, _read(reader, characters, config, clips), language, known_to(fold))


@torch.no_grad()
def _read(reader: Reader, characters: str, config: TrainConfig, clips: Sequence[PoseSequence]) -> list[str]:
    flat = [_flat(prepare(clip, config.data)) for clip in clips]
    found = reader(*padded(flat)).argmax(dim=-1)
    paths = [pieces[: len(frames)].tolist() for pieces, frames in zip(found, flat, strict=True)]
    return ["".join(characters[piece - 1] for piece, _ in itertools.groupby(path) if piece) for path in paths]


def _loss(predicted: Tensor, batch: Sequence[Sample], characters: str) -> Tensor:
    targets = torch.tensor([1 + characters.index(character) for sample in batch for character in sample.text])
    frames = torch.tensor([len(sample.regions["body"]) for sample in batch])
    letters = torch.tensor([len(sample.text) for sample in batch])
    return nn.functional.ctc_loss(predicted.transpose(0, 1), targets, frames, letters, zero_infinity=True)


def _flat(regions: Regions) -> np.ndarray:
    return np.concatenate([regions[name].reshape(len(regions[name]), -1) for name in _READ], axis=1)


def padded(samples: Sequence[np.ndarray]) -> tuple[Tensor, Tensor]:
    """Make a batch of samples (T, inputs): frames (B, T, inputs), and the mask (B, T, 1), 1 where they are real."""
    longest = max(len(sample) for sample in samples)
    frames = np.zeros((len(samples), longest, samples[0].shape[1]), np.float32)
    mask = np.zeros((len(samples), longest, 1), np.float32)
    for i, sample in enumerate(samples):
        frames[i, : len(sample)], mask[i, : len(sample)] = sample, 1
    return torch.from_numpy(frames), torch.from_numpy(mask)
