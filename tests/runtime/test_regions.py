"""What the model is given of keypoints: by each normalisation what it says, by `causal` nothing of what comes later."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from signet_runtime.pose.sequence import PoseSequence
from signet_runtime.regions import NORMALISATIONS, extract_regions, prepare, sample_frames
from signet_runtime.skeleton import CONFIDENCE, REGIONS


@st.composite
def recordings(draw: st.DrawFn) -> PoseSequence:
    """Somebody of whom more or less is found, now and then nothing, moving or as still as a picture."""
    frames, rng = draw(st.integers(1, 12)), np.random.default_rng(draw(st.integers(0, 10**6)))
    keypoints = rng.normal(0.5, 0.2, (frames, 133, 2))
    if draw(st.booleans()):
        keypoints[:] = keypoints[:1, :1]
    scores = rng.uniform(0, draw(st.sampled_from([0.2, 0.32, 1.0])), (frames, 133))
    scores[rng.random(frames) < draw(st.sampled_from([0, 0.5]))] = 0
    return PoseSequence(keypoints, scores, 25.0, (640, 480), "test")


def by_the_book(clip: PoseSequence, frame: int, seen: int) -> dict[str, np.ndarray]:
    """One frame on the box about the confident body joints of the first ``seen`` frames, joint by joint."""
    body = REGIONS["body"].joints
    points = [
        clip.keypoints[t, j].astype(np.float64) for t in range(seen) for j in body if clip.scores[t, j] > CONFIDENCE
    ]
    low, high = np.min(points or [[0, 0]], axis=0), np.max(points or [[0, 0]], axis=0)
    side = max(high - low) if len(points) >= 4 else 0.0
    found = {}
    for name, region in REGIONS.items():
        found[name] = np.zeros((len(region.joints), 3), np.float32)
        for i, joint in enumerate(region.joints):
            if clip.scores[frame, joint] <= CONFIDENCE or side == 0:
                continue
            xy = clip.keypoints[frame, joint].astype(np.float64)
            if region.root is None:
                xy = ((xy - (low + high - side) / 2) / side - 0.5) * 2
            else:
                xy = (xy - clip.keypoints[frame, region.joints[region.root]]) / side
            found[name][i] = [*np.clip(xy, -1, 1), clip.scores[frame, joint]]
    return found


@settings(max_examples=60, deadline=None)
@given(recordings(), st.sampled_from(NORMALISATIONS))
def test_regions_are_what_their_normalisation_says(clip: PoseSequence, normalisation: str) -> None:
    found = extract_regions(clip, normalisation)
    for frame in range(len(clip)):
        expected = by_the_book(clip, frame, len(clip) if normalisation == "unisign" else frame + 1)
        for name, region in found.items():
            np.testing.assert_array_equal(region[frame], expected[name], err_msg=f"{name} of frame {frame}")


@settings(max_examples=60, deadline=None)
@given(recordings(), st.data())
def test_in_the_causal_normalisation_nothing_depends_on_later_frames(clip: PoseSequence, data: st.DataObject) -> None:
    until = data.draw(st.integers(1, len(clip)))
    whole, part = (extract_regions(c, "causal") for c in (clip, clip.take(np.arange(until))))
    for name, region in part.items():
        np.testing.assert_array_equal(region, whole[name][:until])


def test_both_normalisations_agree_on_the_last_frame() -> None:
    rng = np.random.default_rng(3)
    clip = PoseSequence(rng.random((9, 133, 2)), rng.uniform(0.4, 1, (9, 133)), 25.0, (640, 480), "test")
    unisign, causal = (extract_regions(clip, normalisation) for normalisation in NORMALISATIONS)
    for name in REGIONS:
        np.testing.assert_array_equal(unisign[name][-1], causal[name][-1])
        assert not np.array_equal(unisign[name][0], causal[name][0])


def test_there_is_no_normalisation_by_another_name() -> None:
    clip = PoseSequence(np.zeros((1, 133, 2)), np.zeros((1, 133)), 25.0, (640, 480), "test")
    with pytest.raises(ValueError, match="no normalisation 'uni' among unisign, causal"):
        extract_regions(clip, "uni")


class Model(NamedTuple):
    frame_rate: float | None
    max_frames: int
    normalisation: str
    long_clips: str = "sampled"


def clip_at(fps: float, frames: int) -> PoseSequence:
    rng = np.random.default_rng(frames)
    return PoseSequence(rng.uniform(0, 1, (frames, 133, 2)), np.full((frames, 133), 0.9), fps, (640, 480), "test")


@pytest.mark.parametrize("normalisation", NORMALISATIONS)
@pytest.mark.parametrize(("fps", "frames", "read"), [(50.0, 60, 30), (50.0, 200, 64), (5.0, 60, 60)])
def test_a_model_reads_a_clip_on_its_clock_thinned_and_normalised(
    fps: float, frames: int, read: int, normalisation: str
) -> None:
    clip = clip_at(fps, frames)
    found = prepare(clip, Model(25.0, 64, normalisation))
    at_rate = clip.resample(25.0)
    assert len(found["body"]) == read
    expected = extract_regions(at_rate.take(sample_frames(len(at_rate), 64)), normalisation)
    for name, region in expected.items():
        np.testing.assert_array_equal(found[name], region)


def test_a_model_without_a_clock_reads_every_frame() -> None:
    assert len(prepare(clip_at(50.0, 60), Model(None, 64, "unisign"))["body"]) == 60


def test_frames_are_drawn_in_order_and_never_twice_where_there_are_more() -> None:
    draws = [sample_frames(100, 30, np.random.default_rng(seed)) for seed in (0, 0, 1)]
    for drawn in draws:
        assert len(set(drawn)) == 30 and sorted(drawn) == list(drawn) and drawn[-1] < 100
    assert list(draws[0]) == list(draws[1]) != list(draws[2])
    rng = np.random.default_rng(0)
    assert list(sample_frames(30, 30, rng)) == list(range(30))
    assert rng.integers(1000) == np.random.default_rng(0).integers(1000)  # for so few nothing is drawn


@pytest.mark.parametrize("seed", [None, 7])
def test_of_a_long_clip_a_model_may_read_the_beginning_in_training_too(seed: int | None) -> None:
    clip = clip_at(25.0, 200)
    rng = None if seed is None else np.random.default_rng(seed)
    found = prepare(clip, Model(25.0, 64, "unisign", "first"), rng)
    for name, region in extract_regions(clip.take(np.arange(64)), "unisign").items():
        np.testing.assert_array_equal(found[name], region)
