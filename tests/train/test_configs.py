"""Configurations: those that ship are the paper's and the demo's, and what is wrong with others is one line."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from signet_runtime.errors import CheckpointError
from signet_train.checkpoint import demo_checkpoint_path, load_checkpoint
from signet_train.cli import main
from signet_train.config import TrainConfig, load_config
from signet_train.interop.origins import ORIGINS
from signet_train.interop.unisign import prompt


@pytest.mark.parametrize(
    ("content", "message"),
    [("seed = [", "not TOML"), ("seed = 3", "stage"), ('stage = "pretrain"\nstep = 3', "step")],
)
def test_a_bad_configuration_is_one_line_and_exit_code_4(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "bad.toml"
    path.write_text(content)
    result = CliRunner().invoke(main, ["pretrain", str(path), "--out", str(tmp_path / "out")])
    assert result.exit_code == 4
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_a_configuration_of_another_stage_is_refused(tmp_path: Path) -> None:
    path = demo_checkpoint_path().parent / "configs" / "demo" / "align.toml"
    result = CliRunner().invoke(main, ["finetune", str(path), "--out", str(tmp_path / "out")])
    assert result.exit_code == 4
    assert "its stage is align; run it by `signet-train align`" in result.stderr


def test_checkpoints_that_are_none_or_damaged_say_so(experts: list[Path], tmp_path: Path) -> None:
    import shutil

    with pytest.raises(CheckpointError, match="not a checkpoint"):
        load_checkpoint(tmp_path)
    broken = tmp_path / "broken"
    shutil.copytree(experts[0], broken)
    weights = broken / "experts" / "0" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="damaged"):
        load_checkpoint(broken)


def shipped() -> dict[str, TrainConfig]:
    root = demo_checkpoint_path().parent / "configs"
    return {f"{path.parent.name}/{path.stem}": load_config(path) for path in root.glob("*/*.toml")}


def test_shipped_configurations_are_table_14() -> None:
    epochs = {"pretrain": (20, 0), "align": (20, 2), "finetune": (40, 4)}
    papers = {name: c for name, c in shipped().items() if not name.startswith(("demo/", "official/"))}
    assert len(papers) == 13
    for name, given in papers.items():
        o, stage = given.optimisation, given.stage
        assert name.endswith((stage, "published"))
        assert (o.epochs, o.warmup_epochs) == epochs[stage], name
        assert (o.batch_size, o.accumulation, o.lr, o.min_lr, o.weight_decay) == (8, 4, 3e-4, 1e-7, 1e-4), name
        assert (o.label_smoothing, o.router_lr, o.temperature) == (0.2, 8e-4, 0.07), name
        assert (given.data.noise, given.data.frame_drop, given.card.num_beams) == (0.01, 0.15, 4), name
        if stage != "pretrain":
            fusion = given.model.fusion
            assert fusion is not None
            assert (fusion.adapter_rank, fusion.adapter_dropout, fusion.gumbel_temperature) == (16, 0.1, 1.0), name
    assert {n.split("/")[0] for n, c in papers.items() if c.task == "recognise"} == {"wlasl100", "wlasl2000"}


@pytest.mark.parametrize(("name", "corpus"), [("csl_daily", "csl-daily"), ("how2sign", "how2sign")])
def test_published_experts_have_not_seen_what_they_are_for(name: str, corpus: str) -> None:
    config = shipped()[f"{name}/published"]
    origins = [next(o for file, o in ORIGINS.items() if file.startswith(path.name)) for path in config.experts]
    assert len(origins) == 3
    assert not any(corpus in origin.seen for origin in origins)
    # The language model that Stage III starts from is told what it was told before.
    assert config.experts[0].parent.name == "models" and config.model.language_model.prompt == prompt(
        origins[0].language
    )
    assert (config.card.language, config.card.pose_estimator) == (origins[0].language, "rtmpose-lightweight")


def test_the_demos_experts_learn_disjoint_alphabets() -> None:
    groups = [
        set(c.data.sign_languages) for n, c in shipped().items() if n.startswith("demo/") and c.stage == "pretrain"
    ]
    assert len(groups) == 3
    assert sum(map(len, groups)) == len(set.union(*groups)) == 13


def test_the_demo_checkpoint_is_what_the_shipped_configuration_describes() -> None:
    demo = load_checkpoint(demo_checkpoint_path())
    assert demo.config.model == shipped()["demo/finetune"].model
    assert len(demo.experts) == 3
