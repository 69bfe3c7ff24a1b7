"""The walk of docs/published.md on miniatures: published checkpoints and pose archives in, a translation out."""

from __future__ import annotations

import gzip
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from published_layout import published_state
from tiny_runs import FUSION

import signet_export.cli
import signet_runtime.commands.translate
from signet_train.checkpoint import demo_checkpoint_path, load_checkpoint
from signet_train.cli import main
from signet_train.config import FusionConfig, TrainConfig, load_config
from signet_train.stages.run import run_stage
from signet_train.tokenizer import train_tokenizer

TEXT = ("hello", "thanks", "book")


@pytest.fixture(scope="module")
def downloads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is downloaded, under its real names: checkpoints, labels, a pose archive in parts, and a tokenizer."""
    root = tmp_path_factory.mktemp("downloads")
    for seed, name in enumerate(["csl_stage1_weight", "openasl_pose_only_slt", "wlasl_pose_only_islr"]):
        torch.save({"model": published_state(seed=seed)}, root / f"{name}.pth")
    train_tokenizer(["Translate sign language video to English: Chinese", *TEXT], 96).save_pretrained(root / "mt5-base")
    rng = np.random.default_rng(0)
    labels = root / "Uni-Sign" / "data" / "How2Sign"
    labels.mkdir(parents=True)
    with zipfile.ZipFile(root / "all.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for split, count in (("train", 6), ("test", 3)):
            content = {}
            for i in range(count):
                clip = f"{split}{i}_0-5-rgb_front"
                content[f"{clip}.mp4"] = {
                    "name": f"{clip}.mp4",
                    "video_path": f"{clip}.mp4",
                    "text": TEXT[i % 3],
                    "gloss": "",
                }
                motion = rng.uniform(0.2, 0.8, (1, 133, 2)) + rng.normal(0, 0.02, (8 + i, 1, 133, 2)).cumsum(axis=0)
                pose = {"keypoints": list(motion), "scores": [np.full((1, 133), 0.9, np.float32)] * (8 + i)}
                archive.writestr(f"pose_format/{split}/{clip}.pkl", pickle.dumps(pose))
            with gzip.open(labels / f"labels.{split}", "wb") as file:
                pickle.dump(content, file)
    whole = (root / "all.zip").read_bytes()
    third = len(whole) // 3
    for i in range(3):
        part = whole[i * third :] if i == 2 else whole[i * third : (i + 1) * third]
        (root / f"how2sign_pose_format.zip.0{i}").write_bytes(part)
    (root / "all.zip").unlink()
    return root


def run(*arguments: object, command: object = main) -> Result:
    result = CliRunner().invoke(command, [str(a) for a in arguments])  # type: ignore[arg-type]
    assert result.exit_code == 0, (arguments, result.output)
    return result


def test_published_experts_are_fused_and_tuned_on_a_published_archive(
    downloads: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for command, file, out in (
        ("import-model", "openasl_pose_only_slt.pth", "models/openasl"),
        ("import-expert", "wlasl_pose_only_islr.pth", "experts/wlasl"),
        ("import-expert", "csl_stage1_weight.pth", "experts/csl_stage1"),
    ):
        source = ["--mt5", downloads / "mt5-base"] if command == "import-model" else []
        run(command, "unisign", downloads / file, "--out", out, *source)
    run("convert-poses", downloads / "how2sign_pose_format.zip.00", "--out", "poses/how2sign.arrow", "--workers", 1)
    labels = downloads / "Uni-Sign" / "data" / "How2Sign"
    poses = "poses/how2sign.arrow#{id}"
    made = run("manifest", "how2sign", labels, "--poses", poses, "--out", "data/how2sign.parquet")
    assert "there for 9 of 9 rows" in made.stderr
    run("check", "data/how2sign.parquet", "--workers", 1)
    # An imported model needs no training to be evaluated.
    assert "--manifest" in CliRunner().invoke(main, ["evaluate", "models/openasl"]).stderr
    scores = run("evaluate", "models/openasl", "--manifest", "data/how2sign.parquet", "--split", "test", "--beams", 1)
    assert "BLEU-4" in scores.stdout

    config = _at_this_size(load_config(demo_checkpoint_path().parent / "configs" / "how2sign" / "published.toml"))
    run_stage(config, Path("runs/how2sign"), "cpu")
    tuned = load_checkpoint(Path("runs/how2sign/best"))
    assert [card.name for card in tuned.experts] == ["openasl", "wlasl", "csl_stage1"]
    for card, name in zip(tuned.experts, ("models/openasl", "experts/wlasl", "experts/csl_stage1"), strict=True):
        assert card.source.startswith("unisign ")
        frozen = torch.load(downloads / f"{_file(name)}.pth", weights_only=True)["model"]
        expert = tuned.model.experts[[c.name for c in tuned.experts].index(card.name)]
        assert torch.equal(expert.state_dict()["part_offset"], frozen["part_para"])
    run("evaluate", "runs/how2sign/best", "--split", "test", "--beams", 1, "--out", "predictions.jsonl")
    assert len(Path("predictions.jsonl").read_text().splitlines()) == 3

    run("runs/how2sign/best", "--out", "bundle", command=signet_export.cli.main)
    with zipfile.ZipFile(_joined(downloads, tmp_path)) as archive:
        archive.extract("pose_format/test/test0_0-5-rgb_front.pkl")
    clip = "pose_format/test/test0_0-5-rgb_front.pkl"
    told = run("--bundle", "bundle", clip, "--format", "json", command=signet_runtime.commands.translate.main)
    assert '"wlasl"' in told.stdout


def test_an_expert_that_was_tuned_on_the_corpus_is_refused_unless_asked_for(
    downloads: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "how2sign_pose_only_slt.pth").symlink_to(downloads / "openasl_pose_only_slt.pth")
    run("import-model", "unisign", "how2sign_pose_only_slt.pth", "--out", "models/h2s", "--mt5", downloads / "mt5-base")
    run("convert-poses", downloads / "how2sign_pose_format.zip.00", "--out", "poses/how2sign.arrow", "--workers", 1)
    labels = downloads / "Uni-Sign" / "data" / "How2Sign"
    run("manifest", "how2sign", labels, "--poses", "poses/how2sign.arrow#{id}", "--out", "data/how2sign.jsonl")
    Path("tune.toml").write_text(
        'stage = "finetune"\nexperts = ["models/h2s"]\n'
        "[model.language_model]\nvocab_size = 96\nd_model = 32\nd_kv = 8\nd_ff = 48\nnum_layers = 2\nnum_heads = 4\n"
        "[model.backbone]\nembedding = 32\n"
        '[data]\nmanifests = ["data/how2sign.jsonl"]\nvalidation = "test"\nworkers = 0\n'
        "[optimisation]\nepochs = 1\nbatch_size = 2\naccumulation = 1\n[card]\nnum_beams = 1\nmax_new_tokens = 4\n"
    )
    arguments = ["finetune", "tune.toml", "--out", "runs/tuned", "--device", "cpu"]
    refused = CliRunner().invoke(main, arguments)
    assert refused.exit_code == 4
    assert "the expert h2s was trained on how2sign, the corpus of this run" in refused.stderr
    assert "--allow-leak" in refused.stderr
    run(*arguments, "--allow-leak")
    assert load_checkpoint(Path("runs/tuned/best")).config.allow_leak


def _at_this_size(config: TrainConfig) -> TrainConfig:
    """The shipped configuration with small models, one epoch, and the split that is there to choose by."""
    model = config.model
    return config.model_copy(
        update={
            "model": model.model_copy(
                update={
                    "backbone": model.backbone.model_copy(update={"embedding": 32}),
                    "fusion": FusionConfig(**FUSION),  # type: ignore[arg-type]
                    "language_model": model.language_model.model_copy(
                        update={
                            "vocab_size": 96,
                            "d_model": 32,
                            "d_kv": 8,
                            "d_ff": 48,
                            "num_layers": 2,
                            "num_heads": 4,
                        }
                    ),
                }
            ),
            "data": config.data.model_copy(update={"validation": "test", "workers": 0}),
            "optimisation": config.optimisation.model_copy(
                update={"epochs": 1, "warmup_epochs": 0, "batch_size": 2, "accumulation": 1, "precision": "no"}
            ),
            "card": config.card.model_copy(update={"max_new_tokens": 4, "num_beams": 1}),
        }
    )


def _file(directory: str) -> str:
    return next(
        file
        for file in ("csl_stage1_weight", "openasl_pose_only_slt", "wlasl_pose_only_islr")
        if file.startswith(Path(directory).name)
    )


def _joined(downloads: Path, tmp_path: Path) -> Path:
    whole = tmp_path / "how2sign_pose_format.zip"
    whole.write_bytes(b"".join(part.read_bytes() for part in sorted(downloads.glob("how2sign_pose_format.zip.*"))))
    return whole
