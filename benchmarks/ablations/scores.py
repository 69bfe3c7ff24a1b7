"""From what was written to numbers: character error rates, and differences between paired variants with their doubt."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
from rapidfuzz.distance import Levenshtein

from benchmarks.ablations.runs import ZERO_SHOT
from benchmarks.ablations.variants import Variant
from signet_train.evaluation.metrics import translation_scores

_DRAWS = 4000


@dataclass(frozen=True)
class Trial:
    """One model's reading of one task's test split, by one seed.

    Attributes:
        references, hypotheses: a text a clip.
        weights: float (clips, experts), the router's; None without one.
        confidence, redundancy: as `benchmarks.ablations.runs.read_test` defines them; NaN where there are none.
    """

    references: tuple[str, ...]
    hypotheses: tuple[str, ...]
    weights: np.ndarray | None
    confidence: float
    redundancy: float

    @cached_property
    def edits(self) -> np.ndarray:
        pairs = zip(self.references, self.hypotheses, strict=True)
        return np.array([Levenshtein.distance(a, b) for a, b in pairs])

    @cached_property
    def lengths(self) -> np.ndarray:
        return np.array([len(text) for text in self.references])

    @property
    def error_rate(self) -> float:
        return float(self.edits.sum() / self.lengths.sum())

    @property
    def exact(self) -> float:
        """The share of texts without an error."""
        return float((self.edits == 0).mean())

    def bleu(self, tokenize: str) -> tuple[float, float, float, float]:
        """BLEU-1 to -4, 0 to 100."""
        scores = translation_scores(self.references, self.hypotheses, tokenize)
        return scores.bleu_1, scores.bleu_2, scores.bleu_3, scores.bleu_4


class Difference(NamedTuple):
    """Of error rates, in points: what the first has more than the second, and the middle 95% of its bootstrap."""

    points: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.points:+.1f} [{self.low:+.1f}, {self.high:+.1f}]"


class Results:
    """All trials of a study: by seed, task, variant, k and masked expert."""

    def __init__(self, out: Path, seeds: Sequence[int]) -> None:
        self.seeds = tuple(seeds)
        self._trials: dict[tuple[int, str, str, int | None, int | None], Trial] = {}
        for seed in seeds:
            for file in sorted((out / f"seed-{seed}").glob("*/*/test.json")):
                record = json.loads(file.read_text())
                trained, variant = record.get("task"), record.get("variant")
                for task, found in record["tests"].items():
                    # Experts as they are, and the mixed model, are zero-shot readers of a task.
                    name = variant if trained == task else f"{ZERO_SHOT}:{record.get('expert', 'mixed')}"
                    for trial in found["trials"]:
                        key = (seed, task, name, trial.get("k"), trial.get("masked"))
                        self._trials[key] = _trial(found["references"], trial)

    def rows(self) -> Iterator[tuple[str, str, int | None, int | None, list[Trial]]]:
        """Task, variant, k, masked expert, and the trials by seed, of everything that there is."""
        for key in dict.fromkeys(key[1:] for key in self._trials):
            yield *key, [self._trials[seed, *key] for seed in self.seeds if (seed, *key) in self._trials]

    def get(
        self, task: str, variant: Variant | str, k: int | None = None, masked: int | None = None
    ) -> dict[int, Trial]:
        """By seed; seeds whose run is not there are left out. ``k`` None: 2 where it is routed."""
        name = variant if isinstance(variant, str) else variant.name
        if k is None and isinstance(variant, Variant) and variant.routed:
            k = min(2, len(variant.experts))
        found = {seed: self._trials.get((seed, task, name, k, masked)) for seed in self.seeds}
        return {seed: trial for seed, trial in found.items() if trial is not None}


def _trial(references: list[str], trial: dict) -> Trial:
    weights = np.array(trial["weights"]) if "weights" in trial else None
    figures = (trial.get("confidence", np.nan), trial.get("redundancy", np.nan))
    return Trial(tuple(references), tuple(trial["hypotheses"]), weights, *figures)


Pair = tuple[dict[int, Trial], dict[int, Trial]]


def difference(pairs: Sequence[Pair], seed: int = 0) -> Difference | None:
    """Return the mean over pairs of the first's character error rate less the second's, over the seeds that both have.

    The bootstrap draws seeds, the same for all pairs, and each pair's test clips, the same for both of it and for all
    seeds: what it leaves of a difference is not owed to which words were tested or how training began. None where a
    pair has no common seed.
    """
    common = sorted(set.intersection(*(set(one) & set(other) for one, other in pairs))) if pairs else []
    if not common:
        return None
    rng = np.random.default_rng(seed)
    drawn = rng.integers(len(common), size=(_DRAWS, len(common)))
    points, samples = 0.0, np.zeros(_DRAWS)
    for one, other in pairs:
        more = np.stack([one[s].edits - other[s].edits for s in common]).astype(float)  # (S, clips)
        lengths = one[common[0]].lengths
        clips = rng.integers(len(lengths), size=(_DRAWS, len(lengths)))
        counts = np.stack([np.bincount(row, minlength=len(lengths)) for row in clips])  # (draws, clips)
        by_seed = counts @ more.T / (counts @ lengths)[:, None]  # (draws, S)
        samples += np.take_along_axis(by_seed, drawn, axis=1).mean(axis=1)
        points += more.sum(axis=1).mean() / lengths.sum()
    low, high = np.percentile(samples / len(pairs), [2.5, 97.5])
    return Difference(100 * points / len(pairs), 100 * float(low), 100 * float(high))
