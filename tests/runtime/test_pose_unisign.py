"""Uni-Sign's layout in every published variant; what is not that layout is one line with the key and the frame."""

from __future__ import annotations

import io
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from signet_runtime.errors import InputError
from signet_runtime.pose.sequence import PoseSequence
from signet_runtime.pose.unisign import read_unisign

FRAMES = 6
RNG = np.random.default_rng(0)
POINTS = RNG.uniform(0.2, 0.8, (FRAMES, 1, 133, 2))
SCORES = RNG.uniform(0, 1, (FRAMES, 1, 133)).astype(np.float32)


def read(content: object, protocol: int = 4) -> PoseSequence:
    return read_unisign(io.BytesIO(pickle.dumps(content, protocol)))


def clip(**changes: object) -> dict[str, object]:
    return {"keypoints": list(POINTS), "scores": list(SCORES), **changes}


def same(sequence: PoseSequence, frames: slice = slice(None)) -> None:
    np.testing.assert_array_equal(sequence.keypoints, POINTS[frames, 0].astype(np.float32))
    np.testing.assert_array_equal(sequence.scores, SCORES[frames, 0])


def test_arrays_lists_and_one_array_with_and_without_the_axis_of_people() -> None:
    objects = np.empty(FRAMES, object)
    objects[:] = list(POINTS)
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        for points in (
            list(POINTS),
            POINTS,
            objects,
            POINTS.tolist(),
            [*POINTS[:3], *POINTS[3:].tolist()],
            list(POINTS[:, 0]),
            POINTS[:, 0],
            POINTS[:, 0].tolist(),
            tuple(POINTS),
        ):
            for scores in (
                list(SCORES),
                SCORES,
                SCORES[:, 0],
                SCORES.tolist(),
                list(SCORES[:, 0]),
                SCORES[:, 0].tolist(),
            ):
                sequence = read({"keypoints": points, "scores": scores}, protocol)
                same(sequence)
    assert (sequence.fps, sequence.size, sequence.source) == (25, (1, 1), "rtmpose")


def test_the_frames_in_use() -> None:
    same(read(clip(start=1, end=4)), slice(1, 4))
    same(read(clip(start=np.int64(2), end=np.int32(6))), slice(2, 6))
    same(read(clip(start=2)), slice(2, None))
    same(read(clip(end=2)), slice(0, 2))
    unused = [*POINTS[:5], np.full((1, 133, 2), np.nan)]  # is nobody's business
    same(read(clip(keypoints=unused, end=5)), slice(0, 5))
    for start, end in ((3, 3), (4, 2), (-1, 3), (0, 7), (6, 7), (2, -1)):
        with pytest.raises(InputError, match=f"'start' {start} and 'end' {end}.* 6 frames"):
            read(clip(start=start, end=end))
    for start in ("1", 1.5, [1], True):
        with pytest.raises(InputError, match="'start'"):
            read(clip(start=start))


def test_frames_in_which_nobody_was_found() -> None:
    empty = np.zeros((0, 133, 2)), np.zeros((0, 133))
    for points, scores in ((None, None), ([], []), empty, (np.zeros(0), np.zeros(0)), (None, SCORES[2])):
        sequence = read(clip(keypoints=[*POINTS[:2], points, *POINTS[3:]], scores=[*SCORES[:2], scores, *SCORES[3:]]))
        assert len(sequence) == FRAMES and not sequence.scores[2].any() and not sequence.keypoints[2].any()
        np.testing.assert_array_equal(sequence.keypoints[3:], POINTS[3:, 0].astype(np.float32))


def test_several_people_in_some_frames() -> None:
    small = 0.1 * POINTS
    two = [np.concatenate([small[t], POINTS[t]]) if t % 2 else POINTS[t] for t in range(FRAMES)]
    scores = [np.concatenate([SCORES[t], SCORES[t]]) if t % 2 else SCORES[t] for t in range(FRAMES)]
    same(read({"keypoints": two, "scores": scores}))
    same(read({"keypoints": [frame.tolist() for frame in two], "scores": scores}))
    with pytest.raises(InputError, match="frame 1 has 2 people in 'keypoints' and 1 in 'scores'"):
        read({"keypoints": two, "scores": list(SCORES)})


def test_pixels_and_the_size_of_the_frame_in_either_order() -> None:
    wide = POINTS.copy()
    wide[:, 0, 0] = 0.95, 0.95
    pixels = list(wide * (1280, 720))
    for w_h in ([1280, 720], (1280, 720), np.array([1280, 720]), [720, 1280], [[1280, 720]] * FRAMES):
        sequence = read(clip(keypoints=pixels, w_h=w_h))
        assert sequence.size == (1280, 720)
        np.testing.assert_allclose(sequence.keypoints, wide[:, 0], atol=1e-6)
    same(read(clip(w_h=[1280, 720], fps=50)))  # How2Sign's are fractions in spite of it
    with pytest.raises(InputError, match="w_h"):
        read(clip(keypoints=pixels))
    for wrong in ([1280], [1280, 0], [1280, np.nan], "1280", [1, 2, 3], [[]], [None, 1], {"w": 1}, [10**400, 1]):
        with pytest.raises(InputError, match="'w_h' is not 2 positive numbers"):
            read(clip(w_h=wrong))
    for wrong in (0, -25, np.nan, np.inf, "25", [25, 25]):
        with pytest.raises(InputError, match="'fps' is not a positive number"):
            read(clip(fps=wrong))


def test_a_joint_that_was_not_found_may_score_a_little_below_nothing() -> None:
    scores = SCORES.copy()
    scores[2, 0, 7], scores[3, 0, 7] = -0.02, 1.08
    sequence = read(clip(scores=list(scores)))
    assert (sequence.scores[2, 7], sequence.scores[3, 7]) == (0, 1)
    for wrong in (-0.6, -100.0, 11.0, 255.0):
        scores[2, 0, 7] = wrong
        with pytest.raises(InputError, match=f"frame 2 of 'scores' has a {wrong:.4g}"):
            read(clip(scores=list(scores)))


@pytest.mark.parametrize(
    ("content", "message"),
    {
        "132 joints": (clip(keypoints=list(POINTS[:, :, :132])), "frame 0 of 'keypoints' has 132 joints, not the 133"),
        "132 scores": (clip(scores=list(SCORES[:, :, :132])), "frame 0 of 'scores' has 132 joints, not the 133"),
        "132 in lists": (clip(keypoints=POINTS[:, :, 1:].tolist()), "frame 0 of 'keypoints' has 132 joints"),
        "132 without people": (clip(keypoints=list(POINTS[:, 0, 1:])), "frame 0 of 'keypoints' has 132 joints"),
        "132 times 133": (  # which has as many numbers as 132 frames of 133
            {"keypoints": np.zeros((133, 1, 132, 2)), "scores": np.zeros((133, 1, 132))},
            "132 joints",
        ),
        "one frame": (clip(keypoints=[*POINTS[:4], POINTS[4, :, :17], POINTS[5]]), "frame 4 .* has 17 joints"),
        "three numbers": (clip(keypoints=list(np.zeros((FRAMES, 1, 133, 3)))), "frame 0 .* shape \\(1, 133, 3\\)"),
        "three in lists": (clip(keypoints=np.zeros((FRAMES, 1, 133, 3)).tolist()), "frame 0 .* not x and y"),
        "flat": (clip(keypoints=np.zeros((FRAMES, 266))), "frame 0 .* shape"),
        "a frame less": (clip(keypoints=list(POINTS[1:])), "5 frames of 'keypoints' and 6 of 'scores'"),
        "no frames": ({"keypoints": [], "scores": []}, "0 frames"),
        "no scores": ({"keypoints": list(POINTS)}, "no 'scores'"),
        "no keypoints": ({"a": 1}, "no 'keypoints'"),
        "no list": (clip(keypoints=3), "'keypoints' is not a list"),
        "no axis": (clip(keypoints=np.array(3.0)), "'keypoints' is not a list"),
        "no dict": ([1, 2], "holds a list"),
        "text": (clip(keypoints=["a"] * FRAMES), "frame 0 of 'keypoints' is not an array"),
        "text in lists": (clip(scores=[["a"] * 133] * FRAMES), "frame 0 of 'scores'"),
        "digits": (clip(scores=[["1"] * 133] * FRAMES), "frame 0 of 'scores'"),
        "NaN": (clip(keypoints=[*POINTS[:5], np.full((1, 133, 2), np.nan)]), "frame 5 of 'keypoints' .* NaN"),
        "infinite": (clip(scores=[np.full((1, 133), np.inf), *SCORES[1:]]), "frame 0 of 'scores' .* infinite"),
        "too large": (clip(keypoints=[[[[10**400, 0]] * 133]] * FRAMES), "frame 0 of 'keypoints' .* too large"),
        "unlike people": (clip(keypoints=[[POINTS[0, 0], POINTS[0, 0, 1:]]] * FRAMES), "frame 0 .* different numbers"),
    }.values(),
)
def test_other_content_is_one_line_with_the_key_and_the_frame(content: object, message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        read(content)
    assert "\n" not in str(error.value)


def test_lists_in_lists_in_themselves_are_not_put_together() -> None:
    endless: list = []
    endless += [endless, endless]
    many: list = [0.0] * 1000
    for _ in range(8):
        many = [many] * 1000
    crowd = [[[0.0, 0.0]] * 133] * 10**5
    many_people = np.zeros((1000, 133, 2)), np.zeros((1000, 133))
    for content in (
        clip(keypoints=endless, scores=endless),
        clip(keypoints=[endless] * FRAMES),
        clip(scores=[endless] * FRAMES),
        clip(keypoints=[many] * FRAMES),
        clip(scores=[many] * FRAMES),
        clip(w_h=endless),
        clip(w_h=many),
        clip(keypoints=[crowd] * FRAMES),
        {"keypoints": [None] * 10**6, "scores": [None] * 10**6},
        {"keypoints": many_people[:1] * 10**4, "scores": many_people[1:] * 10**4},
        {"keypoints": np.zeros((10**9, 0, 133, 2)), "scores": np.zeros((10**9, 0, 133))},
    ):
        with pytest.raises(InputError):
            read(content)


_VALID = [
    pickle.dumps(clip(keypoints=list(POINTS[:2]), scores=list(SCORES[:2]), start=0, end=2), p) for p in (0, 2, 4, 5)
]
_VALID.append(pickle.dumps(clip(keypoints=POINTS[:1].tolist(), scores=SCORES[:1].tolist(), w_h=[640, 480], fps=25)))


@settings(max_examples=400)
@given(
    st.sampled_from(_VALID),
    st.lists(
        st.tuples(
            st.floats(0, 1, exclude_max=True), st.sampled_from(["set", "cut", "drop", "copy"]), st.binary(max_size=3)
        )
    ),
)
def test_a_damaged_pickle_is_refused_or_still_a_sequence(data: bytes, damages: list[tuple[float, str, bytes]]) -> None:
    for place, damage, new in damages:
        # The headers are at the beginning and at the end; between them are thousands of numbers.
        at = int(place * 400) - 200 if damage != "cut" else int(place * len(data))
        at = min(max(at % len(data), 0), len(data) - 1) if data else 0
        data = {
            "set": data[:at] + new + data[at + len(new) :],
            "cut": data[:at],
            "drop": data[:at] + data[at + 1 :],
            "copy": data[:at] + new + data[at:],
        }.get(damage, data)
    try:
        sequence = read_unisign(io.BytesIO(data))
    except InputError as error:
        assert "\n" not in str(error)
    else:
        assert np.isfinite(sequence.keypoints).all() and sequence.scores.shape == (len(sequence), 133)
