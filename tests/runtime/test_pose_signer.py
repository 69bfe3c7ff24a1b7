"""One signer is chosen and kept, whoever else is in view."""

from __future__ import annotations

import numpy as np

from signet_runtime.pose.signer import SignerTracker, follow_signer, largest_most_central

MIDDLE = (0.35, 0.1, 0.65, 0.9)
LEFT = (0.0, 0.1, 0.3, 0.9)
SMALL = (0.05, 0.5, 0.15, 0.7)


def track(*frames: list[tuple[float, ...]]) -> list[int | None]:
    tracker = SignerTracker()
    return [tracker.update(np.array(boxes)) for boxes in frames]


def test_equally_large_the_more_central_one_and_much_larger_wins_anywhere():
    assert largest_most_central(np.array([LEFT, MIDDLE])) == 1
    assert largest_most_central(np.array([LEFT, (0.48, 0.48, 0.52, 0.52)])) == 0


def test_the_signer_is_followed_across_the_frame_and_past_a_larger_newcomer():
    walk = [(0.3 - 0.02 * t, 0.2, 0.6 - 0.02 * t, 0.9) for t in range(12)]
    assert track(*([box] for box in walk)) == [0] * 12
    newcomer = (0.62, 0.0, 1.0, 1.0)
    assert track([walk[0]], *([newcomer, box] for box in walk[1:])) == [0] + [1] * 11


def test_order_of_the_boxes_does_not_matter():
    assert track([LEFT, MIDDLE], [MIDDLE, LEFT], [LEFT, MIDDLE]) == [1, 0, 1]


def test_who_stays_behind_is_not_taken_for_the_signer_who_left():
    assert track([SMALL, MIDDLE], [SMALL], [SMALL], [SMALL, MIDDLE]) == [1, None, None, 1]


def test_a_bystander_missed_for_a_moment_is_still_a_bystander():
    assert track([SMALL, MIDDLE], [SMALL], [], [SMALL], [SMALL, LEFT]) == [1, None, None, None, 1]


def test_a_bystander_who_walks_to_the_empty_place_is_not_the_signer():
    steps = [(0.05 + 0.02 * t, 0.1, 0.35 + 0.02 * t, 0.9) for t in range(14)]  # ends where the signer stood
    assert track([steps[0], (0.4, 0.1, 0.95, 0.9)], *([step] for step in steps)) == [1] + [None] * 14


def test_the_signer_comes_back_in_another_place_after_an_empty_frame():
    assert track([MIDDLE], [], [], [LEFT]) == [0, None, None, 0]


def test_no_boxes_at_all():
    assert track([], [], [MIDDLE]) == [None, None, 0]


def test_keypoints_of_several_people_become_one_signers():
    keypoints, scores = np.zeros((3, 2, 133, 2)), np.zeros((3, 2, 133))
    for t, people in enumerate([[SMALL, MIDDLE], [MIDDLE, SMALL], [SMALL, None]]):
        for person, box in enumerate(people):
            if box is not None:
                keypoints[t, person, :2] = np.reshape(box, (2, 2))
                scores[t, person, :2] = 0.9
    keypoints[:, :, 5], scores[:, :, 5] = 50.0, 0.1  # an unsure joint far away widens nobody's box
    one, one_scores = follow_signer(keypoints, scores)
    assert one.shape == (3, 133, 2) and one_scores.shape == (3, 133)
    np.testing.assert_allclose(one[:2, :2], np.broadcast_to(np.reshape(MIDDLE, (2, 2)), (2, 2, 2)))
    assert not one_scores[2].any() and not one[2].any()
