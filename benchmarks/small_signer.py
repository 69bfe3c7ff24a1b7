"""How well a signer is read who is small in the frame, beside somebody still.

    python -m benchmarks.small_signer VIDEO [--frames N]

The video is placed in each corner of a 1080p frame, a third, a quarter and a sixth of its height, alone, beside a
still person of the same size, and beside a large still person. Against what is found in the video itself: the share
of the frames with both hands in which both are found, and the median distance in widths of the shoulders.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice, product
from pathlib import Path

import click
import cv2
import numpy as np

from signet_runtime.errors import SignetError
from signet_runtime.pose.estimators import PoseEstimator
from signet_runtime.pose.holistic.estimator import HolisticEstimator
from signet_runtime.pose.models import find_models
from signet_runtime.sources.video import Video

SIZE = np.array([1920, 1080])
PARTS = (3, 4, 6)
CORNERS = {"top left": (0, 0), "top right": (1, 0), "bottom left": (0, 1), "bottom right": (1, 1)}
NEIGHBOURS = ("nobody", "as small", "large")
LIMITS = (0.9, 0.08)  # at a quarter

_BODY, _FACE, _HANDS = slice(0, 11), slice(23, 91), slice(91, 133)


def placed(
    frames: Sequence[np.ndarray], part: int, corner: tuple[int, int], neighbour: str
) -> tuple[np.ndarray, np.ndarray, Iterator[np.ndarray]]:
    """Return where the video is in pixels, its size there, and the frames."""
    height, width = frames[0].shape[:2]
    size = np.array([SIZE[1] // part * width // height, SIZE[1] // part])
    place = (SIZE - size) * corner
    background = np.full((SIZE[1], SIZE[0], 3), 90, np.uint8)
    # The first frame, mirrored so that they are not taken for each other.
    person = frames[0][:, ::-1]
    if neighbour == "large":
        tall = SIZE[1] * 5 // 6
        _put(
            background, person, np.array([SIZE[0] // 2 - 400, SIZE[1] - tall]), np.array([tall * width // height, tall])
        )
    elif neighbour == "as small":
        _put(background, person, np.add(place, (size[0] * (1 - 2 * corner[0]), 0)), size)

    def every() -> Iterator[np.ndarray]:
        for frame in frames:
            image = background.copy()
            _put(image, frame, place, size)
            yield image

    return place, size, every()


def _put(image: np.ndarray, picture: np.ndarray, place: np.ndarray, size: np.ndarray) -> None:
    (x, y), (width, height) = place.tolist(), size.tolist()
    image[y : y + height, x : x + width] = cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)


def _found(
    estimator: PoseEstimator, frames: Iterator[np.ndarray] | Sequence[np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    keypoints, scores = zip(*estimator.estimate(frames), strict=True)
    return np.stack(keypoints), np.stack(scores)


@click.command(help=__doc__.splitlines()[0] if __doc__ else None)
@click.argument("video", type=click.Path(path_type=Path))
@click.option("--frames", "count", metavar="N", type=click.IntRange(min=1), help="Only the first so many.")
def main(video: Path, count: int | None) -> None:
    """Print the table; exit with 1 when a limit is missed."""
    try:
        estimator = HolisticEstimator(find_models(offline=True))
        with Video(video) as recording:
            frames = list(islice(recording, count))
    except SignetError as error:
        raise click.ClickException(str(error)) from error
    pixels = np.array(frames[0].shape[1::-1])
    expected, confident = _found(estimator, frames)
    shoulders = np.median(np.linalg.norm((expected[:, 5] - expected[:, 6]) * pixels, axis=-1))
    both_hands = (confident[:, 91] > 0) & (confident[:, 112] > 0)
    click.echo("| height | corner | neighbour | both hands | body | face | hands |")
    click.echo("| --- " * 7 + "|")
    met = True
    for part, (name, corner), neighbour in product(PARTS, CORNERS.items(), NEIGHBOURS):
        place, size, images = placed(frames, part, corner, neighbour)
        keypoints, scores = _found(estimator, images)
        distance = np.linalg.norm(((keypoints * SIZE - place) / size - expected) * pixels, axis=-1) / shoulders
        # Somebody else's hands are not the signer's.
        theirs = distance[:, 0] < 0.5
        hands = float((theirs & (scores[:, 91] > 0) & (scores[:, 112] > 0))[both_hands].mean())
        distance = np.where((scores > 0.3) & (confident > 0.3), distance, np.nan)[theirs]
        medians = [float(np.nanmedian(distance[:, joints])) for joints in (_BODY, _FACE, _HANDS)]
        click.echo(
            f"| 1/{part} | {name} | {neighbour} | {hands:.1%} | " + " | ".join(f"{m:.3f}" for m in medians) + " |"
        )
        met = met and (part != 4 or (hands >= LIMITS[0] and max(medians) <= LIMITS[1]))
    raise SystemExit(0 if met else 1)


if __name__ == "__main__":
    main()
