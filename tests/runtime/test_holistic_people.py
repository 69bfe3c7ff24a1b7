"""Who is looked at, and through which part of the frame."""

from __future__ import annotations

import numpy as np
import pytest

from signet_runtime.pose.holistic.detection import Detections
from signet_runtime.pose.holistic.people import People, View, tiles_of, view_of
from signet_runtime.pose.holistic.rois import Roi

SIZE = (1920, 1080)


def person(x: float, y: float, side: float) -> tuple[float, float, float, float]:
    return x - side / 2, y - side / 2, x + side / 2, y + side / 2


class Room:
    """A detector that sees people, given by the middle and side of their upper bodies, unless they are too small.

    It tells where it looks by the address of the picture's memory, as views share the frame's.
    """

    def __init__(self, frame: np.ndarray) -> None:
        self.frame, self.people, self.looks = frame, [], 0

    def __call__(self, picture: np.ndarray, roi: Roi) -> Detections:
        self.looks += 1
        offset = picture.__array_interface__["data"][0] - self.frame.__array_interface__["data"][0]
        top, left = divmod(offset // 3, self.frame.shape[1])
        seen = [
            (x - left, y - top, side)
            for x, y, side in self.people
            if side / roi.side > 0.2 and 0 <= x - left < picture.shape[1] and 0 <= y - top < picture.shape[0]
        ]
        points = np.array([[(0, 0), (0, 0), (x, y), (x + side / 2, y)] for x, y, side in seen]).reshape(-1, 4, 2)
        return Detections(np.full(len(seen), 0.9), np.zeros((len(seen), 4)), points)


@pytest.fixture
def frame() -> np.ndarray:
    return np.zeros((SIZE[1], SIZE[0], 3), np.uint8)


def views(people: People, frame: np.ndarray, count: int, *, moving=(), lost=False) -> list[View]:
    found = []
    for index in range(count):
        for x, y, side in moving:
            half = int(side / 4)
            frame[y - half : y + half, x - half : x + half] = 90 * (index % 2) if index else 0
        found.append(people.view(frame, lost=lost or index == 0))
    return found


def test_one_large_person_is_seen_in_the_whole_frame_at_the_cost_of_few_looks(frame):
    room = Room(frame)
    room.people = [(900, 600, 900)]
    assert set(views(People(room), frame, 41, moving=room.people)) == {View(0, 0, 1920, 1080)}
    assert room.looks == 6  # frames 0, 5, 10, 20, 30, 40, and no closer one


def test_a_small_signer_gets_a_view_that_stays(frame):
    room = Room(frame)
    room.people = [(1700, 150, 250)]
    found = views(People(room), frame, 31, moving=room.people)
    assert len(set(found)) == 1
    left, top, right, bottom = found[0]
    assert left < 1700 - 250 and right == 1920 and top == 0 and 150 + 250 < bottom < 600


def test_somebody_still_is_given_up_for_somebody_who_moves(frame):
    room = Room(frame)
    signer, still = (1800, 900, 200), (1550, 900, 200)
    room.people = [signer, still]
    found = views(People(room), frame, 31, moving=[signer])
    assert found[0].left < still[0] < found[0].right  # the more central one, at first
    assert all(still[0] < view.left < signer[0] < view.right for view in found[5:])


def test_a_small_signer_is_found_beside_a_large_person_who_is_still(frame):
    room = Room(frame)
    room.people = [(800, 600, 900), (1800, 150, 200)]
    found = views(People(room), frame, 31, moving=room.people[1:])
    assert found[0] == View(0, 0, 1920, 1080)
    assert all(view.left > 1400 and view.bottom < 600 for view in found[5:])


def test_a_signer_who_waits_is_not_given_up_for_somebody_who_passes(frame):
    room = Room(frame)
    room.people = [(900, 500, 700), (1700, 500, 600)]
    people = People(room)
    found = []
    for index in range(31):
        frame[400:500, 800:1000] = 6 * min(index, 1)  # breathes
        frame[500:800, 1600:1800] = 90 * (index % 2)
        found.append(people.view(frame, lost=index == 0))
    assert set(found) == {View(0, 0, 1300, 1080)}
    assert room.looks <= 8  # and no closer one


def test_who_has_moved_once_stays_the_signer(frame):
    room = Room(frame)
    room.people = [(900, 500, 700), (1700, 500, 600)]
    people = People(room)
    first = views(people, frame, 11, moving=room.people[:1])
    later = views(people, frame, 30, moving=room.people[1:])
    assert set(first + later) == {View(0, 0, 1300, 1080)}


def test_an_empty_room_is_looked_at_closely_less_and_less_often(frame):
    room = Room(frame)
    views(People(room), frame, 301, lost=True)
    assert room.looks == 61 + len(tiles_of(*SIZE)) * 8  # every fifth frame; closely at 0, 5, 15, 35, 75, 135, 195, 255


def test_tiles_cover_the_frame_and_overlap_by_half():
    for width, height in ((1920, 1080), (720, 850), (1000, 4000), (640, 640)):
        tiles = tiles_of(width, height)
        seen = np.zeros((height, width), int)
        side = tiles[0].right - tiles[0].left
        for left, top, right, bottom in tiles:
            assert (right - left, bottom - top) == (side, side)
            seen[top:bottom, left:right] += 1
        assert seen.min() == 1 and (seen[:, width // 2] >= 2).all()
    assert tiles_of(200, 2000) == []


def test_the_cut_never_goes_through_the_signers_shoulders():
    signer = person(400, 450, 400)
    twice, beside, behind = person(420, 450, 400), person(800, 500, 400), person(450, 450, 300)
    for others, view in (
        ([], None),
        ([twice], None),
        ([behind], None),
        ([beside], View(0, 0, 600, 1000)),
        ([twice, beside], View(0, 0, 600, 1000)),
    ):
        assert view_of(np.array([signer, *others]), 0, None, (1000, 1000)) == view
    cut = View(0, 0, 600, 1000)
    assert view_of(np.array([signer]), 0, cut, (1000, 1000)) == cut  # the neighbour may only be hidden
    assert view_of(np.array([beside]), 0, cut, (1000, 1000)) is None  # the signer walked out of it
    assert view_of(np.zeros((0, 4)), None, cut, (1000, 1000)) == cut


def test_a_small_view_ends_half_way_to_neighbours_on_every_side():
    signer = person(900, 500, 200)
    around = [person(1100, 520, 200), person(700, 480, 200), person(910, 250, 200), person(890, 760, 200)]
    left, top, right, bottom = view_of(np.array([signer, *around]), 0, None, SIZE)
    assert (left, right) == (800, 1001) and (top, bottom) == (375, 631)


def test_a_small_view_follows_whoever_walks_out_of_it_or_comes_near():
    view = view_of(np.array([person(900, 500, 200)]), 0, None, SIZE)
    assert view_of(np.array([person(930, 520, 220)]), 0, view, SIZE) == view
    assert view_of(np.array([person(1200, 500, 200)]), 0, view, SIZE) != view
    assert view_of(np.array([person(900, 500, 900)]), 0, view, SIZE) is None
