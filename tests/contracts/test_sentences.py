"""The segmenter on real signers' hands: words that are apart come apart, and no word is cut."""

from __future__ import annotations

import numpy as np
import pytest

from signet_runtime.sentences.segmenter import Pauses, PosedFrame, Segmenter, cut
from signet_train.data.spelled.clips import CAMERA_FPS, SIGN_LANGUAGES, Pace, spell, words

REST, MOVE = 1.8, 0.3  # seconds between words, and of them until the hand is where the next word begins


@pytest.mark.parametrize("sign_language", SIGN_LANGUAGES)
@pytest.mark.parametrize("rest", [True, False], ids=["hands down", "hands held"])
def test_words_of_every_alphabet_come_apart(sign_language: str, rest: bool) -> None:
    rng = np.random.default_rng(0)
    listed = words(sign_language, split="test", max_letters=6)
    clips = [spell(word, sign_language, Pace(rest=rest)) for word in rng.choice(listed, size=4, replace=False)]
    keypoints, scores, starts, count = [], [], [], 0
    for clip, after in zip(clips, [*clips[1:], clips[0]], strict=True):
        t = np.clip(np.arange(1, REST * CAMERA_FPS + 1) / CAMERA_FPS / MOVE, 0, 1)[:, None, None]
        still = clip.keypoints[-1] + t * (after.keypoints[0] - clip.keypoints[-1])
        keypoints += [clip.keypoints, still + rng.normal(0, 0.0007, still.shape)]
        scores += [clip.scores, np.repeat(clip.scores[-1:], len(still), axis=0)]
        starts.append(count / CAMERA_FPS)
        count += len(clip) + len(still)
    frames = [
        PosedFrame(i / CAMERA_FPS, points, confidence, 1, 0.0)
        for i, (points, confidence) in enumerate(zip(np.concatenate(keypoints), np.concatenate(scores), strict=True))
    ][:: round(CAMERA_FPS / 6.25)]
    found = list(cut(frames, Segmenter(6.25, clips[0].size, clips[0].source, 512, Pauses())))
    middles = [s.start + s.poses.duration / 2 for s in found]
    ends = [*starts[1:], count / CAMERA_FPS]
    assert len(found) == len(clips)
    assert all(start - 0.6 < m < end - 0.6 for start, m, end in zip(starts, middles, ends, strict=True))
