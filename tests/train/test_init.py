"""`init` looks at what somebody has, and writes a project whose every file loads and says why."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from keypoint_corpus import corpus

from signet_runtime.errors import InputError
from signet_train.cli import main
from signet_train.config import load_config
from signet_train.data.manifest import Row, read_manifest, write_manifest
from signet_train.data.spelled.video import write_video
from signet_train.project.layout import Project, read_project, write_project
from signet_train.project.sizing import Lengths, Machine, stage_sizes
from signet_train.project.splits import SPLITS, with_splits
from signet_train.stages.plan import plan_stage

CPU = Machine(2, 16.0, None, bf16=False)
GPU = Machine(16, 128.0, 80.0, bf16=True)


def init(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, ["init", *map(str, arguments)])


def row(i: int, *, signer: str | None = None, split: str = "train") -> Row:
    return Row(
        id=str(i), split=split, poses=f"{i}.npz", text="x", language="de", sign_language="gsg", video=f"{i // 2}.mp4",
        signer=signer,
    )  # fmt: skip


@pytest.mark.parametrize("count", [6, 7, 40, 300])
@pytest.mark.parametrize("signers", [0, 2, 3, 11])
def test_no_split_is_empty_and_nothing_is_torn_apart(count: int, signers: int) -> None:
    rng = np.random.default_rng(count + signers)
    rows = [row(i, signer=f"s{i % signers}" if signers else None) for i in rng.permutation(count)]
    divided, how = with_splits(rows, given=False)
    assert {r.split for r in divided} == set(SPLITS)
    groups = defaultdict(set)
    for r in divided:
        groups[r.signer if signers >= 3 else r.video].add(r.split)
    assert all(len(splits) == 1 for splits in groups.values())
    assert how.startswith("by signer" if signers >= 3 else "by recording")
    assert sum(r.split == "train" for r in divided) >= count // 3
    again, _ = with_splits(list(reversed(rows)), given=False)
    assert {r.id: r.split for r in divided} == {r.id: r.split for r in again}


def test_splits_that_the_data_say_stay_unless_one_is_missing() -> None:
    rows = [row(2 * i, split=split) for i, split in enumerate(("train", "dev", "test", "train"))]
    assert with_splits(rows, given=True) == (rows, "as the data say")
    changed, how = with_splits([replace(r, split="train") for r in rows], given=True)
    assert {r.split for r in changed} == set(SPLITS) and "the data had train alone" in how
    with pytest.raises(InputError, match="2 recordings: train, dev and test need one each"):
        with_splits(rows[:2], given=False)


@pytest.mark.parametrize("samples", [8, 400, 5000, 600_000])
@pytest.mark.parametrize("machine", [CPU, GPU])
@pytest.mark.parametrize("mt5", [None, "google/mt5-base"])
@pytest.mark.parametrize("stage", ["pretrain", "align", "finetune"])
def test_sizes_fit_data_and_machine(samples: int, machine: Machine, mt5: str | None, stage: str) -> None:
    lengths = Lengths(np.array([25.0, 30.0]), np.array([3.0, 9.0]))
    found = stage_sizes(stage, samples, lengths, 80, machine, mt5, few_signers=False).settings
    data, optimisation = ({k: v for k, (v, _) in found[name].items()} for name in ("data", "optimisation"))
    step = optimisation["batch_size"] * optimisation["accumulation"]
    assert 1 <= step <= min(32, samples)
    assert data["frame_rate"] <= 25 and 32 <= data["max_frames"] <= 256
    assert (optimisation["precision"] == "bf16") == machine.bf16
    assert 1 <= optimisation["validate_every"] <= optimisation["epochs"]
    assert all(why for section in ("data", "optimisation") for _, why in found[section].values())
    if mt5 is not None:
        assert optimisation["lr"] == 3e-4 and "model.language_model" not in found


def project(tmp_path: Path, *options: str, **changes: object) -> tuple[Path, Result]:
    manifest = corpus(tmp_path / "data", name="m.jsonl", **changes)  # type: ignore[arg-type]
    result = init(manifest, "--out", tmp_path / "project", *options)
    return tmp_path / "project", result


def test_what_is_written_loads_and_says_why(tmp_path: Path) -> None:
    directory, result = project(tmp_path)
    assert result.exit_code == 0, result.output
    assert result.stdout == "" and result.stderr.splitlines()[-1].startswith(f"Next: signet-train fit {directory}")
    assert "2 samples in dev are too few to choose a checkpoint by: the last of each run" in result.stderr
    assert "12 samples (train 8, dev 2, test 2), divided as the data say" in result.stderr
    assert "from nothing: a vocabulary of your texts' characters" in result.stderr
    assert read_project(directory) == Project(pretrain=("pretrain-gsg",), checkpoint="last")
    plan = plan_stage(load_config(directory / "pretrain-gsg.toml"))
    assert len(plan.training) == 8 and plan.config.card.pose_estimator == "mediapipe"
    # Of numbers that follow from data or machine every one has its reason.
    text = (directory / "pretrain-gsg.toml").read_text()
    for key in ("frame_rate", "max_frames", "epochs", "batch_size", "precision", "lr"):
        assert re.search(rf"^{key} = \S+  # \S", text, re.MULTILINE), key
    assert load_config(directory / "finetune.toml").experts == (directory / "runs" / "pretrain-gsg" / "last",)
    again = init(tmp_path / "data" / "m.jsonl", "--out", directory)
    assert again.exit_code == 2 and "exists already" in again.stderr


def test_several_sign_languages_are_several_experts_and_aligned(tmp_path: Path) -> None:
    manifest = corpus(tmp_path / "data", splits=("train",) * 8 + ("dev",) * 2 + ("test",) * 2)
    rows = [replace(r, sign_language=("gsg", "ase")[i % 2]) for i, r in enumerate(read_manifest(manifest).rows)]
    write_manifest(manifest, rows)
    result = init(manifest, "--out", tmp_path / "p")
    assert result.exit_code == 0, result.output
    made = read_project(tmp_path / "p")
    assert (made.pretrain, made.align) == (("pretrain-ase", "pretrain-gsg"), True)
    align = load_config(tmp_path / "p" / "align.toml")
    assert align.start_from == align.experts[0] and align.model.fusion is not None
    assert load_config(tmp_path / "p" / "finetune.toml").start_from == tmp_path / "p" / "runs" / "align" / "last"


def test_glosses_without_texts_are_recognised(tmp_path: Path) -> None:
    directory, result = project(tmp_path, text="", gloss="HOUSE")
    assert result.exit_code == 0, result.output
    assert read_project(directory).task == load_config(directory / "finetune.toml").task == "recognise"


def test_experts_that_are_given_decide_sizes_and_estimator(experts: list[Path], tmp_path: Path) -> None:
    directory, result = project(tmp_path, "--expert", str(experts[0]), "--expert", str(experts[1]), sign_language="ise")
    assert result.exit_code == 0, result.output
    made = read_project(directory)
    assert (made.pretrain, made.align) == ((), True)  # neither has seen Italian Sign Language
    config = load_config(directory / "align.toml")
    assert config.model.backbone.embedding == 16 and config.model.language_model.d_model == 16
    seen, result = project(tmp_path / "seen", "--expert", str(experts[0]), sign_language="ase")
    assert (
        result.exit_code == 0 and not read_project(seen).align and "no Stage II: an expert knows ase" in result.stderr
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--mt5", "/nowhere/mt5"), "no such directory, and no name of the Hugging Face hub"),
        (("--pose", "rtmpose-x"), "there are keypoints already, of mediapipe"),
        (("--task", "recognise"), "no gloss, which --task recognise needs of every row"),
    ],
)
def test_what_cannot_be_is_said_and_nothing_written(tmp_path: Path, options: tuple[str, ...], message: str) -> None:
    directory, result = project(tmp_path, *options)
    assert result.exit_code in (3, 4) and message in result.stderr, result.output
    assert not directory.exists()


def test_a_folder_of_videos_without_keypoints(tmp_path: Path) -> None:
    folder = tmp_path / "DGS"
    folder.mkdir()
    frames = np.random.default_rng(0).integers(0, 255, (10, 16, 16, 3), np.uint8)
    for i in range(5):
        write_video(folder / f"{i}.mp4", frames, 50)
        (folder / f"{i}.txt").write_text("Guten Tag")
    unsaid = init(folder, "--out", tmp_path / "p", "--language", "de")
    assert unsaid.exit_code == 3 and "By its name it is German Sign Language: --sign-language gsg" in unsaid.stderr
    done = init(folder, "--out", tmp_path / "p", "--language", "de", "--sign-language", "gsg")
    assert done.exit_code == 0, done.output
    assert {r.split for r in read_manifest(tmp_path / "p" / "manifest.parquet").rows} == set(SPLITS)
    config = load_config(tmp_path / "p" / "pretrain-gsg.toml")
    assert config.data.frame_rate in (12.5, 50.0)  # the latter where there is a GPU


def test_the_project_file_is_read_as_it_is_written(tmp_path: Path) -> None:
    project = Project(task="recognise", pose="rtmpose-x", pretrain=("a", 'b"\\c'), align=True, export=("--top-k", "1"))
    write_project(tmp_path, project)
    assert read_project(tmp_path) == project
