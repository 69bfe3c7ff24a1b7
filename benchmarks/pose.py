"""How well MediaPipe's keypoints agree with RTMPose's on the same video.

    python -m benchmarks.pose VIDEO.mp4 KEYPOINTS.pkl

The keypoints are RTMPose's, one frame for every frame of the video. Over the joints that SIGNET uses and
RTMPose is sure of (score > 0.3), the table gives the share that MediaPipe found (score > 0.3 too) and the
distance in widths of the shoulders, whose width is the clip's median by RTMPose.
"""

from __future__ import annotations

import sys
from pathlib import Path

import click
import numpy as np

from signet_runtime.commands.console import exit_on_error
from signet_runtime.errors import ExitCode
from signet_runtime.pose.estimators import load_estimator
from signet_runtime.pose.files import read_keypoints
from signet_runtime.pose.sequence import PoseSequence
from signet_runtime.sentences.keypoints import extract_poses
from signet_runtime.skeleton import CONFIDENCE, REGIONS

LIMITS = {"body": 0.035, "left_hand": 0.034, "right_hand": 0.039, "face": 0.012}  # median distance
MIN_FOUND = 0.95
LEFT_SHOULDER, RIGHT_SHOULDER = 5, 6


def agreement(found: PoseSequence, reference: PoseSequence) -> dict[str, tuple[int, float, float, float]]:
    """By region: joints the reference is sure of, share found, median and 90th percentile of the distance.

    Distances are in shoulder widths, over the joints that both are sure of.
    """
    if len(found) != len(reference):
        raise click.UsageError(f"{len(found)} frames in the video, {len(reference)} in the keypoints")
    pixels = np.array(found.size)
    difference = np.linalg.norm((found.keypoints - reference.keypoints) * pixels, axis=-1)
    shoulders = (reference.keypoints[:, LEFT_SHOULDER] - reference.keypoints[:, RIGHT_SHOULDER]) * pixels
    distance = difference / np.median(np.linalg.norm(shoulders, axis=-1))
    table = {}
    for name, region in REGIONS.items():
        joints = list(region.joints)
        sure = reference.scores[:, joints] > CONFIDENCE
        both = sure & (found.scores[:, joints] > CONFIDENCE)
        values = distance[:, joints][both]
        median, high = np.percentile(values, (50, 90)) if len(values) else (np.nan, np.nan)
        table[name] = (int(sure.sum()), float(both.sum() / max(1, sure.sum())), float(median), float(high))
    return table


@click.command(help=__doc__.splitlines()[0] if __doc__ else None)
@click.argument("video", type=click.Path(path_type=Path))
@click.argument("keypoints", type=click.Path(path_type=Path))
def main(video: Path, keypoints: Path) -> None:
    """Print the table; exit with 1 when a limit is missed."""
    with exit_on_error("pose"):
        reference = read_keypoints(keypoints)
        found = extract_poses(video, load_estimator("mediapipe", "mediapipe", offline=True))
    print(f"{'part':<12}{'joints':>8}{'found':>9}{'median':>9}{'limit':>8}{'90%':>8}")
    met = True
    for name, (joints, share, median, high) in agreement(found, reference).items():
        print(f"{name:<12}{joints:>8}{share:>9.1%}{median:>9.4f}{LIMITS[name]:>8.3f}{high:>8.3f}")
        met = met and median <= LIMITS[name] and share >= MIN_FOUND
    sys.exit(ExitCode.DONE if met else ExitCode.FAILED)


if __name__ == "__main__":
    main()
