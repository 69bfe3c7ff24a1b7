"""What reading along buys: from a sentence's last frame to the encoder's states, at paper size, in simulated real time.

    python -m benchmarks.streaming                            128 and 256 frames at 25 frames a second, two minutes
    python -m benchmarks.streaming --small --rounds 2         the demo's size
    python -m benchmarks.streaming --markdown benchmarks/results/streaming-cpu.md

Keypoints arrive one frame at a time, nothing else runs. Three experts, two of which the router picks; random weights
and motion, which cost what real ones do. Every round takes up to 15 frames less than the full number, so that sentences
end anywhere in a chunk. *At the end* is what the same model takes when it reads nothing before the last frame: in two
graphs, as a causal model is exported, and in one, as any other.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import click
import numpy as np

from benchmarks.export import random_checkpoint
from benchmarks.measuring.report import header
from signet_export.encoder import export_encoder, export_split_encoder
from signet_export.fuse import FusedEncoder
from signet_export.split import reach
from signet_runtime.engines.incremental import CHUNK, IncrementalEncoder, read_along
from signet_runtime.engines.onnx import OnnxEncoder
from signet_runtime.engines.session import create_session
from signet_runtime.pose.sequence import PoseSequence
from signet_runtime.regions import extract_regions
from signet_runtime.sentences.segmenter import Pauses, PosedFrame, Segmenter, join

_LONGEST = 256


def motion(frames: int, fps: float, rng: np.random.Generator) -> PoseSequence:
    """Somebody whose every joint is in view and wanders."""
    keypoints = rng.uniform(0.3, 0.7, (1, 133, 2)) + rng.normal(0, 0.005, (frames, 133, 2)).cumsum(axis=0)
    return PoseSequence(keypoints, rng.uniform(0.4, 1, (frames, 133)), fps, (640, 480), "random")


def arriving(poses: PoseSequence) -> Iterator[PosedFrame]:
    """Yield the frames, each when it is due."""
    start = time.perf_counter()
    for i, (keypoints, scores) in enumerate(zip(poses.keypoints, poses.scores, strict=True)):
        time.sleep(max(0.0, start + i / poses.fps - time.perf_counter()))
        yield PosedFrame(i / poses.fps, keypoints, scores, 1, start + i / poses.fps)


def regions(poses: PoseSequence) -> dict[str, np.ndarray]:
    """As a causal model reads them."""
    return extract_regions(poses, "causal")


def read(encoder: OnnxEncoder, poses: PoseSequence) -> tuple[float, float, np.ndarray]:
    """Frames as they come: seconds from the last to the states, share of a core used until then, and the states."""
    along = IncrementalEncoder(encoder)
    segmenter = Segmenter(poses.fps, poses.size, poses.source, _LONGEST, Pauses())
    began, used = time.perf_counter(), time.process_time()
    seen = []
    for frame in read_along(arriving(poses), along, regions, segmenter, None, _LONGEST):
        seen.append(frame)
        share = (time.process_time() - used) / max(time.perf_counter() - began, 1e-9)
    encoded = along([regions(join(seen, poses.fps, poses.size, poses.source))])
    return time.perf_counter() - seen[-1].arrived, share, encoded.hidden_states


def at_once(encoder: OnnxEncoder, poses: PoseSequence) -> tuple[float, np.ndarray]:
    """Nothing before the last frame: seconds to the states, and the states."""
    began = time.perf_counter()
    states = encoder([regions(poses)]).hidden_states
    return time.perf_counter() - began, states


@click.command()
@click.option("--frames", multiple=True, default=(128, 256), show_default=True, type=click.IntRange(32, _LONGEST))
@click.option("--fps", default=25.0, show_default=True)
@click.option("--rounds", default=5, show_default=True, help="Each runs every row once.")
@click.option("--small", is_flag=True, help="A model of the demo's size.")
@click.option("--markdown", type=click.Path(dir_okay=False, path_type=Path), help="Also write the table here.")
def main(frames: tuple[int, ...], fps: float, rounds: int, small: bool, markdown: Path | None) -> None:
    """Time the encoder from the last frame on: read along, and not."""
    model = random_checkpoint(small).model
    far = reach(model.config.backbone)
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as scratch:
        one, features, rest = (Path(scratch, f"{name}.onnx") for name in ("one", "features", "rest"))
        export_encoder(FusedEncoder(model, "topk"), one)
        export_split_encoder(FusedEncoder(model, "dense"), features, rest)
        del model
        whole = OnnxEncoder(create_session(one, "cpu"))
        apart = OnnxEncoder(create_session(rest, "cpu"), create_session(features, "cpu"), far)
    warm = motion(64, 1000.0, rng)
    for encoder in (whole, apart):
        at_once(encoder, warm)
    lines = [
        f"{header()}; {rounds} rounds at {fps:g} frames a second, chunks of {CHUNK} frames, reach {far}. "
        "Medians, least to most.",
        "",
        "| frames | read along | two graphs, at the end | one graph, at the end | times two | times one "
        "| of a core while reading | largest difference |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for number in frames:
        waits: dict[str, list[float]] = {"along": [], "apart": [], "whole": []}
        shares, differences = [], []
        for fewer in np.round(np.linspace(0, CHUNK - 1, rounds)).astype(int):
            poses = motion(number - fewer, fps, rng)
            wait, share, states = read(apart, poses)
            seconds, expected = at_once(apart, poses)
            waits["along"].append(wait)
            waits["apart"].append(seconds)
            waits["whole"].append(at_once(whole, poses)[0])
            shares.append(share)
            differences.append(float(np.abs(states - expected).max()))
        cells = [f"{np.median(w):.3f} s ({min(w):.3f} to {max(w):.3f})" for w in waits.values()]
        along = np.array(waits["along"])
        cells += [f"{np.median(np.array(waits[other]) / along):.1f}" for other in ("apart", "whole")]
        lines.append(f"| {number} | {' | '.join(cells)} | {np.median(shares):.0%} | {max(differences):.0e} |")
    table = "\n".join(lines)
    click.echo(table)
    if markdown is not None:
        markdown.write_text(f"`python -m benchmarks.streaming --rounds {rounds}`\n\n{table}\n")


if __name__ == "__main__":
    main()
