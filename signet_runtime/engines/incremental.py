"""What experts see in a sentence, computed while it is signed.

A frame's features depend on a few frames around it (`StreamingEncoder.reach`). So they are final soon after it was
signed, if its regions are: those of the normalisation `causal`. When the sentence ends, its last frames are left, and
the mT5 encoder.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeGuard

import numpy as np

from signet_runtime.engines.encoder import Encoded, Encoder, StreamingEncoder
from signet_runtime.pose.sequence import PoseSequence
from signet_runtime.regions import Regions
from signet_runtime.sentences.segmenter import PosedFrame, Segmenter

# Frames that are computed together. With each come twice the reach of others that are computed again: of fewer at a
# time more in all, of more at a time more when the sentence ends.
CHUNK = 16

# Seconds for which nobody waits: a frame that takes no longer was there already.
_AT_ONCE = 1e-3


class IncrementalEncoder:
    """An `Encoder` of one clip that grows; what it gives is what ``encoder`` gives for the clip.

    The clip may as well change, shrink or be another one: what is the same at its beginning is not computed again.
    """

    max_clips = 1
    can_stream = False  # it is what makes a stream of another

    def __init__(self, encoder: StreamingEncoder) -> None:
        self._encoder = encoder
        self._clip: Regions = {}
        self._features: np.ndarray | None = None  # (frames that are final, F)

    def update(self, clip: Regions) -> None:
        """Compute what has become final, of regions float32 (T, J, 3) of a clip that goes on."""
        self._advance(clip)

    def __call__(self, clips: Sequence[Regions]) -> Encoded:
        """Encode one clip as it is, float32 (T, J, 3)."""
        (clip,) = clips
        features = self._advance(clip)
        return self._encoder.read(features[None], np.ones((1, len(features)), np.int64))

    def _advance(self, clip: Regions) -> np.ndarray:
        """Return all frames' features (T, F), as if the clip ended here; keep those that do not depend on that."""
        reach, length = self._encoder.reach, len(clip["body"])
        known = self._unchanged(clip)
        start = max(0, known - reach)
        found = self._encoder.features({name: region[start:] for name, region in clip.items()})[known - start :]
        features = found if self._features is None else np.concatenate([self._features[:known], found])
        self._clip, self._features = clip, features[: max(0, length - reach)]
        return features

    def _unchanged(self, clip: Regions) -> int:
        """Count the frames that were final and still are: those with the same frames within reach."""
        if self._features is None:
            return 0
        both = min(len(clip["body"]), len(self._clip["body"]))
        same = np.all([(clip[name][:both] == self._clip[name][:both]).all(axis=(1, 2)) for name in clip], axis=0)
        common = both if same.all() else int(same.argmin())
        return min(len(self._features), max(0, common - self._encoder.reach))


def incremental(encoder: Encoder) -> IncrementalEncoder | None:
    """Return what reads clips along with ``encoder`` while they grow; None where its experts need the whole clip."""
    return IncrementalEncoder(encoder) if _can_stream(encoder) else None


def _can_stream(encoder: Encoder) -> TypeGuard[StreamingEncoder]:
    return encoder.can_stream


def read_along(
    frames: Iterable[PosedFrame],
    encoder: IncrementalEncoder,
    regions: Callable[[PoseSequence], Regions],
    segmenter: Segmenter,
    whole: int | None,
    longest: int,
) -> Iterator[PosedFrame]:
    """Pass the frames on; while the next one is waited for, ``encoder`` reads what there is of their sentence.

    What is there already is passed on at once: to compute little by little what could be computed together takes
    longer. So keypoints from a file are not read along, nor is what comes faster than it can be read.

    Args:
        frames: that are given to ``segmenter`` by whoever iterates, unless they are one sentence by ``whole``, as of
            `signet_runtime.sentences.segmenter.cut`.
        regions: of a sentence, as the encoder is given them in the end.
        longest: frames of a sentence that the model reads; longer ones are thinned when they are whole.
    """
    held: list[PosedFrame] | None = []  # while they may be one sentence
    fresh = 0
    since = time.perf_counter()
    for frame in frames:
        waited = time.perf_counter() - since > _AT_ONCE
        if held is not None:
            held.append(frame)
            if whole is not None and len(held) > whole:
                held = None
        yield frame
        fresh += 1
        if waited and fresh >= CHUNK:
            fresh = 0
            poses = segmenter.join(held) if held else _poses(segmenter)
            if poses is not None and len(poses) <= longest:
                encoder.update(regions(poses))
        since = time.perf_counter()


def _poses(segmenter: Segmenter) -> PoseSequence | None:
    sentence = segmenter.so_far()
    return None if sentence is None else sentence.poses
