"""What a bundle's confidence is worth: fitted on samples and on motion that says nothing, and part of the bundle."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from test_pinning import whole

from signet_export.cli import main
from signet_export.confidence import NOTHING, _apply, _fit, auroc, calibrate_confidence
from signet_runtime import Translator
from signet_runtime.bundle import Bundle, demo_bundle_path
from signet_runtime.confidence.calibration import read_calibration
from signet_runtime.errors import InputError
from signet_train.data.manifest import write_manifest
from signet_train.data.spelled.clips import Pace, spell
from signet_train.data.spelled.corpus import spelling_rows


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("manifest") / "words.jsonl"
    write_manifest(path, spelling_rows(("ase", "svk"), 5, 40, None, seed=3, dev_words=20))
    return path


def test_the_demo_learns_what_it_reads(manifest: Path) -> None:
    done = []
    fit = calibrate_confidence(Bundle.load(demo_bundle_path()), manifest, "dev", lambda n, of: done.append((n, of)))
    assert fit.auroc > 0.9
    assert fit.errors[1] <= fit.errors[0]
    assert done[-1][0] == done[-1][1] == 80 + 40 * (1 + len(NOTHING))


@pytest.mark.slow
def test_nothing_of_it_is_left_to_chance(manifest: Path) -> None:
    bundle = Bundle.load(demo_bundle_path())
    assert calibrate_confidence(bundle, manifest, "dev") == calibrate_confidence(bundle, manifest, "dev")


def test_too_few_samples_are_refused(manifest: Path) -> None:
    with pytest.raises(InputError, match=r"0 samples with a text in the split 'valid'; .* 20 at least"):
        calibrate_confidence(Bundle.load(demo_bundle_path()), manifest, "valid")


def test_the_regression_is_of_the_least_loss() -> None:
    """Against what any step away from it costs."""
    rng = np.random.default_rng(0)
    features = rng.normal(size=(300, 4))
    targets = 1 / (1 + np.exp(-(features @ [1.0, -2.0, 0.5, 0.0] + 0.3)))
    is_text = rng.random(300) < 0.4
    fit = _fit(features, targets, is_text, np.ones(300, bool))

    def loss(weights: np.ndarray, bias: float) -> float:
        expected = _apply((fit[0], fit[1], weights, bias), features)
        each = -(targets * np.log(expected) + (1 - targets) * np.log(1 - expected))
        shares = np.where(is_text, 1.0, is_text.sum() / (~is_text).sum())
        return float((shares * each).sum() + 0.5 * (weights**2).sum())

    least = loss(fit[2], fit[3])
    for step in rng.normal(0, 0.05, (50, 5)):
        assert loss(fit[2] + step[:4], fit[3] + step[4]) > least


@pytest.mark.parametrize("make", NOTHING)
def test_motion_that_says_nothing(make) -> None:  # type: ignore[no-untyped-def]
    sample = spell("hallo", "ase", Pace())
    made = make(sample, np.random.default_rng(0))
    assert len(made) == len(sample) and made.fps == sample.fps
    assert not np.array_equal(made.keypoints, sample.keypoints)
    np.testing.assert_array_equal(made.keypoints, make(sample, np.random.default_rng(0)).keypoints)


def test_auroc() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 5, 40), rng.integers(0, 5, 30)
    pairs = [1.0 if x > y else 0.5 if x == y else 0.0 for x in a for y in b]
    assert auroc(a, b) == pytest.approx(np.mean(pairs))


def test_a_bundle_with_its_calibration(manifest: Path, tmp_path: Path) -> None:
    from signet_train.checkpoint import save_checkpoint

    save_checkpoint(tmp_path / "checkpoint", whole())
    arguments = [str(tmp_path / "checkpoint"), "--out", str(tmp_path / "bundle")]
    result = CliRunner().invoke(main, [*arguments, "--calibrate-confidence", str(manifest)])
    assert result.exit_code == 0, result.stderr
    assert "confidence, fitted on 40 samples and 120 clips of motion that says nothing" in result.stderr
    bundle = Bundle.load(tmp_path / "bundle", verify=True)
    assert read_calibration(bundle) is not None
    translation = Translator(bundle, piece_times=True, min_confidence=1e-9).translate(spell("hallo", "ase", Pace()))
    assert translation.reliability is not None and 0 <= translation.reliability <= 1
    said = CliRunner().invoke(main, ["inspect", str(tmp_path / "bundle")]).stdout
    assert "confidence   calibrated on 40 samples and 120 clips" in said


@pytest.mark.slow
def test_a_calibration_that_fails_leaves_the_bundle_of_before(manifest: Path, tmp_path: Path) -> None:
    arguments = ["--out", str(tmp_path / "bundle")]
    assert CliRunner().invoke(main, arguments).exit_code == 0
    failed = [*arguments, "--force", "--calibrate-confidence", str(manifest), "--split", "none"]
    too_few = CliRunner().invoke(main, failed)
    assert too_few.exit_code == 3
    assert "0 samples" in too_few.stderr
    Bundle.load(tmp_path / "bundle", verify=True)
