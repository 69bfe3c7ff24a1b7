"""What the authors' code does otherwise than the paper, as settings that are off unless they are asked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_runs import FUSION, MODEL, config
from torch import nn

from signet_runtime.errors import CheckpointError
from signet_runtime.pose.files import write_keypoints
from signet_runtime.pose.sequence import PoseSequence
from signet_runtime.regions import extract_regions
from signet_train.checkpoint import demo_checkpoint_path, load_checkpoint, save_checkpoint
from signet_train.config import FusionConfig, TrainConfig, load_config
from signet_train.data.batches.cache import fingerprint
from signet_train.data.batches.dataset import LocatedRow, PoseDataset
from signet_train.data.manifest import Row
from signet_train.model.adapter import Adapter
from signet_train.model.aggregation import Aggregation
from signet_train.stages.assemble import fused_experts
from signet_train.stages.plan import plan_stage
from signet_train.stages.run import run_stage


def with_fusion(**changes: object) -> dict[str, object]:
    return {"model": {**MODEL, "fusion": {**FUSION, **changes}}}


def test_the_attention_drops_out_in_training_alone() -> None:
    torch.manual_seed(0)
    plain, dropping = Aggregation(6, 8), Aggregation(6, 8, dropout=0.5)
    dropping.load_state_dict(plain.state_dict())
    dropping.norm = nn.Identity()  # type: ignore[assignment]
    plain.norm = nn.Identity()  # type: ignore[assignment]
    priors = torch.rand(200, 3, 6) + 1
    with torch.no_grad():
        expected = plain(priors)
        assert torch.equal(dropping.eval()(priors), expected)
        dropped = dropping.train()(priors)
        assert torch.equal(plain.train()(priors), expected)
    nothing = float((dropped.abs().sum(dim=1) == 0).float().mean())
    assert nothing == pytest.approx(1 / 8, abs=0.08)  # all three experts at once
    assert float(dropped.mean()) == pytest.approx(float(expected.mean()), rel=0.2)  # what is left is scaled up


def test_adapters_that_are_drawn_again_are_no_identity() -> None:
    torch.manual_seed(0)
    paper, redrawn = Adapter(768, 16, 0.0), Adapter(768, 16, 0.0, "redrawn")
    assert not paper.up.any() and float(paper.down.detach().std()) == pytest.approx(0.01, rel=0.05)
    for matrix in (redrawn.up, redrawn.down):
        assert float(matrix.detach().std()) == pytest.approx(0.02, rel=0.05)
    z = torch.randn(2, 5, 768)
    with torch.no_grad():
        assert torch.equal(paper(z), z) and not torch.equal(redrawn(z), z)


@pytest.mark.parametrize("learned", [True, False])
def test_the_temperature_stays_unless_it_is_learned(
    experts: list[Path], manifest: Path, tmp_path: Path, learned: bool
) -> None:
    settings = config(
        "align", manifest, experts=experts, start_from=experts[0], optimisation={"learn_temperature": learned}
    )
    run_stage(settings, tmp_path / "run", "cpu")
    state = torch.load(tmp_path / "run" / "last" / "training_state.pt", weights_only=True)
    assert (np.exp(state["log_temperature"]) == pytest.approx(0.07, abs=1e-6)) is not learned


def test_stage_3_goes_on_without_the_adapters_of_stage_2(experts: list[Path], manifest: Path, tmp_path: Path) -> None:
    align = config("align", manifest, experts=experts, start_from=experts[0], **with_fusion())
    aligned = fused_experts(plan_stage(align))
    assert aligned.model.fusion is not None
    for adapter in aligned.model.fusion.adapters:
        nn.init.normal_(adapter.up)
    save_checkpoint(tmp_path / "aligned", aligned)

    def start(**changes: object) -> TrainConfig:
        return config("finetune", manifest, experts=experts, start_from=tmp_path / "aligned", **with_fusion(**changes))

    without = start(adapter_rank=0)
    made = fused_experts(plan_stage(without)).model.fusion
    assert made is not None and not list(made.adapters.parameters())
    theirs = aligned.model.fusion.state_dict()
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in made.state_dict().items())
    for changes in ({"adapter_rank": 0, "router_hidden": 12}, {"adapter_rank": 3}):
        with pytest.raises(CheckpointError, match="another fusion"):
            fused_experts(plan_stage(start(**changes)))


def test_of_a_long_clip_the_beginning_is_read(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    clip = PoseSequence(rng.random((300, 133, 2)), rng.uniform(0.5, 1, (300, 133)), 25.0, (1, 1), "rtmpose")
    write_keypoints(tmp_path / "a.npz", clip)
    rows = [
        LocatedRow(Row(id="a", split="train", poses="a.npz", text="x", language="de", sign_language="gsg"), tmp_path)
    ]
    data = {"long_clips": "first", "noise": 0, "frame_drop": 0, "frame_rate": None}
    settings = config("pretrain", tmp_path / "none.jsonl", data=data)
    expected = extract_regions(clip.take(np.arange(256)))
    for training in (True, False):
        sample = PoseDataset(rows, settings, training)[3, 0]
        for name, region in expected.items():
            np.testing.assert_array_equal(sample.regions[name], region)


def test_a_cache_knows_which_frames_it_is_of(experts: list[Path], manifest: Path) -> None:
    settings = [config("finetune", manifest, experts=experts, data={"long_clips": c}) for c in ("sampled", "first")]
    module = load_checkpoint(experts[0]).model.experts
    sampled, first = (fingerprint(s, module, {}) for s in settings)
    assert sampled != first
    assert "long_clips" not in sampled  # a cache from before there was a choice is still this one


OFFICIAL = demo_checkpoint_path().parent / "configs" / "official"


@pytest.mark.parametrize("path", sorted(OFFICIAL.glob("*.toml")), ids=lambda path: path.stem)
def test_official_configurations_are_the_authors_scripts(path: Path) -> None:
    made = load_config(path)
    o, corpus = made.optimisation, path.stem.rpartition("_")[0]
    assert path.stem.endswith(f"_{made.stage}")
    schedule = (o.epochs, o.warmup_epochs, o.batch_size, o.accumulation, o.lr)
    assert (
        schedule
        == {
            "pretrain": (20, 0, 16, 8, 3e-4),
            "align": (20, 1, 8, 4, 8e-4),
            "finetune": (40, 2, 8, 1, 1e-4),
        }[made.stage]
    )
    assert (o.weight_decay, o.min_lr, o.label_smoothing, o.precision, o.clip_norm) == (0.01, 0, 0.2, "bf16", 1.0)
    assert (made.data.noise, made.data.frame_drop, made.data.max_frames) == (0, 0, 256)
    assert (made.data.long_clips == "first") is (corpus in ("how2sign", "meinedgs"))
    assert made.model.backbone.body_injection
    prompt = made.model.language_model.prompt
    if made.stage == "pretrain":
        assert made.model.fusion is None
        assert prompt is not None and prompt.endswith("Chinese: " if corpus == "csl_news" else "English: ")
        return
    fusion = made.model.fusion
    assert fusion is not None
    assert fusion == FusionConfig(router_hidden=128, attention_dropout=0.1, adapter_start="redrawn")
    if made.stage == "align":
        assert prompt is None and not o.learn_temperature and o.router_lr == 1e-3
    else:
        language = {"de": "German", "zh": "Chinese", "en": "English"}[made.card.language]
        assert prompt == f"Translate sign language video to {language}: " and o.router_lr == 3e-4


def test_official_configurations_are_all_there() -> None:
    stages = {f"{corpus}_pretrain" for corpus in ("csl_news", "youtube_asl", "bobsl")}
    corpora = ("phoenix14t", "csl_daily", "how2sign", "meinedgs")
    stages |= {f"{corpus}_{stage}" for corpus in corpora for stage in ("align", "finetune")}
    assert {path.stem for path in OFFICIAL.glob("*.toml")} == stages
