"""How large a clip's keypoints are, and how long loading them takes, from published pickles and from a pose store.

    python -m benchmarks.pose_store [PICKLE…]

The pickles are in the layout of the published archives: protocol 4, a float64 (1, 133, 2) and a float32 (1, 133)
array a frame, 256 frames of made-up motion; or the ones given. What they are compared with is `pickle.load` and
`np.stack`, which trusts the file; everything else gives a `PoseSequence`. Each way loads ten random ones of its clips,
all ways in turn, and the medians are compared. The files are in the page cache, and too large for the processor's.
"""

from __future__ import annotations

import pickle
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np

from signet_runtime.errors import ExitCode
from signet_runtime.pose.files import read_keypoints, write_keypoints
from signet_runtime.pose.sequence import PoseSequence
from signet_train.data.store.arrow import PoseStore, new_store, quantisation_error, quantise

FRAMES = 256
MADE_UP = 100  # clips as pickles and .npz, so that no cache of the processor holds them all
STORED = 1000  # clips in the store
FASTER, SMALLER = 10.0, 3.0  # than the pickles: what the store is for


def motion(rng: np.random.Generator) -> PoseSequence:
    """Return a random walk of a random person."""
    walk = rng.uniform(0.3, 0.7, (1, 133, 2)) + np.cumsum(rng.normal(0, 0.003, (FRAMES, 133, 2)), axis=0)
    return PoseSequence(walk, rng.uniform(0, 1, (FRAMES, 133)), 25.0, (1280, 720), "rtmpose")


def published(sequence: PoseSequence) -> bytes:
    """Return the clip as Uni-Sign publishes clips."""
    content = {
        "keypoints": list(sequence.keypoints[:, None].astype(np.float64)),
        "scores": list(sequence.scores[:, None]),
    }
    return pickle.dumps(content, protocol=4)


def trusting(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Do what a published data loader does first; only for files that are one's own."""
    with path.open("rb") as file:
        content = pickle.load(file)
    return np.stack(content["keypoints"]).astype(np.float32), np.stack(content["scores"]).astype(np.float32)


def compare(pickles: list[Path], directory: Path, rounds: int, trusted: bool) -> bool:
    """Print the table for these clips; whether the store keeps its promises (said of trusted pickles only)."""
    sequences = [read_keypoints(path) for path in pickles]
    npz = [directory / f"{i}.npz" for i in range(len(pickles))]
    for path, sequence in zip(npz, sequences, strict=True):
        write_keypoints(path, sequence)
    stored = directory / "clips.arrow"
    with new_store(stored) as clips:
        for i in range(STORED):
            clips.add(f"{i}", quantise(sequences[i % len(sequences)]), origin=f"clip {i}")
    store = PoseStore.open(stored)
    ways: dict[str, Callable[[int], object]] = {
        "pickle.load + np.stack": lambda i: trusting(pickles[i % len(pickles)]),
        "pickle, our reader": lambda i: read_keypoints(pickles[i % len(pickles)]),
        ".npz": lambda i: read_keypoints(npz[i % len(npz)]),
        "pose store": lambda i: PoseStore.open(stored)[f"{i}"],
    }
    if not trusted:  # a file from elsewhere is not executed, not even to see how long that takes
        del ways["pickle.load + np.stack"]
    for clip_id in store.ids:  # warm
        store[clip_id]
    times: dict[str, list[float]] = {name: [] for name in ways}
    rng = np.random.default_rng(1)
    for _ in range(rounds):
        for name, load in ways.items():
            for clip in rng.integers(STORED, size=10).tolist():
                began = time.perf_counter()
                load(clip)
                times[name].append(time.perf_counter() - began)
    frames = sum(map(len, sequences))
    of_pickles = sum(path.stat().st_size for path in pickles) / frames
    stored_frames = sum(len(sequences[i % len(sequences)]) for i in range(STORED))
    sizes = {
        "pickle.load + np.stack": of_pickles,
        "pickle, our reader": of_pickles,
        ".npz": sum(path.stat().st_size for path in npz) / frames,
        "pose store": stored.stat().st_size / stored_frames,
    }
    medians = {name: float(np.median(of_way)) for name, of_way in times.items()}
    slowest = next(iter(medians))
    print(f"{'':<24}{'bytes/frame':>12}{'smaller':>9}{'ms/clip':>10}{'faster':>9}")
    for name in ways:
        smaller, faster = of_pickles / sizes[name], medians[slowest] / medians[name]
        print(f"{name:<24}{sizes[name]:>12.0f}{smaller:>8.2f}x{medians[name] * 1e3:>10.3f}{faster:>8.1f}x")
    error = max(quantisation_error(sequence, quantise(sequence)) for sequence in sequences)
    print(f"largest error of a coordinate in the store: {error:.4f} pixels at 1920x1080\n")
    return smaller >= SMALLER and (faster >= FASTER or not trusted)


@click.command(help=__doc__.splitlines()[0] if __doc__ else None)
@click.argument("pickles", nargs=-1, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--rounds", default=30, show_default=True, type=click.IntRange(1), help="Ten loads of every kind each.")
def main(pickles: tuple[Path, ...], rounds: int) -> None:
    """Print a table for made-up clips and one for those given; exit with 1 when a limit is missed."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        rng = np.random.default_rng(0)
        made_up = [directory / f"{i}.pkl" for i in range(MADE_UP)]
        for path in made_up:
            path.write_bytes(published(motion(rng)))
        print(f"{MADE_UP} made-up clips of {FRAMES} frames")
        met = compare(made_up, directory, rounds, trusted=True)
        if pickles:
            print(f"{len(pickles)} given clips")
            compare(list(pickles), directory, rounds, trusted=False)
    raise SystemExit(ExitCode.DONE if met else ExitCode.FAILED)


if __name__ == "__main__":
    main()
