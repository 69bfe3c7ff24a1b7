"""What a bundle's confidence is worth, learned from samples that were not trained on.

The logistic model sees texts with how much of each was right, and clips of motion that says nothing, made of the same
samples: whatever is read there is wrong. The same three kinds of it serve any corpus: a pose that is held, frames in no
order, and hands that wave about.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from signet_runtime.bundle import Bundle
from signet_runtime.confidence.calibration import Calibration
from signet_runtime.confidence.evidence import describe_motion, gather
from signet_runtime.engines.load import LoadedEngine, load_engine
from signet_runtime.errors import InputError
from signet_runtime.generation.hypothesis import Hypothesis
from signet_runtime.pose.sequence import PoseSequence
from signet_runtime.regions import Regions, prepare
from signet_runtime.skeleton import REGIONS
from signet_train.data.manifest import Row, read_manifest
from signet_train.data.poses import load_poses
from signet_train.evaluation.metrics import character_error_rate

_REFERENCE = 1000  # clips of the training split that say what the model was trained on
_FEWEST = 20
_TOGETHER = 16
_SEED = 0

# A covariance of few clips is shrunk so far towards its diagonal.
_SHRINKAGE = 0.1
_PENALTY = 1.0  # of the regression's squared weights, on standardised evidence

_SHOULDERS = [5, 6]
_ARMS = ((9, 7, list(REGIONS["left_hand"].joints)), (10, 8, list(REGIONS["right_hand"].joints)))


@dataclass(frozen=True)
class Fit:
    """A calibration, and how well one of half of the samples does on the other half.

    Attributes:
        calibration: of all samples.
        auroc: how often a text of a sample gets a higher reliability than one of motion that says nothing.
        errors: share of characters that are wrong in all texts of samples, and in the surest 80% of them.
        expected: mean reliability of the samples' texts, and the share of their characters that is right.
    """

    calibration: Calibration
    auroc: float
    errors: tuple[float, float]
    expected: tuple[float, float]

    def report(self) -> str:
        """Tell the figures in a line."""
        texts, nothing = self.calibration.samples
        return (
            f"confidence, fitted on {texts} samples and {nothing} clips of motion that says nothing; by halves, each "
            f"judged by the other: AUROC {self.auroc:.3f}, characters wrong {self.errors[0]:.2%}, of the surest 80% "
            f"{self.errors[1]:.2%}; mean reliability {self.expected[0]:.3f} where {self.expected[1]:.3f} is right"
        )


def calibrate_confidence(
    bundle: Bundle, manifest: Path, split: str, progress: Callable[[int, int], None] = lambda done, total: None
) -> Fit:
    """Fit the logistic model of a bundle.

    Args:
        bundle: whose ONNX engine reads the samples.
        manifest: with samples of ``split``, which the model has not been trained on, and if possible of "train", which
            then say what it has been trained on.
        progress: called with the number of clips read and of all.

    Raises:
        InputError: the manifest cannot be used, or has too few samples.
    """
    table = read_manifest(manifest)
    rows = [row for row in table.split(split) if (row.text or "").strip()]
    if len(rows) < _FEWEST:
        raise InputError(
            f"{manifest}: {len(rows)} samples with a text in the split {split!r}; confidence is calibrated on "
            f"{_FEWEST} at least, which were not trained on"
        )
    known = list(table.split("train")) or rows
    order = np.random.default_rng(_SEED).permutation(len(known))[:_REFERENCE]
    total, done = len(order) + len(rows) * (1 + len(NOTHING)), 0

    def read(row: Row, number: int) -> PoseSequence:
        return load_poses(row.poses, table.root, np.random.default_rng([_SEED, number]))

    def counted(clips: Iterator[Regions]) -> Iterator[Regions]:
        nonlocal done
        for clip in clips:
            done += 1
            progress(done, total)
            yield clip

    motions = counted(prepare(read(known[i], int(i)), bundle.manifest) for i in order)
    mean, whitening = _gaussian(np.stack([describe_motion(clip) for clip in motions]))

    engine = load_engine(bundle, "onnx")
    evidence: list[np.ndarray] = []
    right: list[float] = []
    samples = (read(row, len(known) + i) for i, row in enumerate(rows))
    clips = counted(prepare(clip, bundle.manifest) for sample in samples for clip in _with_nothing(sample))
    for i, (text, found) in enumerate(_texts(engine, clips, mean, whitening)):
        evidence.append(found)
        row = rows[i // (1 + len(NOTHING))]
        says = i % (1 + len(NOTHING)) == 0
        right.append(max(0.0, 1 - character_error_rate([row.text or ""], [text])) if says else 0.0)
    engine.close()
    features, targets = np.array(evidence), np.array(right)
    is_text = np.arange(len(targets)) % (1 + len(NOTHING)) == 0

    fold = np.arange(len(targets)) // (1 + len(NOTHING)) % 2
    judged = np.empty(len(targets))
    for half in (0, 1):
        judged[fold == half] = _apply(_fit(features, targets, is_text, fold != half), features[fold == half])
    means, scales, weights, bias = _fit(features, targets, is_text, np.ones(len(targets), bool))
    calibration = Calibration(
        means=tuple(map(float, means)),
        scales=tuple(map(float, scales)),
        weights=tuple(map(float, weights)),
        bias=float(bias),
        motion_mean=tuple(_rounded(mean)),
        whitening=tuple(_rounded(whitening.ravel())),
        samples=(int(is_text.sum()), int((~is_text).sum())),
    )
    wrong = 1 - targets[is_text]
    surest = np.argsort(-judged[is_text], kind="stable")[: max(1, round(0.8 * len(wrong)))]
    return Fit(
        calibration,
        auroc(judged[is_text], judged[~is_text]),
        (float(wrong.mean()), float(wrong[surest].mean())),
        (float(judged[is_text].mean()), float(targets[is_text].mean())),
    )


def auroc(positive: np.ndarray, negative: np.ndarray) -> float:
    """Return how often one of ``positive`` is above one of ``negative``; equal ones count a half."""
    more = (positive[:, None] > negative[None]).mean()
    return float(more + (positive[:, None] == negative[None]).mean() / 2)


def _with_nothing(sample: PoseSequence) -> Iterator[PoseSequence]:
    yield sample
    rng = np.random.default_rng([_SEED, len(sample)])
    for make in NOTHING:
        yield make(sample, rng)


def held(sample: PoseSequence, rng: np.random.Generator) -> PoseSequence:
    """Return one of a clip's frames, held for as long, trembling as what an estimator finds does."""
    still = sample.take(np.full(len(sample), rng.integers(len(sample))))
    trembling = rng.normal(0, 0.003, still.keypoints.shape).astype(np.float32)
    return replace(still, keypoints=still.keypoints + trembling)


def shuffled(sample: PoseSequence, rng: np.random.Generator) -> PoseSequence:
    """Return a clip's frames in no order."""
    return sample.take(rng.permutation(len(sample)))


def waving(sample: PoseSequence, rng: np.random.Generator) -> PoseSequence:
    """Return a clip whose hands also swing about, each in waves of its own, and the arms with them."""
    keypoints = sample.keypoints.copy()
    width = float(np.abs(np.diff(keypoints[:, _SHOULDERS, 0], axis=1)).mean())
    seconds = np.arange(len(sample)) / sample.fps
    for wrist, elbow, hand in _ARMS:
        waves = np.sin(2 * np.pi * rng.uniform(0.3, 2.0, (1, 2)) * seconds[:, None] + rng.uniform(0, 2 * np.pi, (1, 2)))
        swing = (waves * rng.uniform(0.3, 1.0) * width).astype(np.float32)
        keypoints[:, [wrist, *hand]] += swing[:, None]
        keypoints[:, elbow] += swing / 2
    return replace(sample, keypoints=keypoints)


NOTHING: tuple[Callable[[PoseSequence, np.random.Generator], PoseSequence], ...] = (held, shuffled, waving)


def _texts(
    engine: LoadedEngine, clips: Iterator[Regions], mean: np.ndarray, whitening: np.ndarray
) -> Iterator[tuple[str, np.ndarray]]:
    """Yield what is read in each clip, and the evidence for it."""
    batch: list[Regions] = []

    def read() -> Iterator[tuple[str, np.ndarray]]:
        encoded = engine.encoder(batch)
        best: list[Hypothesis] = [found[0] for found in engine.decoder.search(encoded)]
        texts = engine.decoder.text([text.tokens for text in best])
        for text, hypothesis, routing, regions in zip(texts, best, encoded.routing_weights, batch, strict=True):
            yield text, gather(hypothesis, routing, regions, mean, whitening)

    for clip in clips:
        batch.append(clip)
        if len(batch) == _TOGETHER:
            yield from read()
            batch = []
    if batch:
        yield from read()


def _gaussian(motions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return mean (M,) and whitening (M, M) of motions (clips, M), the covariance shrunk towards its diagonal."""
    mean = motions.mean(axis=0)
    covariance = np.cov(motions, rowvar=False)
    variances = np.diag(covariance)
    floor = 1e-4 + 1e-3 * float(variances.mean())  # what never varies must not be infinitely far
    covariance = (1 - _SHRINKAGE) * covariance + np.diag(_SHRINKAGE * variances + floor)
    return mean, np.linalg.inv(np.linalg.cholesky(covariance)).T


def _fit(
    features: np.ndarray, targets: np.ndarray, is_text: np.ndarray, used: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """Return means, scales, weights and bias by Newton's method; texts and nothing weigh the same in all."""
    features, targets, is_text = features[used], targets[used], is_text[used]
    means, scales = features.mean(axis=0), features.std(axis=0) + 1e-3
    inputs = np.column_stack([(features - means) / scales, np.ones(len(features))])
    shares = np.where(is_text, 1.0, is_text.sum() / max(1, (~is_text).sum()))
    penalty = np.diag([*[_PENALTY] * features.shape[1], 0.0])
    weights = np.zeros(inputs.shape[1])
    for _ in range(50):
        expected = 1 / (1 + np.exp(-inputs @ weights))
        gradient = inputs.T @ (shares * (expected - targets)) + penalty @ weights
        curvature = (inputs * (shares * np.maximum(expected * (1 - expected), 1e-6))[:, None]).T @ inputs + penalty
        step = np.linalg.solve(curvature, gradient)
        weights -= step * min(1.0, 2.0 / max(1e-9, float(np.abs(step).max())))
        if np.abs(step).max() < 1e-8:
            break
    return means, scales, weights[:-1], float(weights[-1])


def _apply(fit: tuple[np.ndarray, np.ndarray, np.ndarray, float], features: np.ndarray) -> np.ndarray:
    means, scales, weights, bias = fit
    return 1 / (1 + np.exp(-(((features - means) / scales) @ weights + bias)))


def _rounded(values: np.ndarray) -> list[float]:
    return [float(f"{value:.6g}") for value in values]
