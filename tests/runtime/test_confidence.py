"""Reliability: what it follows from, a bundle with and without its calibration, and what is left out by it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from tiny_bundle import TinyBundle, random_poses
from translate_command import Translate, the_error

from signet_runtime.bundle import Bundle, read_manifest, write_manifest
from signet_runtime.confidence.calibration import FILE, Calibration, Reliability, read_calibration, write_calibration
from signet_runtime.confidence.evidence import EVIDENCE, MOTION_SIZE, describe_motion, gather, hands_seen
from signet_runtime.errors import BundleError
from signet_runtime.generation.hypothesis import Hypothesis
from signet_runtime.regions import extract_regions
from signet_runtime.translator import Translator


def calibration(bias: float = 0.0, seed: int = 0) -> Calibration:
    """One that was fitted on nothing: any weights will do."""
    rng = np.random.default_rng(seed)
    count = len(EVIDENCE)
    return Calibration(
        means=tuple(rng.normal(size=count)),
        scales=tuple(rng.uniform(0.5, 2, count)),
        weights=tuple(rng.normal(0, 0.3, count)),
        bias=bias,
        motion_mean=tuple(rng.normal(size=MOTION_SIZE)),
        whitening=tuple(rng.normal(size=MOTION_SIZE**2)),
        samples=(10, 30),
    )


def calibrated(bundle: Path, bias: float) -> Bundle:
    write_calibration(bundle, calibration(bias))
    write_manifest(bundle, read_manifest(bundle))
    return Bundle.load(bundle)


def test_the_logistic_model_by_its_definition() -> None:
    fitted = calibration(0.3)
    regions = extract_regions(random_poses(1))
    text = Hypothesis([3, 4], [-0.1, -1.2], -0.7)
    mean, whitening = np.array(fitted.motion_mean), np.array(fitted.whitening).reshape(MOTION_SIZE, MOTION_SIZE)
    evidence = gather(text, [0.6, 0.4, 0.0], regions, mean, whitening)
    total = fitted.bias
    for value, middle, scale, weight in zip(evidence, fitted.means, fitted.scales, fitted.weights, strict=True):
        total += (value - middle) / scale * weight
    assert Reliability(fitted)(text, [0.6, 0.4, 0.0], regions) == pytest.approx(1 / (1 + np.exp(-total)), abs=1e-4)
    assert evidence[0] == pytest.approx(np.exp(-0.7)) and evidence[1] == pytest.approx(np.exp(-1.2))
    assert evidence[2] == pytest.approx(-(0.6 * np.log(0.6) + 0.4 * np.log(0.4)))


def test_the_share_of_frames_with_hands() -> None:
    poses = random_poses(0, frames=10)
    scores = poses.scores.copy()
    scores[:, 91:] = 0
    scores[:4, 91:112] = 1
    scores[3:5, 112:] = 1
    poses.scores[:] = scores
    assert hands_seen(extract_regions(poses)) == pytest.approx(0.5)


@pytest.mark.parametrize("frames", [1, 2, 40])
def test_motion_by_its_definition(frames: int) -> None:
    regions = extract_regions(random_poses(3, frames=frames))
    series = [regions["body"][..., :2].reshape(frames, -1)]
    for hand in ("left_hand", "right_hand"):
        series += [regions[hand][..., :2].mean(axis=1), np.abs(regions[hand][..., :2]).mean(axis=1)]
    columns = np.concatenate(series, axis=1)
    steps = np.abs(np.diff(columns, axis=0)).mean(axis=0) if frames > 1 else np.zeros(columns.shape[1])
    expected = np.concatenate([columns.mean(axis=0), columns.std(axis=0), steps])
    np.testing.assert_allclose(describe_motion(regions), expected, rtol=0, atol=1e-6)
    assert len(expected) == MOTION_SIZE


def test_a_bundle_without_a_calibration_says_nothing(tiny: TinyBundle, translate: Translate, clips: list[Path]) -> None:
    bundle = Bundle.load(tiny.path)
    assert read_calibration(bundle) is None
    assert Translator(bundle).translate(random_poses(0)).reliability is None
    result = translate(clips[0], "--min-confidence", 0.5)
    assert (result.exit_code, result.stdout) == (4, "")
    assert f"{tiny.path}: has no calibration, so nothing says how reliable a text is" in the_error(result)


def test_what_is_not_sure_is_left_out_and_marked(bundle_copy: Path, translate: Translate, clips: list[Path]) -> None:
    calibrated(bundle_copy, bias=0.2)
    everything = [
        json.loads(line) for line in translate(*clips, "--format", "json", bundle=bundle_copy).stdout.split("\n")[:-1]
    ]
    sure = sorted(line["reliability"] for line in everything)
    assert 0 < sure[0] < sure[-1] < 1
    least = (sure[0] + sure[1]) / 2
    left = translate(*clips, "--format", "json", "--min-confidence", least, "--n-best", 2, bundle=bundle_copy)
    for before, line in zip(everything, map(json.loads, left.stdout.splitlines()), strict=True):
        assert line["reliability"] == pytest.approx(before["reliability"], abs=1e-6)
        if before["reliability"] < least:
            assert (line["text"], line["suppressed"], line["pieces"], line["alternatives"]) == ("", True, [], [])
        else:
            assert (line["text"], line["suppressed"], len(line["alternatives"])) == (before["text"], False, 1)
    text = translate(*clips, "--min-confidence", least, bundle=bundle_copy).stdout.split("\n")[:-1]
    assert text.count("") == 1 and len(text) == 3  # its line stays, empty


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"version": 2}, "version"),
        ({"evidence": ["probability"]}, "weighs probability, this version"),
        ({"weights": [1.0]}, "one mean, scale and weight"),
        ({"motion_mean": [0.0]}, "motion_mean"),
        (None, "not JSON"),
    ],
)
def test_a_calibration_that_cannot_be_used(
    tiny: TinyBundle, bundle_copy: Path, change: dict[str, object] | None, says: str
) -> None:
    calibrated(bundle_copy, 0.0)
    contents = json.loads((bundle_copy / FILE).read_text())
    (bundle_copy / FILE).write_text("{" if change is None else json.dumps({**contents, **change}))
    bundle = Bundle(bundle_copy, write_manifest(bundle_copy, Bundle.load(tiny.path).manifest))
    with pytest.raises(BundleError) as raised:
        Translator(bundle)
    assert says in str(raised.value) and str(bundle_copy / FILE) in str(raised.value)
