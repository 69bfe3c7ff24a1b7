"""Manifest rows -> samples: keypoints loaded, varied in training, and cut into regions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch.utils.data import Dataset

from signet_runtime.errors import InputError
from signet_runtime.pose.sequence import PoseSequence
from signet_runtime.regions import prepare
from signet_train.config import DataConfig, TrainConfig
from signet_train.data.batches.augment import add_noise, drop_frames, vary_signer
from signet_train.data.batches.sampling import Key
from signet_train.data.located import LocatedRow, LocatedRows
from signet_train.data.manifest import Manifest, Row, read_manifests
from signet_train.data.poses import load_poses
from signet_train.data.provenance import estimator_of, same_estimator

__all__ = ["LocatedRow", "LocatedRows", "PoseDataset", "Sample", "load_rows", "select_rows", "target"]


@dataclass(frozen=True, slots=True)
class Sample:
    """regions: float32 (T, J, 3) each; text: the target."""

    id: str
    regions: dict[str, np.ndarray]
    text: str


def load_rows(config: DataConfig, split: str) -> LocatedRows:
    """Read the rows of one split of all the manifests, in the configured sign languages.

    Raises:
        InputError: a manifest is unusable, or none of its rows is in this split and these sign languages.
    """
    return select_rows(read_manifests(config.manifests), config, split)


def select_rows(manifests: Sequence[Manifest], config: DataConfig, split: str) -> LocatedRows:
    """Return the rows of one split, in the configured sign languages, of manifests that have been read.

    Raises:
        InputError: there are none.
    """
    wanted = set(config.sign_languages)
    of_split = ((manifest.split(split), manifest.root) for manifest in manifests)
    rows = LocatedRows([(rows.where("sign_language", wanted) if wanted else rows, root) for rows, root in of_split])
    if not rows:
        names = ", ".join(map(str, config.manifests))
        languages = f" in {', '.join(config.sign_languages)}" if wanted else ""
        raise InputError(f"{names}: no rows of the split {split!r}{languages}; the splits are named in data.train, …")
    return rows


class PoseDataset(Dataset[Sample]):
    """Regions and target of a row. In training a (seed, epoch, row) has its own noise; in validation there is none."""

    def __init__(self, rows: Sequence[LocatedRow], config: TrainConfig, training: bool) -> None:
        self.rows, self.config, self.training = rows, config, training

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, key: Key) -> Sample:
        """Load, vary and cut the row of a key, ``(epoch, index)``.

        Raises:
            InputError: the row's keypoints cannot be used, or another pose estimator made them than the model's and
                ``allow_mix`` does not name that; the message names the row.
        """
        epoch, index = key
        row, root = self.rows[index].row, self.rows[index].root
        rng = np.random.default_rng([self.config.seed, epoch, index]) if self.training else None
        try:
            sequence = load_poses(row.poses, root, rng)
        except InputError as error:
            raise InputError(f"row {row.id!r}: {error}") from error
        self._refuse_others(row, estimator_of(sequence.source))
        return Sample(row.id, self._regions(sequence, rng), target(row, self.config.task))

    def _refuse_others(self, row: Row, found: str) -> None:
        stated = self.config.card.pose_estimator
        if stated and not same_estimator(found, stated) and "pose_estimator" not in self.config.allow_mix:
            raise InputError(
                f"row {row.id!r}: {row.poses} has keypoints of {found}, and the model reads those of {stated}: extract "
                'them by it, or allow the mix by its name (allow_mix = ["pose_estimator"], --allow-mix pose_estimator)'
            )

    def _regions(self, sequence: PoseSequence, rng: np.random.Generator | None) -> dict[str, np.ndarray]:
        data = self.config.data
        if rng is None:
            return prepare(sequence, data)
        if data.frame_rate is not None and data.frame_rate < sequence.fps:
            # A clip begins anywhere between two ticks of the model's clock.
            late = rng.integers(min(len(sequence), int(np.ceil(sequence.fps / data.frame_rate))))
            sequence = sequence.take(np.arange(late, len(sequence))).resample(data.frame_rate)
        if data.vary_signer:
            sequence = vary_signer(sequence, rng)
        if data.frame_drop:
            sequence = drop_frames(sequence, data.frame_drop, rng)
        regions = prepare(sequence, data, rng)
        return add_noise(regions, data.noise, rng) if data.noise else regions


def target(row: Row, task: str) -> str:
    """Return what the model is to write: the sentence, or in recognition the gloss.

    Raises:
        InputError: the row has none.
    """
    text = row.gloss if task == "recognise" else row.text
    if not text or not text.strip():
        raise InputError(f"row {row.id!r}: no {'gloss' if task == 'recognise' else 'text'}")
    return text
