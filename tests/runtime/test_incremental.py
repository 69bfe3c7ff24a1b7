"""A sentence that is read along is read as it is in the end, whatever it looked like before, and mostly once."""

from __future__ import annotations

import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_bundle import random_poses

from signet_runtime.engines.encoder import FEATURES, INPUTS, OUTPUTS
from signet_runtime.engines.incremental import CHUNK, IncrementalEncoder, read_along
from signet_runtime.engines.onnx import OnnxEncoder
from signet_runtime.errors import BundleError
from signet_runtime.pose.sequence import PoseSequence
from signet_runtime.regions import extract_regions
from signet_runtime.sentences.segmenter import Pauses, PosedFrame, Segmenter, cut
from signet_runtime.skeleton import REGIONS

TAPS = np.array([[0.5, -0.3, 0.2], [0.1, 0.7, -0.4], [-0.6, 0.2, 0.9]])  # of three convolutions: the reach is 3


class Session:
    """Has the inputs and outputs of a graph, and runs a function."""

    def __init__(self, inputs: tuple[str, ...], outputs: tuple[str, ...], function: Any) -> None:
        self.names, self.function = (inputs, outputs), function

    def get_inputs(self) -> list[Any]:
        return [SimpleNamespace(name=name) for name in self.names[0]]

    def get_outputs(self) -> list[Any]:
        return [SimpleNamespace(name=name) for name in self.names[1]]

    def run(self, _: list[str], feed: dict[str, np.ndarray]) -> list[np.ndarray]:
        return self.function(feed)


class Experts:
    """Convolutions over time with zeros beyond both ends, and how many frames they were run on."""

    def __init__(self) -> None:
        self.frames: list[int] = []

    def __call__(self, feed: dict[str, np.ndarray]) -> list[np.ndarray]:
        mask = feed["attention_mask"][..., None]
        x = np.concatenate([feed[name].reshape(*mask.shape[:2], -1)[..., ::17] for name in REGIONS], axis=-1)
        self.frames.append(mask.shape[1])
        for before, now, after in TAPS:
            padded = np.pad(x * mask, ((0, 0), (1, 1), (0, 0)))
            x = np.tanh(1 + before * padded[:, :-2] + now * padded[:, 1:-1] + after * padded[:, 2:])
        return [x.astype(np.float32)]


def read(feed: dict[str, np.ndarray]) -> list[np.ndarray]:
    mask = feed["attention_mask"]
    states = feed["features"].cumsum(axis=1)
    return [states, mask, states.mean(axis=(1, 2))[:, None]]


@pytest.fixture
def experts() -> Experts:
    return Experts()


def encoder_of(experts: Experts) -> OnnxEncoder:
    features: Any = Session(INPUTS, (FEATURES,), experts)
    rest: Any = Session((FEATURES, "attention_mask"), OUTPUTS, read)
    return OnnxEncoder(rest, features, len(TAPS))


def clip_of(*numbers: int) -> dict[str, np.ndarray]:
    """Frames by number: the same number is the same frame."""
    frames = [np.random.default_rng(number) for number in numbers]
    return {
        name: np.stack([rng.uniform(-1, 1, (len(region.joints), 3)).astype(np.float32) for rng in frames])
        for name, region in REGIONS.items()
    }


edits = st.lists(
    st.tuples(st.sampled_from(["grow", "insert", "cut", "anew", "read"]), st.integers(0, 10**4)), max_size=12
)


@settings(max_examples=80, deadline=None)
@given(edits)
def test_whatever_happens_to_a_clip_it_is_read_as_it_is(changes: list[tuple[str, int]]) -> None:
    experts = Experts()
    encoder = encoder_of(experts)
    along, numbers = IncrementalEncoder(encoder), [1]
    for i, (kind, number) in enumerate([*changes, ("read", 0)]):
        if kind == "grow":
            numbers = [*numbers, *range(100 * i, 100 * i + number % 20)]
        elif kind == "insert":
            numbers.insert(number % (len(numbers) + 1), number)
        elif kind == "cut":
            numbers = numbers[: 1 + number % len(numbers)]
        elif kind == "anew":
            numbers = [number]
        clip = clip_of(*numbers)
        if kind == "read":
            expected, found = encoder([clip]), along([clip])
            np.testing.assert_allclose(found.hidden_states, expected.hidden_states, atol=1e-5, rtol=0)
            np.testing.assert_allclose(found.routing_weights, expected.routing_weights, atol=1e-6, rtol=0)
            np.testing.assert_array_equal(found.attention_mask, expected.attention_mask)
        else:
            along.update(clip)


def test_what_is_final_is_not_computed_again(experts: Experts) -> None:
    along, clip, reach = IncrementalEncoder(encoder_of(experts)), clip_of(*range(100)), len(TAPS)
    for stop in range(20, 100, 20):
        along.update({name: region[:stop] for name, region in clip.items()})
    along([clip])
    assert experts.frames == [20, *[20 + 2 * reach] * 4]


def test_a_graph_of_another_kind_is_said_so(experts: Experts) -> None:
    features: Any = Session(INPUTS, ("states",), experts)
    rest: Any = Session((FEATURES, "attention_mask"), OUTPUTS, read)
    with pytest.raises(BundleError, match="features engine has the outputs states, not features; export"):
        OnnxEncoder(rest, features, 3)
    with pytest.raises(BundleError, match="encoder engine has the inputs attention_mask, features, not body"):
        OnnxEncoder(rest)


# --- While frames are waited for ---------------------------------------------------------------------------------


def arriving(poses: PoseSequence, every: float) -> Iterator[PosedFrame]:
    for i, (keypoints, scores) in enumerate(zip(poses.keypoints, poses.scores, strict=True)):
        time.sleep(every)
        yield PosedFrame(i / poses.fps, keypoints, scores, 1, time.perf_counter())


def regions(poses: PoseSequence) -> dict[str, np.ndarray]:
    return extract_regions(poses, "causal")


def sentences(
    poses: PoseSequence, experts: Experts, every: float, whole: int | None, longest: int
) -> tuple[list[PoseSequence], list[int]]:
    """What is cut, and the frames that the experts were run on before the last of it."""
    along = IncrementalEncoder(encoder_of(experts))
    segmenter = Segmenter(poses.fps, poses.size, poses.source, longest, Pauses())
    frames = read_along(arriving(poses, every), along, regions, segmenter, whole, longest)
    found = []
    for sentence in cut(frames, segmenter, whole=whole):
        before = list(experts.frames)
        expected = encoder_of(Experts())([regions(sentence.poses)])
        encoded = along([regions(sentence.poses)])
        np.testing.assert_allclose(encoded.hidden_states, expected.hidden_states, atol=1e-5, rtol=0)
        found.append(sentence.poses)
    return found, before


@pytest.mark.parametrize("whole", [0, 200, None])
def test_nothing_is_lost_and_most_is_read_before_the_end(experts: Experts, whole: int | None) -> None:
    poses = random_poses(1, frames=90)
    found, before = sentences(poses, experts, 0.002, whole, 200)
    assert len(found) == 1
    assert np.isin(found[0].keypoints, poses.keypoints).all()
    assert len(before) >= 3  # a chunk at a time
    last = experts.frames[-1]
    assert last <= CHUNK + 3 * len(TAPS) + 15  # frames that came while nobody waited may be among them


def test_what_is_there_already_is_not_read_piece_by_piece(experts: Experts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "signet_runtime.engines.incremental._AT_ONCE", 60.0
    )  # nothing is late, however busy the machine
    _, before = sentences(random_poses(1, frames=90), experts, 0.0, None, 200)
    assert before == []


def test_what_will_be_thinned_is_not_read_along(experts: Experts) -> None:
    _, before = sentences(random_poses(1, frames=90), experts, 0.002, None, 40)
    assert sum(before) <= 40 + 2 * len(TAPS) * len(before)


def test_a_forced_cut_leaves_a_beginning_that_is_still_right(experts: Experts) -> None:
    found, _ = sentences(random_poses(2, frames=120), experts, 0.002, 0, 50)  # compared in `sentences`
    assert len(found) >= 3
