"""Letter clips drawn as an avatar and read back by a pose estimator: training data with its errors in it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from tqdm import tqdm

from signet_runtime.files import whole_file
from signet_runtime.pose.estimators import PoseEstimator
from signet_train.data.spelled.clips import REDRAWN_STRIDE, lexicon, load_landmarks
from signet_train.data.spelled.drawing import draw_frames


def redraw(sign_languages: Iterable[str], estimator: PoseEstimator, out: Path) -> None:
    """Write ``out/<clip>.npz`` (keypoints (T, 133, 2), scores (T, 133)) for every letter of the languages.

    A language's clips are drawn one after another as one video, because a tracker that starts anew at every
    letter errs in other ways than one that follows a signer. Languages already there are skipped.
    """
    out.mkdir(parents=True, exist_ok=True)
    for sign_language in sign_languages:
        alphabet = lexicon()[sign_language]
        if all((out / f"{path.stem}.npz").is_file() for path in alphabet.values()):
            continue
        found = estimator.estimate(tqdm(_frames(sign_language), desc=sign_language, unit="frame", mininterval=5))
        for letters, path in alphabet.items():
            count = len(load_landmarks(sign_language, letters).points[::REDRAWN_STRIDE])
            keypoints, scores = zip(*(next(found) for _ in range(count)), strict=True)
            with whole_file(out / f"{path.stem}.npz") as temporary:
                np.savez_compressed(temporary, keypoints=np.float32(keypoints), scores=np.float32(scores))


def _frames(sign_language: str) -> Iterator[np.ndarray]:
    for letters in lexicon()[sign_language]:
        clip = load_landmarks(sign_language, letters)
        yield from draw_frames(clip.points[::REDRAWN_STRIDE], clip.scores[::REDRAWN_STRIDE])
