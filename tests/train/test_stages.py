"""Training runs: they learn, resume bit by bit, keep experts frozen, and leave checkpoints that load."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from signet_runtime.errors import BundleError
from signet_train.checkpoint import demo_checkpoint_path, load_checkpoint
from signet_train.cli import main
from signet_train.config import TrainConfig, load_config
from signet_train.stages.finetune import FrozenFeatures, assemble, finetune
from signet_train.stages.pretrain import pretrain

CPU = torch.device("cpu")
_MODEL = {
    "backbone": {"input_channels": 4, "spatial_channels": [4, 8], "temporal_channels": [8], "embedding": 16},
    "language_model": {"vocab_size": 64, "d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 1, "num_heads": 2},
}


def stage_one(languages: list[str], **changes: object) -> TrainConfig:
    return TrainConfig.model_validate(
        {
            "stage": "pretrain",
            "model": _MODEL,
            "data": {"sign_languages": languages, "letters_per_batch": 8, "curriculum": [100]},
            "steps": 4,
            "lr": 1e-3,
            "validate_every": 2,
            **changes,
        }
    )


@pytest.fixture(scope="module")
def experts(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    root = tmp_path_factory.mktemp("experts")
    for name, language in (("one", "ase"), ("two", "gsg")):
        pretrain(stage_one([language]), root / name, CPU)
    return [root / "one" / "last", root / "two" / "last"]


def stage_three(experts: list[Path], **changes: object) -> TrainConfig:
    fusion = {"adapter_rank": 2, "query_hidden": 8, "router_hidden": 8}
    return TrainConfig.model_validate(
        {
            **stage_one(["ase", "gsg"]).model_dump(),
            "stage": "finetune",
            "model": {**_MODEL, "fusion": fusion},
            "experts": experts,
            "language_model_from": experts[0],
            "reuse": 2,
            **changes,
        }
    )


def assert_same_weights(a: Path, b: Path) -> None:
    one, two = load_checkpoint(a).model.state_dict(), load_checkpoint(b).model.state_dict()
    for name, value in one.items():
        assert torch.equal(value, two[name]), name


def test_resume_equals_never_having_stopped(tmp_path: Path) -> None:
    config = stage_one(["ase"])
    pretrain(config, tmp_path / "whole", CPU)
    with pytest.raises(KeyboardInterrupt):
        _interrupted(config, tmp_path / "parts")
    pretrain(config, tmp_path / "parts", CPU, resume=True)
    assert_same_weights(tmp_path / "whole" / "last", tmp_path / "parts" / "last")


def _interrupted(config: TrainConfig, out: Path) -> None:
    """Stop in the third step, after the validation of the second."""
    from signet_train.data import words

    original, calls = words.WordStream.batch, []

    def batch(self: words.WordStream, step: int) -> object:
        calls.append(step)
        if step == 2:
            raise KeyboardInterrupt
        return original(self, step)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(words.WordStream, "batch", batch)
        pretrain(config, out, CPU)


def test_stage_three_resumes_exactly_too(experts: list[Path], tmp_path: Path) -> None:
    config = stage_three(experts)
    finetune(config, tmp_path / "whole", CPU)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        original = FrozenFeatures.at

        def stop(self: FrozenFeatures, step: int) -> object:
            if step == 2:
                raise KeyboardInterrupt
            return original(self, step)

        patch.setattr(FrozenFeatures, "at", stop)
        finetune(config, tmp_path / "parts", CPU)
    finetune(config, tmp_path / "parts", CPU, resume=True)
    assert_same_weights(tmp_path / "whole" / "last", tmp_path / "parts" / "last")


def test_experts_are_bit_identical_after_stage_three(experts: list[Path], tmp_path: Path) -> None:
    finetune(stage_three(experts, lr=0.1), tmp_path / "run", CPU)
    after = load_checkpoint(tmp_path / "run" / "last")
    assert [e.sign_languages for e in after.experts] == [("ase",), ("gsg",)]
    for path, expert in zip(experts, after.model.experts, strict=True):
        before = load_checkpoint(path).model.experts[0].state_dict()
        for name, value in expert.state_dict().items():
            assert torch.equal(value, before[name]), name
    router = after.model.fusion.router.state_dict()
    fresh = assemble(stage_three(experts)).model.fusion.router.state_dict()
    assert any(not torch.equal(router[name], fresh[name]) for name in router)


def test_frozen_features_are_reused_and_what_the_experts_see(experts: list[Path]) -> None:
    checkpoint = assemble(stage_three(experts))
    checkpoint.model.train()
    features = FrozenFeatures(checkpoint)
    first, mask, _ = features.at(0)
    assert features.at(1)[0] is first  # there is but one batch to draw from yet
    assert features.at(2)[0] is not first
    again = FrozenFeatures(checkpoint).at(0)[0]
    torch.testing.assert_close(first.embeddings, again.embeddings)
    assert not first.embeddings.requires_grad
    assert first.embeddings.shape[:3] == (len(mask), 2, mask.shape[1])


def test_a_small_model_learns(tmp_path: Path) -> None:
    data = {"sign_languages": ["psr"], "letters_per_batch": 20, "curriculum": [1000]}
    pretrain(stage_one(["psr"], data=data, steps=100, lr=5e-3, validate_every=100), tmp_path / "run", CPU)
    rows = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    first, second = (row["loss"] for row in rows if "loss" in row)
    assert second < first
    assert second < 2.6  # a uniform guess among 64 pieces costs 4.16


def test_stage_three_starts_from_the_stated_mt5_or_a_fresh_one(experts: list[Path]) -> None:
    of_stage_one = load_checkpoint(experts[0]).model.language_model.state_dict()["shared.weight"]
    inherited, fresh = assemble(stage_three(experts)), assemble(stage_three(experts, language_model_from=None))
    assert torch.equal(inherited.model.language_model.state_dict()["shared.weight"], of_stage_one)
    assert not torch.equal(fresh.model.language_model.state_dict()["shared.weight"], of_stage_one)
    assert fresh.tokenizer.get_vocab() == inherited.tokenizer.get_vocab()


def test_an_expert_of_another_size_is_refused(experts: list[Path]) -> None:
    model = {**_MODEL, "backbone": {**_MODEL["backbone"], "embedding": 32}, "fusion": {}}
    with pytest.raises(BundleError, match=r"model\.backbone"):
        assemble(stage_three(experts, model=model))


@pytest.mark.parametrize(
    ("content", "message"),
    [("steps = [", "not valid TOML"), ("steps = 3", "stage"), ('stage = "pretrain"\nstep = 3', "step")],
)
def test_a_bad_configuration_is_one_line_and_exit_code_4(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "bad.toml"
    path.write_text(content)
    result = CliRunner().invoke(main, ["pretrain", str(path), "--out", str(tmp_path / "out")])
    assert result.exit_code == 4
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_checkpoints_that_are_none_or_damaged_say_so(experts: list[Path], tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="not a checkpoint"):
        load_checkpoint(tmp_path)
    import shutil

    broken = tmp_path / "broken"
    shutil.copytree(experts[0], broken)
    weights = broken / "experts" / "0" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(BundleError, match="damaged"):
        load_checkpoint(broken)


def test_shipped_configurations_are_valid() -> None:
    directory = Path(load_config.__code__.co_filename).parent / "configs" / "demo"
    configs = {path.stem: load_config(path) for path in directory.glob("*.toml")}
    groups = [set(c.data.sign_languages) for name, c in configs.items() if name.startswith("expert_")]
    assert len(groups) == 3
    assert sum(map(len, groups)) == len(set.union(*groups)) == 13  # disjoint
    assert set(configs["fusion"].data.sign_languages) == set.union(*groups)


def test_the_demo_checkpoint_is_what_the_shipped_configuration_describes() -> None:
    demo = load_checkpoint(demo_checkpoint_path())
    shipped = load_config(demo_checkpoint_path().parent / "configs" / "demo" / "fusion.toml")
    assert demo.config.model == shipped.model
    assert len(demo.experts) == 3
