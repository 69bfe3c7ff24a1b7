"""What is around the models: each piece against the same thing worked out another way."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from signet_runtime.pose.holistic.attention import around_level, moved, sampled
from signet_runtime.pose.holistic.detection import Detections, anchors, decoded, merged, overlaps
from signet_runtime.pose.holistic.landmarks import refined
from signet_runtime.pose.holistic.rois import (
    Drift,
    Roi,
    aligned,
    around,
    hand_from_body,
    hand_from_hand,
    heading,
    still_there,
)
from signet_runtime.pose.holistic.smoothing import LowPass, OneEuro
from signet_runtime.pose.holistic.warp import crop

UP = math.pi / 2


def test_the_one_euro_filter_is_its_paper_s_formula_value_by_value():
    rng = np.random.default_rng(0)
    values = np.cumsum(rng.normal(size=(30, 5, 2)), axis=0)
    sizes = rng.uniform(50, 60, 30)
    rate, min_cutoff, beta = 30.0003, 0.05, 80.0
    smooth = OneEuro(rate, min_cutoff, beta)
    ours = np.array([smooth(value, size) for value, size in zip(values, sizes, strict=True)])

    def alpha(cutoff: float) -> float:
        tau, period = 1 / (2 * math.pi * cutoff), 1 / rate
        return 1 / (1 + tau / period)

    for joint in range(5):
        for axis in range(2):
            speed = result = previous = None
            for t, size in enumerate(sizes):
                x = values[t, joint, axis]
                change = 0.0 if previous is None else (x - previous) / size * rate
                speed = change if speed is None else alpha(1.0) * change + (1 - alpha(1.0)) * speed
                a = alpha(min_cutoff + beta * abs(speed))
                result = x if result is None else a * x + (1 - a) * result
                previous = x
                assert ours[t, joint, axis] == pytest.approx(result, abs=1e-9)


def test_filters_begin_anew_after_a_reset():
    smooth, low = OneEuro(30, 0.05, 1.0), LowPass()
    for value in (1.0, 5.0):
        smooth(np.array([value]), 1.0)
        low(np.array([value]), 0.1)
    smooth.reset()
    low.reset()
    assert smooth(np.array([9.0]), 1.0) == 9
    assert low(np.array([9.0]), 0.1) == 9
    assert low(np.array([0.0]), 0.1) == pytest.approx(8.1)


def bilinear(picture: np.ndarray, roi: Roi, side: int, *, zero_border: bool) -> np.ndarray:
    """Every pixel by itself: the square's corner is the crop's corner, with no half pixel anywhere."""
    height, width = picture.shape[:2]

    def pixel(y: int, x: int) -> np.ndarray:
        if zero_border and not (0 <= y < height and 0 <= x < width):
            return np.zeros(3)
        return picture[min(max(y, 0), height - 1), min(max(x, 0), width - 1)].astype(float)

    out = np.zeros((side, side, 3))
    for row in range(side):
        for column in range(side):
            u, v = (column / side - 0.5) * roi.side, (row / side - 0.5) * roi.side
            x = roi.x + u * math.cos(roi.angle) - v * math.sin(roi.angle)
            y = roi.y + u * math.sin(roi.angle) + v * math.cos(roi.angle)
            left, top = math.floor(x), math.floor(y)
            fx, fy = x - left, y - top
            out[row, column] = (1 - fy) * ((1 - fx) * pixel(top, left) + fx * pixel(top, left + 1)) + fy * (
                (1 - fx) * pixel(top + 1, left) + fx * pixel(top + 1, left + 1)
            )
    return out


@pytest.mark.parametrize("zero_border", [False, True])
@pytest.mark.parametrize("roi", [Roi(20, 15, 18, 0.0), Roi(5, 28, 40, 0.7), Roi(-60, 10, 30, -2.0)])
def test_a_crop_is_bilinear_with_the_border_that_was_asked_for(roi, zero_border):
    rng = np.random.default_rng(1)
    picture = rng.integers(0, 256, (5, 6, 3), np.uint8).repeat(6, axis=0).repeat(7, axis=1)
    expected = bilinear(picture, roi, 16, zero_border=zero_border)
    for low in (0.0, -1.0):
        out = np.empty((1, 16, 16, 3), np.float32)
        crop(picture, roi, out, low, zero_border=zero_border)
        grey = (out[0] - low) / (1 - low) * 255
        np.testing.assert_allclose(grey, expected, atol=1.01)  # whole grey levels


def test_what_is_outside_is_black_or_the_border():
    white = np.full((10, 10, 3), 255, np.uint8)
    out = np.empty((1, 8, 8, 3), np.float32)
    crop(white, Roi(500, 500, 4, 0.3), out, -1.0, zero_border=True)
    assert (out == -1).all()
    crop(white, Roi(500, 500, 4, 0.3), out)
    assert (out == 1).all()


@given(
    st.floats(-50, 50), st.floats(-50, 50), st.floats(1, 90), st.floats(-3, 3), st.lists(st.floats(0, 1), min_size=2)
)
def test_points_go_to_the_picture_where_the_crop_s_pixels_come_from(x, y, side, angle, fraction):
    roi = Roi(x, y, side, angle)
    point = np.array(fraction[:2])
    by_matrix = roi.matrix(64) @ np.append(point * 64, 1)
    np.testing.assert_allclose(roi.to_picture(point), by_matrix, atol=1e-9)
    assert np.linalg.norm(roi.to_picture(np.array([1.0, 0.5])) - (x, y)) == pytest.approx(side / 2)


def test_a_region_turns_with_what_is_in_it():
    middle = np.array([10.0, 10.0])
    assert heading(middle, np.add(middle, (0, -5)), UP) == pytest.approx(0)  # upright
    assert heading(middle, np.add(middle, (5, 0)), UP) == pytest.approx(UP)  # lying to the right: a quarter clockwise
    roi = aligned(middle, np.add(middle, (5, 0)), UP, 1.25)
    assert roi == pytest.approx((10, 10, 12.5, UP))
    # In the crop the point is straight up.
    np.testing.assert_allclose(roi.to_picture(np.array([0.5, 0.1])), np.add(middle, (5, 0)), atol=1e-9)


def test_a_box_around_points_is_square_by_its_longer_side_and_shifted_along_its_own_height():
    points = np.array([[0.0, 0.0], [10.0, 0.0], [0.0, 4.0]])
    assert around(points, 0, 1, 1.5) == pytest.approx((5, 2, 15, 0))
    assert around(points, 0, 1, 2.0, -0.5) == pytest.approx((5, 0, 20, 0))
    assert around(points, 0, 2, 1.0, -0.5) == pytest.approx((5 + 2, 2, 10, UP))  # turned: up is to the right


def test_a_hand_is_looked_for_ahead_of_its_wrist():
    roi = hand_from_body(np.array([0.0, 0.0]), np.array([0.0, -10.0]), np.array([0.0, -10.0]))
    assert roi == pytest.approx((0, -12, 54, 0))


@given(st.floats(-3, 3), st.floats(0.5, 4), st.floats(-100, 100), st.floats(-100, 100))
@settings(max_examples=40)
def test_a_hand_s_region_moves_turns_and_grows_with_the_hand(angle, scale, x, y):
    hand = np.random.default_rng(3).normal(size=(21, 2)) * 10 + np.linspace(0, -40, 21)[:, None] * (0, 1)
    still = hand_from_hand(hand)
    cos, sin = scale * math.cos(angle), scale * math.sin(angle)
    moved = hand_from_hand(hand @ np.array([[cos, sin], [-sin, cos]]) + (x, y))
    assert moved.side == pytest.approx(still.side * scale, rel=0.35)  # the first box is level, so it is not the same
    assert math.cos(moved.angle - still.angle - angle) == pytest.approx(1)


def test_a_region_is_kept_while_it_is_near_the_new_one_and_holds_the_landmarks():
    drift = Drift(angle=0.5, shift=0.2, scale=0.4, margin=-0.1)
    now, points = Roi(100, 100, 50, 0.1), np.array([[100.0, 100.0], [110.0, 95.0]])
    assert still_there(points, Roi(105, 98, 55, 0.3), now, drift)
    assert still_there(points, Roi(105, 98, 55, 0.3 - 2 * math.pi), now, drift)
    assert not still_there(points, Roi(105, 98, 55, 0.7), now, drift)
    assert not still_there(points, Roi(112, 100, 50, 0.1), now, drift)
    assert not still_there(points, Roi(100, 100, 75, 0.1), now, drift)
    assert not still_there(np.add(points, (23, 0)), now, now, drift)


def test_points_that_coincide_make_no_region():
    assert not aligned(np.zeros(2), np.zeros(2), UP, 1.25).exists()
    assert not Roi(math.nan, 0, 1, 0).exists()
    assert Roi(0, 0, 1, 0).exists()


def test_anchors_are_the_middles_of_cells_twice_a_layer():
    assert anchors(224, (8, 16, 32, 32, 32)).shape == (2254, 2)
    assert anchors(128, (8, 16, 16, 16)).shape == (896, 2)
    small = anchors(4, (2, 4))
    np.testing.assert_allclose(small[:4], [[0.25, 0.25], [0.25, 0.25], [0.75, 0.25], [0.75, 0.25]])
    np.testing.assert_allclose(small[-2:], [[0.5, 0.5]] * 2)


def test_decoding_gives_the_sure_ones_in_fractions_of_the_input():
    cells = np.array([[0.5, 0.5], [0.25, 0.75], [0.5, 0.5]])
    values = np.array([[10, 0, 20, 40, 5, 5], [0, 0, 10, 10, 0, 0], [0, 0, -1, 1, 0, 0]], np.float32)
    found = decoded(values, np.array([0.0, -3.0, 9.0]), cells, 100)
    assert found.scores == pytest.approx([0.5])  # the unsure and the one of negative width are dropped
    np.testing.assert_allclose(found.boxes, [[0.5, 0.3, 0.7, 0.7]])
    np.testing.assert_allclose(found.points, [[[0.55, 0.55]]])
    assert decoded(values, np.full(3, -9.0), cells, 100).points.shape == (0, 1, 2)


def test_overlapping_finds_become_their_weighted_mean():
    rng = np.random.default_rng(5)
    low = rng.uniform(0, 0.7, (40, 2))
    boxes = np.concatenate([low, low + rng.uniform(0.05, 0.3, (40, 2))], axis=1)
    scores = np.sort(rng.uniform(0.5, 1, 40))[::-1]
    points = rng.uniform(size=(40, 3, 2))
    ours = merged(Detections(scores, boxes, points))

    def iou(a: np.ndarray, b: np.ndarray) -> float:
        width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
        height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
        area = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - width * height
        return width * height / area

    left, expected = list(range(40)), []
    while left:
        group = [i for i in left if iou(boxes[left[0]], boxes[i]) > 0.3]
        total = sum(scores[i] for i in group)
        expected.append((scores[left[0]], sum(scores[i] * boxes[i] for i in group) / total))
        left = [i for i in left if i not in group]
    assert len(ours.scores) == len(expected) < 40
    for score, box, (expected_score, expected_box) in zip(ours.scores, ours.boxes, expected, strict=True):
        assert score == expected_score
        np.testing.assert_allclose(box, expected_box)


def test_boxes_without_area_overlap_nothing_and_end():
    flat = np.array([[0.5, 0.5, 0.5, 0.5]] * 3)
    assert (overlaps(flat[0], flat) == 0).all()
    assert len(merged(Detections(np.ones(3), flat, np.zeros((3, 1, 2)))).scores) == 3
    assert merged(Detections(np.ones(0), np.zeros((0, 4)), np.zeros((0, 1, 2)))).points.shape == (0, 1, 2)


def test_the_heatmap_moves_points_to_the_centre_of_what_is_around_them():
    rng = np.random.default_rng(7)
    heatmap = rng.normal(0, 2, (16, 16, 6)).astype(np.float32)
    heatmap[..., 4] = -5  # has nothing to say
    points = np.array([[0.5, 0.5], [0.02, 0.02], [0.99, 0.6], [1.3, 0.5], [0.5, 0.5], [0.3, 0.97]])
    ours = refined(points, heatmap)
    for index, (x, y) in enumerate(points):
        column, row = int(x * 16), int(y * 16)
        cells = [(r, c) for r in range(row - 4, row + 5) for c in range(column - 4, column + 5)]
        cells = [(r, c) for r, c in cells if 0 <= r < 16 and 0 <= c < 16]
        weight = {cell: 1 / (1 + math.exp(-heatmap[(*cell, index)])) for cell in cells}
        if index in (3, 4):
            np.testing.assert_array_equal(ours[index], points[index])
            continue
        total = sum(weight.values())
        expected = (
            sum(w * c for (_, c), w in weight.items()) / total,
            sum(w * r for (r, _), w in weight.items()) / total,
        )
        np.testing.assert_allclose(ours[index] * 16, expected, rtol=1e-6)


def test_a_second_look_is_where_mediapipe_s_chain_of_matrices_has_it():
    rng = np.random.default_rng(0)
    for angle in (-2.5, -0.3, 0.0, 0.2, 1.8):
        turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
        points = rng.normal(size=(20, 2)) * (5, 2) @ turn.T + (20, 30)
        corners = np.array([[20.0, 30.0], np.array([20.0, 30.0]) + turn @ (3, 0)])
        level = [
            (math.cos(-angle) * x - math.sin(-angle) * y, math.sin(-angle) * x + math.cos(-angle) * y)
            for x, y in points
        ]
        (left, top), (right, bottom) = (
            tuple(extreme(axis) for axis in zip(*level, strict=True)) for extreme in (min, max)
        )
        middle = turn @ [(left + right) / 2, (top + bottom) / 2]
        chain = np.eye(3)
        for step in (
            [[1, 0, middle[0]], [0, 1, middle[1]], [0, 0, 1]],
            [[*turn[0], 0], [*turn[1], 0], [0, 0, 1]],
            [[1.5 * (right - left) / 16, 0, 0], [0, 1.5 * (bottom - top) / 16, 0], [0, 0, 1]],
            [[1, 0, -8], [0, 1, -8], [0, 0, 1]],
        ):
            chain = chain @ np.array(step)
        np.testing.assert_allclose(around_level(points, corners, 16), chain[:2], atol=1e-12)


@pytest.mark.parametrize("shift", [(2.0, 3.0), (-1.0, 0.0), (8.0, 9.0), (100.0, 0.0)])
def test_features_are_sampled_between_the_middles_of_their_pixels_and_are_zero_beyond(shift):
    rng = np.random.default_rng(1)
    features = rng.normal(size=(12, 10, 3)).astype(np.float32)
    place = np.array([[0.7, -0.2, shift[0]], [0.3, 0.9, shift[1]]])
    ours = sampled(features, place, 6)
    assert ours.dtype == np.float32
    for row in range(6):
        for column in range(6):
            x, y = place @ [column + 0.5, row + 0.5, 1] - 0.5
            expected = np.zeros(3)
            if 0 <= x <= 9 and 0 <= y <= 11:
                for i in range(12):
                    for j in range(10):
                        expected += features[i, j] * max(0, 1 - abs(x - j)) * max(0, 1 - abs(y - i))
            np.testing.assert_allclose(ours[row, column], expected, atol=1e-5)


def test_what_a_second_look_finds_goes_back_to_where_it_looked():
    points = np.array([[1.0, 2.0], [-3.0, 0.5]])
    place = np.array([[0.5, -0.2, 10], [0.1, 0.4, 20]])
    for (x, y), found in zip(points, moved(points, place), strict=True):
        assert found == pytest.approx((0.5 * x - 0.2 * y + 10, 0.1 * x + 0.4 * y + 20))
