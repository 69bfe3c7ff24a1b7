"""How fast videos become keypoints, stage by stage, and against decoding everything and posing frame by frame.

    python -m benchmarks.pose_speed VIDEO... [--pose-weights DIR] [--detect-every N]

MediaPipe's own solution and rtmlib's are what others call, one frame after the other (rtmlib from 16 threads, as the
published extraction scripts do). The solution runs in a Python of its own (``python3.11 -m venv mp; mp/bin/pip install
mediapipe==0.10.21``), which ``--mediapipe-python`` or ``SIGNET_MEDIAPIPE_PYTHON`` names. The clock is the one
that the demonstration model reads.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click
import numpy as np

from benchmarks.latency_sections.alternatives import FrameByFrameHolistic, RtmlibInThreads, other_python
from benchmarks.measuring.report import Ratio, Report, Timing
from benchmarks.measuring.timing import Way, in_turns
from signet_runtime.bundle import Bundle
from signet_runtime.commands.console import exit_on_error
from signet_runtime.pose.estimators import PoseEstimator, load_estimator
from signet_runtime.sentences.keypoints import extract_poses
from signet_runtime.sources.video import Video

if TYPE_CHECKING:
    from collections.abc import Iterator

    Naive = Callable[[Sequence[np.ndarray]], Iterator[tuple[np.ndarray, np.ndarray]]]


class PerSecond:
    """Frames a second, the median over rounds, with the least and the most."""

    def __init__(self, frames: int, timing: Timing) -> None:
        self.frames, self.timing = frames, timing

    def __str__(self) -> str:
        if not self.timing.seconds:
            return str(self.timing)
        low, high = (self.frames / seconds for seconds in (max(self.timing.seconds), min(self.timing.seconds)))
        return f"{self.frames / self.timing.median:,.1f} ({low:,.1f}–{high:,.1f})"

    def as_json(self) -> object:
        return {"frames": self.frames, "seconds": self.timing.as_json()}


def decoded(path: Path, frame_rate: float | None = None) -> list[np.ndarray]:
    """All frames of a video at once, as the ways that this project is compared with hold them."""
    with Video(path, frame_rate) as video:
        return list(video)


def stages(path: Path, estimator: PoseEstimator, naive: Naive | None, clock: float | None) -> list[tuple[int, Way]]:
    """Ways of reading one video, each with the number of frames it poses, or decodes.

    Args:
        naive: poses frames that have been decoded; None where the others are not there.
        clock: the model's frame rate.
    """
    every, ticks = decoded(path), decoded(path, clock)

    def without_overlap() -> None:
        with Video(path) as video:
            for _ in estimator.estimate(video, live=True):
                pass

    def pose_alone() -> None:
        for _ in estimator.estimate(every):
            pass

    others: list[tuple[int, Way]] = []
    if naive is not None:
        one_after_the_other = partial(_pose_all, naive, path)
        others.append((len(every), Way("others: all decoded, then posed one by one", one_after_the_other)))
    return [
        (len(every), Way("decoding alone, every frame", lambda: decoded(path))),
        (len(every), Way("pose alone, every frame", pose_alone)),
        *others,
        (len(every), Way("ours, one frame after the other (live)", without_overlap)),
        (len(every), Way("ours, every frame", lambda: extract_poses(path, estimator))),
        (len(ticks), Way("ours, on the model's clock", lambda: extract_poses(path, estimator, frame_rate=clock))),
    ]


def _pose_all(naive: Naive, path: Path) -> None:
    for _ in naive(decoded(path)):
        pass


def measure(
    report: Report,
    path: Path,
    estimator: PoseEstimator,
    naive: Naive | None,
    clock: float | None,
    *,
    rounds: int,
    tell: Callable[[str], None],
) -> None:
    """Fill a table for one video and one estimator."""
    import torch

    ways = stages(path, estimator, naive, clock)
    in_turns([way for _, way in ways], rounds, torch.device("cpu"), tell)
    others = next((way.timing for _, way in ways if way.name.startswith("others")), None)
    table = report.table(
        f"{estimator.name}:{path.name}",
        f"{path.name} through {estimator.name}",
        "way",
        "frames",
        "ms",
        "frames/s",
        "times as fast as the others",
    )
    table.rows += [
        [
            way.name,
            frames,
            way.timing,
            PerSecond(frames, way.timing),
            Ratio(others, way.timing) if others is not None else None,
        ]
        for frames, way in ways
    ]
    table.notes.append(f"Median of {rounds} rounds in turns, least and most in brackets; ratios within each round.")


@click.command(help=__doc__.splitlines()[0] if __doc__ else None)
@click.argument("videos", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--mediapipe-python",
    metavar="PYTHON",
    type=click.Path(path_type=Path),
    default=other_python,
    help="Of an environment with mediapipe 0.10.21: measure its solution beside ours.",
)
@click.option("--pose-weights", metavar="DIR", type=click.Path(path_type=Path), help="RTMPose's: measure it as well.")
@click.option("--detect-every", metavar="N", type=click.IntRange(min=1), default=1, show_default=True)
@click.option("--rounds", metavar="N", type=click.IntRange(min=1), default=3, show_default=True)
def main(
    videos: tuple[Path, ...], mediapipe_python: Path | None, pose_weights: Path | None, detect_every: int, rounds: int
) -> None:
    """Print a table a video and estimator."""
    report = Report("python -m benchmarks.pose_speed " + " ".join(path.name for path in videos))
    with exit_on_error("pose_speed"):
        clock = Bundle.load(None).manifest.frame_rate
        pairs: list[tuple[PoseEstimator, Naive | None]] = [
            (
                load_estimator("mediapipe", "mediapipe", offline=True),
                FrameByFrameHolistic(mediapipe_python) if mediapipe_python else None,
            )
        ]
        if pose_weights is not None:
            rtmpose = load_estimator(
                "rtmpose-balanced", "mediapipe", offline=True, weights=pose_weights, detect_every=detect_every
            )
            pairs.append((rtmpose, RtmlibInThreads(pose_weights, "cpu")))
        for path in videos:
            for estimator, naive in pairs:
                measure(
                    report,
                    path,
                    estimator,
                    naive,
                    clock,
                    rounds=rounds,
                    tell=lambda line: click.echo(line, err=True),
                )
    click.echo(report.markdown())


if __name__ == "__main__":
    main()
