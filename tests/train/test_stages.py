"""Training runs: each stage trains what it should from where it should, and leaves a run that can be used."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from tiny_runs import FUSION, MODEL, config, words
from torch import nn

from signet_runtime.errors import CheckpointError, ConfigError, InputError, TrainingError
from signet_train.checkpoint import demo_checkpoint_path, load_checkpoint
from signet_train.cli import main
from signet_train.config import OptimisationConfig, TrainConfig
from signet_train.data.batches.collate import Batch
from signet_train.data.manifest import Manifest, read_manifest
from signet_train.model.signet import Signet, build_language_model
from signet_train.stages.assemble import fused_experts, text_encoder
from signet_train.stages.loop import learning_rate
from signet_train.stages.objectives import Alignment, Translation, set_trainable
from signet_train.stages.plan import plan_stage
from signet_train.stages.run import run_stage


def logged(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


def assert_same_weights(a: Path, b: Path) -> None:
    one, two = load_checkpoint(a).model.state_dict(), load_checkpoint(b).model.state_dict()
    for name, value in one.items():
        assert torch.equal(value, two[name]), name


# --- What the stages do ------------------------------------------------------------------------------------


def test_stage_one_keeps_the_best_bleu_and_says_what_it_learned(experts: list[Path]) -> None:
    run = experts[0].parent
    scores = [row["bleu4"] for row in logged(run) if "bleu4" in row]
    assert len(scores) == 2  # one an epoch
    assert list((run / "tensorboard").iterdir())
    checkpoint = load_checkpoint(run / "best")
    assert checkpoint.experts[0].sign_languages == ("ase",)
    assert checkpoint.experts[0].corpus == "words"
    # The vocabulary is the corpus', not the expert's: experts of one corpus can be fused.
    assert checkpoint.tokenizer.get_vocab() == load_checkpoint(experts[1]).tokenizer.get_vocab()


def test_stage_two_then_three(experts: list[Path], manifest: Path, tmp_path: Path) -> None:
    run_stage(config("align", manifest, experts=experts), tmp_path / "align", "cpu")
    info_nce = [row["info_nce"] for row in logged(tmp_path / "align") if "info_nce" in row]
    assert len(info_nce) == 2 and all(np.isfinite(info_nce))
    aligned = load_checkpoint(tmp_path / "align" / "best")
    run_stage(
        config("finetune", manifest, experts=experts, start_from=tmp_path / "align" / "best"), tmp_path / "tune", "cpu"
    )
    tuned = load_checkpoint(tmp_path / "tune" / "best")
    assert [card.sign_languages for card in tuned.experts] == [("ase",), ("gsg",)]
    for path, before, after in zip(experts, aligned.model.experts, tuned.model.experts, strict=True):
        original = load_checkpoint(path).model.experts[0].state_dict()
        for name, value in original.items():
            assert torch.equal(value, before.state_dict()[name]), name
            assert torch.equal(value, after.state_dict()[name]), name
    # Stage III started from Stage II's fusion.
    begun = start(tuned.config).model.fusion
    assert begun is not None and aligned.model.fusion is not None
    for name, value in aligned.model.fusion.state_dict().items():
        assert torch.equal(value, begun.state_dict()[name]), name


def test_a_changed_expert_stops_training(
    experts: list[Path], manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Signet.features

    def meddle(self: Signet, *args: Any) -> Any:
        self.experts[0].part_offset.data += 1
        return original(self, *args)

    monkeypatch.setattr(Signet, "features", meddle)
    settings = config("finetune", manifest, experts=experts, start_from=experts[0])
    with pytest.raises(TrainingError, match="frozen experts have changed"):
        run_stage(settings, tmp_path / "run", "cpu")


def test_alignment_compares_the_signs_and_not_the_prompt(experts: list[Path], manifest: Path) -> None:
    settings = config("align", manifest, experts=experts, start_from=experts[0])
    language_model = settings.model.language_model.model_copy(update={"prompt": "read"})
    settings = settings.model_copy(
        update={"model": settings.model.model_copy(update={"language_model": language_model})}
    )
    checkpoint = fused_experts(plan_stage(settings))
    model = checkpoint.model.eval()
    mask = torch.arange(9) < torch.tensor([9, 4])[:, None]
    regions = {n: torch.rand(2, 9, j, 3) for n, j in (("body", 9), ("left_hand", 21), ("right_hand", 21), ("face", 18))}
    objective = Alignment(model, text_encoder(settings, checkpoint), 0.07)
    with torch.no_grad():
        visual, _ = objective.embed(Batch(list("ab"), list("ab"), mask, torch.full((2, 2), 3), regions))
        states = model(regions, mask).hidden_states
    prompt = len(model.prompt)
    assert prompt > 1 and states.shape[1] == prompt + 9
    for i, length in enumerate((9, 4)):
        torch.testing.assert_close(visual[i], states[i, prompt : prompt + length].mean(dim=0))


@pytest.mark.parametrize("stage", ["pretrain", "align", "finetune"])
def test_gradients_reach_what_a_stage_trains_and_nothing_else(stage: str, experts: list[Path], manifest: Path) -> None:
    changes = {} if stage == "pretrain" else {"experts": experts, "start_from": experts[0]}
    settings = config(stage, manifest, **changes)
    torch.manual_seed(0)
    model = Signet(settings.model, 1 if stage == "pretrain" else 2)
    set_trainable(model, stage, train_experts=False)
    model.train()
    regions = {
        name: torch.rand(4, 9, joints, 3)
        for name, joints in (("body", 9), ("left_hand", 21), ("right_hand", 21), ("face", 18))
    }
    mask, labels = torch.ones(4, 9, dtype=torch.bool), torch.randint(3, 60, (4, 5))
    batch = Batch(list("abcd"), list("abcd"), mask, labels, regions)
    if stage == "align":
        objective: nn.Module = Alignment(model, build_language_model(settings.model.language_model).encoder, 0.07)
    else:
        objective = Translation(model, 0.2)
    # The adapters' up-projection starts at zero, which would keep gradients from what lies before it.
    if model.fusion is not None:
        for adapter in model.fusion.adapters:
            nn.init.normal_(adapter.up)
    objective(batch).backward()
    reached = {name for name, p in objective.named_parameters() if p.grad is not None and p.grad.any()}

    def part(name: str) -> str:
        name = name.removeprefix("model.")
        if name.startswith("language_model."):
            return ".".join(name.split(".")[:2])
        return name.split(".")[0]

    expected = {
        "pretrain": {"experts", "language_model.shared", "language_model.encoder", "language_model.decoder"}
        | {"language_model.lm_head"},
        "align": {"fusion", "language_model.encoder", "log_temperature"},
        "finetune": {"fusion", "language_model.shared", "language_model.encoder", "language_model.decoder"}
        | {"language_model.lm_head"},
    }[stage]
    assert {part(name) for name in reached} == expected
    trainable = {name for name, p in objective.named_parameters() if p.requires_grad}
    assert {part(name) for name in trainable} == expected
    if stage == "align":
        assert not any("embed_tokens" in name for name in trainable)


def test_recognition_has_glosses_for_targets(experts: list[Path], manifest: Path, tmp_path: Path) -> None:
    from dataclasses import replace

    from signet_train.data.manifest import read_manifest, write_manifest

    rows = [replace(row, gloss=row.text[0], text="") for row in read_manifest(manifest).rows]
    write_manifest(tmp_path / "glosses.jsonl", rows)
    settings = config("finetune", tmp_path / "glosses.jsonl", experts=experts, start_from=experts[0], task="recognise")
    run_stage(settings, tmp_path / "run", "cpu")
    figures = [row for row in logged(tmp_path / "run") if "per_instance" in row]
    assert len(figures) == 2 and all(0 <= f["per_class"] <= 100 for f in figures)
    checkpoint, split = str(tmp_path / "run" / "best"), "dev"
    result = CliRunner().invoke(main, ["evaluate", checkpoint, "--split", split, "--device", "cpu"])
    assert result.exit_code == 0, result.stderr
    assert [line.split()[0] for line in result.stdout.splitlines()] == ["P-I", "P-C"]


def test_a_single_expert_is_tuned_frozen_or_not(experts: list[Path], manifest: Path, tmp_path: Path) -> None:
    frozen = load_checkpoint(experts[0]).model.experts[0].state_dict()
    for trains in (False, True):
        settings = config(
            "finetune", manifest, model=MODEL, experts=experts[:1], start_from=experts[0], train_experts=trains
        )
        run_stage(settings, tmp_path / str(trains), "cpu")
        after = load_checkpoint(tmp_path / str(trains) / "last").model.experts[0].state_dict()
        assert all(torch.equal(value, after[name]) for name, value in frozen.items()) is not trains


def test_a_small_model_learns(tmp_path: Path) -> None:
    manifest = words(tmp_path / "w.jsonl", train=200, sign_languages=("psr",))
    settings = config("pretrain", manifest, optimisation={"epochs": 8, "batch_size": 16, "lr": 5e-3})
    run_stage(settings, tmp_path / "run", "cpu")
    losses = [row["loss"] for row in logged(tmp_path / "run") if "loss" in row]
    assert losses[-1] < losses[0]
    assert losses[-1] < 3.2  # a uniform guess among 64 pieces costs 4.16


# --- Where they start from (Sec. 3.7, C.1) -------------------------------------------------------------------


def start(settings: TrainConfig) -> Any:
    return fused_experts(plan_stage(settings))


def test_a_plan_reads_the_manifests_once(manifest: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Path] = []

    def reading(path: Path) -> Manifest:
        read.append(path)
        return read_manifest(path)

    monkeypatch.setattr("signet_train.data.manifest.read_manifest", reading)
    plan = plan_stage(config("pretrain", manifest, data={"sign_languages": ["gsg"]}))
    assert read == [manifest]
    assert list(plan.rows) == ["train", "dev"] and plan.rows["dev"] is plan.validation
    assert {r.row.split for r in plan.training} == {"train"} and {r.row.split for r in plan.validation} == {"dev"}
    assert plan.sign_languages == {"gsg"} == {r.row.sign_language for r in plan.validation}
    # A vocabulary is of the whole corpus.
    assert {r.row.sign_language for r in plan.corpus} == {"ase", "gsg"}


def embeddings(path: Path) -> torch.Tensor:
    return load_checkpoint(path).model.language_model.shared.weight


def test_a_language_that_was_seen_takes_its_experts_language_model(
    experts: list[Path], manifest: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    settings = config("finetune", manifest, experts=experts, data={"sign_languages": ["gsg"]})
    assert torch.equal(start(settings).model.language_model.shared.weight, embeddings(experts[1]))
    assert "gsg was seen by two" in caplog.text
    with pytest.raises(ConfigError, match="go on with Stage III"):
        start(settings.model_copy(update={"stage": "align"}))


def test_a_language_that_was_not_seen_is_aligned_first(
    experts: list[Path], manifest: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = config("finetune", manifest, experts=experts)  # ase and gsg: no expert has seen both
    with pytest.raises(ConfigError, match=r"no expert has seen ase, gsg: run Stage II"):
        start(settings)
    aligning = settings.model_copy(update={"stage": "align"})
    assert torch.equal(start(aligning).model.language_model.shared.weight, embeddings(experts[0]))
    # With a Chinese expert among them it is that one's (C.1).
    import shutil

    chinese = tmp_path / "chinese"
    shutil.copytree(experts[1], chinese)
    card = chinese / "experts" / "0" / "config.json"
    card.write_text(card.read_text().replace('"gsg"', '"csl"'))
    caplog.set_level(logging.INFO)
    begun = start(aligning.model_copy(update={"experts": (experts[0], chinese)}))
    assert torch.equal(begun.model.language_model.shared.weight, embeddings(experts[1]))
    assert "(C.1)" in caplog.text


def test_the_rule_can_be_overridden(experts: list[Path], manifest: Path) -> None:
    settings = config("finetune", manifest, experts=experts, start_from=experts[1])
    assert torch.equal(start(settings).model.language_model.shared.weight, embeddings(experts[1]))


def test_stage_one_starts_from_a_pretrained_mt5(manifest: Path, tmp_path: Path) -> None:
    torch.manual_seed(5)
    tokenizer = load_checkpoint(demo_checkpoint_path()).tokenizer
    mt5 = build_language_model(config("pretrain", manifest).model.language_model)
    mt5.save_pretrained(tmp_path / "mt5")
    tokenizer.save_pretrained(tmp_path / "mt5")
    still = {"lr": 0.0, "min_lr": 0.0, "weight_decay": 0.0}
    settings = config("pretrain", manifest, mt5=str(tmp_path / "mt5"), optimisation=still)
    run_stage(settings, tmp_path / "run", "cpu")
    after = load_checkpoint(tmp_path / "run" / "last")
    assert torch.equal(after.model.language_model.shared.weight, mt5.shared.weight)
    assert after.tokenizer.get_vocab() == tokenizer.get_vocab()
    # and Stage II reads text with it, however the language model has changed since
    trained = tmp_path / "run" / "last"
    aligning = config("align", manifest, experts=[trained] * 2, start_from=trained, mt5=str(tmp_path / "mt5"))
    reader = text_encoder(aligning, start(aligning))
    assert torch.equal(reader.embed_tokens.weight, mt5.shared.weight)
    wider = {**MODEL, "language_model": {**MODEL["language_model"], "d_ff": 48}}
    other = config("pretrain", manifest, mt5=str(tmp_path / "mt5"), model=wider)
    with pytest.raises(CheckpointError, match=r"its d_ff is 32, and model\.language_model states 48"):
        run_stage(other, tmp_path / "other", "cpu")
    absent = config("pretrain", manifest, mt5=str(tmp_path / "none"))
    with pytest.raises(CheckpointError, match="no such directory, and no name of the Hugging Face hub"):
        run_stage(absent, tmp_path / "absent", "cpu")


def test_experts_and_fusion_that_do_not_fit_are_refused(experts: list[Path], manifest: Path, tmp_path: Path) -> None:
    bigger = {**MODEL, "backbone": {**MODEL["backbone"], "input_channels": 8}, "fusion": FUSION}
    with pytest.raises(CheckpointError, match=r"another backbone than model\.backbone"):
        start(config("finetune", manifest, experts=experts, model=bigger, start_from=experts[0]))
    run_stage(config("align", manifest, experts=experts), tmp_path / "align", "cpu")
    turned = config("finetune", manifest, experts=experts[::-1], start_from=tmp_path / "align" / "best")
    with pytest.raises(CheckpointError, match="trained on other experts"):
        start(turned)
    with pytest.raises(CheckpointError, match="holds several experts"):
        start(config("finetune", manifest, experts=[tmp_path / "align" / "best", experts[0]], start_from=experts[0]))
    with pytest.raises(ConfigError, match="Stages II and III need some"):
        start(config("finetune", manifest))


# --- The loop ------------------------------------------------------------------------------------------------


def test_the_learning_rate_is_a_warm_up_and_a_cosine() -> None:
    given = OptimisationConfig(epochs=40, warmup_epochs=4)
    epochs = np.linspace(0, 40, 81)
    warm = np.minimum(epochs / 4, 1)
    cosine = 1e-7 + (3e-4 - 1e-7) * (1 + np.cos(np.pi * (epochs - 4) / 36)) / 2
    expected = np.where(epochs < 4, 3e-4 * warm, cosine)
    np.testing.assert_allclose([learning_rate(given, 3e-4, e) for e in epochs], expected, rtol=1e-9)
    assert learning_rate(given, 8e-4, 4) == 8e-4


def plain_descent(groups: Any, **_: Any) -> torch.optim.Optimizer:
    """Steps as large as the gradient: Adam's would make much of the last bit of a gradient that is all but zero."""
    return torch.optim.SGD(groups, lr=0.01)


def test_accumulation_equals_the_large_batch(
    experts: list[Path], manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weighted by tokens: words differ in length, so a mean of means would not do. Dropout and Gumbel noise are off."""
    monkeypatch.setattr("signet_train.model.router.F.gumbel_softmax", lambda logits, tau: (logits / tau).softmax(-1))
    monkeypatch.setattr("torch.optim.AdamW", plain_descent)
    for name, batch_size, accumulation in (("large", 16, 1), ("parts", 4, 4)):
        sizes = {"epochs": 2, "batch_size": batch_size, "accumulation": accumulation, "lr": 0.3, "clip_norm": 1e9}
        settings = config("finetune", manifest, experts=experts, start_from=experts[0], optimisation=sizes)
        run_stage(settings, tmp_path / name, "cpu")
    large, parts = (load_checkpoint(tmp_path / name / "last").model.state_dict() for name in ("large", "parts"))
    for name, value in large.items():
        torch.testing.assert_close(parts[name], value, atol=2e-5, rtol=1e-4, msg=lambda m, name=name: f"{name}: {m}")
    moved = load_checkpoint(experts[0]).model.language_model.lm_head.weight - large["language_model.lm_head.weight"]
    assert moved.abs().max() > 1e-2


def test_a_run_is_not_overwritten_and_resumes_with_its_own_configuration(
    experts: list[Path], manifest: Path, tmp_path: Path
) -> None:
    run = experts[0].parent
    settings = config("pretrain", manifest, data={"sign_languages": ["ase"]})
    with pytest.raises(CheckpointError, match="holds a run already"):
        run_stage(settings, run, "cpu")
    with pytest.raises(CheckpointError, match=r"optimisation\.lr was 0\.01 and is 1"):
        run_stage(
            config("pretrain", manifest, data={"sign_languages": ["ase"]}, optimisation={"lr": 1}), run, "cpu", True
        )
    with pytest.raises(CheckpointError, match="no checkpoint to resume from"):
        run_stage(settings, tmp_path / "none", "cpu", resume=True)


def test_data_that_do_not_fill_a_step_and_bf16_without_a_gpu_are_said_early(manifest: Path, tmp_path: Path) -> None:
    too_large = config("pretrain", manifest, optimisation={"batch_size": 64})
    with pytest.raises(InputError, match="has 48 samples, and a step takes 64"):
        run_stage(too_large, tmp_path / "a", "cpu")
    with pytest.raises(ConfigError, match="bf16 needs a GPU"):
        run_stage(config("pretrain", manifest, optimisation={"precision": "bf16"}), tmp_path / "b", "cpu")


def test_a_loss_that_is_no_number_stops_the_run(manifest: Path, tmp_path: Path) -> None:
    settings = config("pretrain", manifest)
    beyond = settings.optimisation.model_copy(update={"lr": 1e30, "clip_norm": 1e30})  # no configuration has these
    with pytest.raises(TrainingError, match=r"the loss is (nan|inf)"):
        run_stage(settings.model_copy(update={"optimisation": beyond}), tmp_path / "run", "cpu")
