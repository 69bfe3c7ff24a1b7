"""Samples: the same in every run of a seed, varied in training and not in validation, and bad rows are named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_runs import config

from signet_runtime.errors import InputError
from signet_runtime.pose.files import write_keypoints
from signet_runtime.pose.sequence import PoseSequence
from signet_runtime.regions import extract_regions
from signet_train.config import TrainConfig
from signet_train.data.batches.augment import add_noise, drop_frames
from signet_train.data.batches.collate import load_batches
from signet_train.data.batches.dataset import PoseDataset, load_rows
from signet_train.data.manifest import Row, write_manifest


def recording(frames: int = 40, fps: float = 25.0) -> PoseSequence:
    rng = np.random.default_rng(frames)
    scores = rng.uniform(0.2, 1.0, (frames, 133))
    return PoseSequence(rng.uniform(0, 1, (frames, 133, 2)), scores, fps, (640, 480), "test")


def row(name: str, **changes: str) -> Row:
    given = {"split": "train", "poses": f"poses/{name}.npz", "text": name, "language": "de", "sign_language": "gsg"}
    return Row(id=name, **{**given, **changes})


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    (tmp_path / "poses").mkdir()
    write_keypoints(tmp_path / "poses" / "one.npz", recording())
    write_keypoints(tmp_path / "poses" / "long.npz", recording(600))
    write_manifest(tmp_path / "m.jsonl", [row("one"), row("long"), row("absent"), row("two", split="dev", text=" ")])
    return tmp_path / "m.jsonl"


def dataset(manifest: Path, training: bool = True, split: str = "train", **data: object) -> PoseDataset:
    made: TrainConfig = config("pretrain", manifest, data={"frame_rate": None, **data})
    return PoseDataset(load_rows(made.data, split), made, training)


def test_validation_sees_what_a_bundle_sees(manifest: Path) -> None:
    sample = dataset(manifest, training=False)[0, 0]
    for name, region in extract_regions(recording()).items():
        np.testing.assert_array_equal(sample.regions[name], region)
    assert (sample.id, sample.text) == ("one", "one")
    assert len(dataset(manifest, training=False)[0, 1].regions["body"]) == 256


def test_training_samples_follow_from_seed_epoch_and_row(manifest: Path) -> None:
    one, two = dataset(manifest), dataset(manifest)
    one[0, 1]  # what was asked for before makes no difference
    np.testing.assert_array_equal(one[3, 0].regions["face"], two[3, 0].regions["face"])
    assert one[3, 0].regions["face"].shape != one[4, 0].regions["face"].shape or not np.array_equal(
        one[3, 0].regions["face"], one[4, 0].regions["face"]
    )


def test_long_clips_are_sampled_at_random_but_in_order(manifest: Path) -> None:
    still = dataset(manifest, noise=0, frame_drop=0)
    a, b = (still[epoch, 1].regions["body"] for epoch in (0, 1))
    assert len(a) == len(b) == 256
    assert not np.array_equal(a, b)
    whole = extract_regions(recording(600))["body"]
    places = [int(np.flatnonzero((np.abs(whole - frame) < 1e-2).all(axis=(1, 2)))[0]) for frame in a[::32]]
    assert places == sorted(places)


def test_without_augmentation_training_is_validation(manifest: Path) -> None:
    plain, validation = dataset(manifest, noise=0, frame_drop=0), dataset(manifest, training=False)
    np.testing.assert_array_equal(plain[5, 0].regions["body"], validation[0, 0].regions["body"])


def test_a_slower_clock_begins_anywhere_between_two_ticks(manifest: Path) -> None:
    slow = dataset(manifest, noise=0, frame_drop=0, frame_rate=5.0)
    starts = set()
    for epoch in range(40):
        body = slow[epoch, 0].regions["body"]
        assert len(body) in (7, 8)
        starts.add(float(body[0, 0, 2]))  # the confidence of a frame's first joint tells which frame it is
    scores = recording().scores[:5, 0]
    assert starts == {float(s) if s > 0.3 else 0.0 for s in scores}


def test_noise_has_its_deviation_and_leaves_lost_joints_and_confidence_alone() -> None:
    regions = extract_regions(recording(2000))
    noisy = add_noise(regions, 0.01, np.random.default_rng(0))
    for name, region in regions.items():
        confident = region[..., 2] > 0
        np.testing.assert_array_equal(noisy[name][..., 2], region[..., 2])
        np.testing.assert_array_equal(noisy[name][~confident], 0)
        difference = (noisy[name] - region)[confident][:, :2]
        assert difference.std() == pytest.approx(0.01, rel=0.03)
        assert abs(difference.mean()) < 0.001


def test_about_15_percent_of_frames_are_lost_and_never_all() -> None:
    rng = np.random.default_rng(0)
    kept = [len(drop_frames(recording(100), 0.15, rng)) for _ in range(100)]
    assert np.mean(kept) == pytest.approx(85, abs=1.5)
    assert len(drop_frames(recording(3), 1.0, rng)) == 1


def test_rows_are_chosen_by_split_and_sign_language(manifest: Path) -> None:
    assert [r.row.id for r in load_rows(config("pretrain", manifest).data, "dev")] == ["two"]
    with pytest.raises(InputError, match="no rows of the split 'test'"):
        load_rows(config("pretrain", manifest).data, "test")
    with pytest.raises(InputError, match="in ase"):
        load_rows(config("pretrain", manifest, data={"sign_languages": ["ase"]}).data, "train")


def test_bad_rows_are_named(manifest: Path) -> None:
    with pytest.raises(InputError, match=r"row 'absent': .*no such file"):
        dataset(manifest)[0, 2]
    write_keypoints(manifest.parent / "poses" / "two.npz", recording())
    with pytest.raises(InputError, match="row 'two': no text"):
        dataset(manifest, split="dev")[0, 0]
    recognition = config("pretrain", manifest, task="recognise")
    with pytest.raises(InputError, match="row 'one': no gloss"):
        PoseDataset(load_rows(recognition.data, "train"), recognition, training=False)[0, 0]


@pytest.mark.parametrize("workers", [0, 1])
def test_a_bad_row_is_one_line_whoever_loaded_it(manifest: Path, workers: int) -> None:
    batches = load_batches(dataset(manifest), [[(0, 2)]], list, workers)
    with pytest.raises(InputError, match=r"^row 'absent': [^\n]*no such file$"):
        next(batches)


def test_loading_draws_nothing_from_the_random_numbers_of_a_step(manifest: Path) -> None:
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    next(load_batches(dataset(manifest), [[(0, 0)]], list, 0))
    assert torch.equal(torch.rand(4), expected)
