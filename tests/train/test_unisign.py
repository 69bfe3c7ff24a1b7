"""Published checkpoints: what they compute, what is written down of them, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from published_layout import embeddings, published_state
from torch import Tensor

from signet_runtime.skeleton import REGIONS
from signet_train.checkpoint import load_checkpoint, load_expert
from signet_train.cli import main
from signet_train.interop.origins import ORIGINS
from signet_train.interop.unisign import import_model, read_unisign
from signet_train.model import Backbone
from signet_train.model.losses import token_loss
from signet_train.tokenizer import train_tokenizer


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    return published_state()


@pytest.fixture(scope="module")
def mt5(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tokenizer of few characters, in the place of mT5's."""
    path = tmp_path_factory.mktemp("mt5")
    train_tokenizer(
        ["Translate sign language video to English: Chinese abcdefghijklmnopqrstuvwxyz"], 96
    ).save_pretrained(path)
    return path


def save(state: dict[str, Tensor], path: Path) -> Path:
    torch.save({"model": state}, path)
    return path


def random_regions(batch: int, frames: int) -> dict[str, Tensor]:
    return {name: torch.rand(batch, frames, len(region.joints), 3) * 2 - 1 for name, region in REGIONS.items()}


def test_an_imported_backbone_computes_what_the_published_encoder_does(
    state: dict[str, Tensor], tmp_path: Path
) -> None:
    published = read_unisign(save(state, tmp_path / "x.pth"))
    backbone = Backbone(published.backbone_config).eval()
    backbone.load_state_dict(published.backbone)
    regions = random_regions(2, 11)
    with torch.no_grad():
        ours = backbone(regions, torch.ones(2, 11, dtype=torch.bool)).embeddings
        torch.testing.assert_close(ours, embeddings(state, regions), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("name", "prompt"),
    [
        ("how2sign_pose_only_slt.pth", "Translate sign language video to English: "),
        ("csl_stage1_weight.pth", "Translate sign language video to Chinese: "),
    ],
)
def test_an_imported_model_reads_its_prompt_before_the_signs(
    state: dict[str, Tensor], tmp_path: Path, mt5: Path, name: str, prompt: str
) -> None:
    checkpoint, _ = import_model(save(state, tmp_path / name), ORIGINS[name], "x", mt5)
    model, tokenizer = checkpoint.model, checkpoint.tokenizer
    assert model.config.language_model.prompt == prompt
    regions, mask = random_regions(2, 9), torch.ones(2, 9, dtype=torch.bool)
    tokens = tokenizer([prompt] * 2, return_tensors="pt").input_ids
    labels = tokenizer(["abc", "de"], padding=True, return_tensors="pt").input_ids
    labels[labels == 0] = -100
    lm = model.language_model
    with torch.no_grad():
        read = torch.cat([lm.shared(tokens), embeddings(state, regions)], dim=1)
        expected = lm(inputs_embeds=read, labels=labels)
        ours = model.logits(model.features(regions, mask), mask, labels)
        torch.testing.assert_close(ours, expected.logits, atol=1e-4, rtol=1e-4)
        mean = token_loss(ours, labels, 0.0) / (labels != -100).sum()
        torch.testing.assert_close(mean, expected.loss, atol=1e-5, rtol=1e-5)
        for beams in (1, 4):
            written = lm.generate(inputs_embeds=read, num_beams=beams, max_new_tokens=8, do_sample=False)
            assert torch.equal(model.generate(model.features(regions, mask), mask, beams, 8), written)


def test_a_prompt_changes_nothing_about_padding(state: dict[str, Tensor], tmp_path: Path, mt5: Path) -> None:
    checkpoint, _ = import_model(save(state, tmp_path / "x.pth"), ORIGINS["csl_stage1_weight.pth"], "x", mt5)
    model, lengths = checkpoint.model, [7, 2, 12]
    mask = torch.arange(12) < torch.tensor(lengths)[:, None]
    regions = {name: r.masked_fill(~mask[:, :, None, None], 5.0) for name, r in random_regions(3, 12).items()}
    with torch.no_grad():
        together = model(regions, mask)
        assert together.mask[:, : len(model.prompt)].all()
        for i, length in enumerate(lengths):
            alone = model({k: r[i : i + 1, :length] for k, r in regions.items()}, mask[i : i + 1, :length])
            found = together.hidden_states[i, : len(model.prompt) + length]
            torch.testing.assert_close(alone.hidden_states[0], found, atol=1e-5, rtol=0)


def test_published_files_are_bf16_and_become_fp32(state: dict[str, Tensor], tmp_path: Path, mt5: Path) -> None:
    half = {k: v.bfloat16() if v.is_floating_point() else v for k, v in state.items()}
    published = read_unisign(save(half, tmp_path / "x.pth"))
    assert {v.dtype for v in published.backbone.values()} == {torch.float32, torch.int64}
    torch.testing.assert_close(published.backbone["part_offset"], half["part_para"].float(), atol=0, rtol=0)
    checkpoint, _ = import_model(tmp_path / "x.pth", ORIGINS["csl_stage1_weight.pth"], "x", mt5)
    head = checkpoint.model.language_model.lm_head.weight
    torch.testing.assert_close(head.detach(), half["mt5_model.lm_head.weight"].float(), atol=0, rtol=0)
    assert {p.dtype for p in checkpoint.model.parameters()} == {torch.float32}


def test_import_model_writes_a_checkpoint_that_says_where_it_comes_from(
    state: dict[str, Tensor], tmp_path: Path, mt5: Path
) -> None:
    file = save(state, tmp_path / "openasl_pose_only_slt.pth")
    result = run("import-model", file, tmp_path / "model", "--mt5", mt5)
    assert result.exit_code == 0, result.stderr
    assert "youtube-asl, openasl" in result.stderr
    again = load_checkpoint(tmp_path / "model")
    (card,) = again.experts
    assert (card.name, card.sign_languages, card.seen) == ("model", ("ase",), ("youtube-asl", "openasl"))
    assert card.source.startswith("unisign openasl_pose_only_slt.pth sha256:")
    assert card.backbone.body_injection and card.normalisation == "unisign"
    assert again.config.card.language == "en" and again.config.card.max_new_tokens == 100
    assert again.tokenizer.decode(again.model.prompt).startswith("Translate sign language video to English:")
    regions, mask = random_regions(1, 5), torch.ones(1, 5, dtype=torch.bool)
    direct, _ = import_model(file, ORIGINS[file.name], "model", mt5)
    with torch.no_grad():
        torch.testing.assert_close(again.model(regions, mask)[0], direct.model(regions, mask)[0], atol=0, rtol=0)


def test_import_expert_writes_the_backbone_alone(state: dict[str, Tensor], tmp_path: Path) -> None:
    result = run("import-expert", save(state, tmp_path / "csl_stage1_weight.pth"), tmp_path / "csl")
    assert result.exit_code == 0, result.stderr
    card, weights = load_expert(tmp_path / "csl")
    assert (card.name, card.sign_languages, card.seen) == ("csl", ("csl",), ("csl-news",))
    assert torch.equal(weights["part_offset"], state["part_para"])
    assert not (tmp_path / "csl" / "language_model").exists()


@pytest.mark.parametrize(
    ("extra", "said"),
    [
        (
            {
                "rgb_support_backbone.0.0.0.weight": torch.zeros(3),
                "rgb_proj.weight": torch.zeros(2),
                "fusion_pose_rgb_linear.weight": torch.zeros(2),
                "fusion_pose_rgb_DA.to_q.weight": torch.zeros(2),
                "fusion_gate.0.weight": torch.zeros(2),
            },
            "the RGB branch was left out",
        ),
        (
            {
                "hyp_proj_body.proj.weight": torch.zeros(2),
                "hyp_proj_body.manifold.isp_c": torch.zeros(1),
                "hyp_attn_W": torch.zeros(2),
                "manifold.isp_c": torch.zeros(1),
                "geom_loss.temp": torch.zeros(1),
                "loss_alpha_logit": torch.zeros(1),
                "global_step": torch.tensor(3),
            },
            "Geo-Sign's hyperbolic heads was left out",
        ),
    ],
)
def test_what_is_left_out_is_said(
    state: dict[str, Tensor], tmp_path: Path, extra: dict[str, Tensor], said: str
) -> None:
    file = save({f"module.{k}": v for k, v in (state | extra).items()}, tmp_path / "best.pth")  # as DDP names them
    result = run("import-expert", file, tmp_path / "out", "--sign-language", "csl", "--corpus", "csl-daily")
    assert result.exit_code == 0, result.stderr
    assert said in result.stderr
    assert load_expert(tmp_path / "out")[0].seen == ("csl-daily",)


def _without(*names: str) -> Callable[[dict[str, Tensor]], object]:
    return lambda s: {"model": {k: v for k, v in s.items() if not k.startswith(names)}}


def _with(**changes: Tensor) -> Callable[[dict[str, Tensor]], object]:
    return lambda s: {"model": s | {k.replace("__", "."): v for k, v in changes.items()}}


class _Gadget:
    def __reduce__(self) -> tuple[object, tuple[str, ...]]:
        return print, ("executed",)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: {"model": s, "note": _Gadget()}, "it asks for print"),
        (lambda s: {"model": {"a": 1}}, "no weights under 'model'"),
        (lambda s: [1, 2], "no weights under 'model'"),
        (_without("pose_proj.weight"), "pose_proj.weight is missing"),
        (_without("gcn_modules.body.layer1_0.gcn.A"), "gcn_modules.body.layer1_0.gcn.A is missing"),
        (
            _without("gcn_modules.right.layer0_0.gcn.bn.running_mean", "gcn_modules.left.layer0_0.gcn.bn.running_mean"),
            "saved without its running statistics",
        ),
        (
            _without("gcn_modules", "fusion_gcn_modules", "proj_linear", "pose_proj", "part_para"),
            "no pose encoder in it",
        ),
        (lambda s: {"model": {"rgb_support_backbone.0.weight": torch.zeros(1)}}, "it has an RGB branch alone"),
        (lambda s: {"model": {"base_model.model.q.lora_A.default.weight": torch.zeros(1)}}, "LoRA"),
        (_with(part_para=torch.zeros(512)), r"part_para has the shape (512,), the published encoder's is (1024,)"),
        (
            _with(gcn_modules__left__layer0_0__gcn__A=torch.zeros(2, 21, 21)),
            "differ, and the hands share their weights",
        ),
        (_with(gcn_modules__body__layer0_0__gcn__A=torch.full((2, 9, 9), torch.nan)), "values that are not finite"),
        (_with(classifier__weight=torch.zeros(3)), "classifier.weight is not of Uni-Sign's published model"),
        (_with(pose_proj__weight=torch.zeros(16, 1024), pose_proj__bias=torch.zeros(16)), "embeddings of 16"),
        (_without("mt5_model.decoder.block.1.layer.0.SelfAttention.q"), "layer.0.SelfAttention.q.weight is missing"),
        (_with(mt5_model__decoder__embed_tokens__weight=torch.zeros(96, 32)), "decoder.embed_tokens.weight differs"),
        (_with(mt5_model__lm_head__weight=torch.zeros(90, 32)), "mt5_model.lm_head.weight has the shape (90, 32)"),
        (_with(mt5_model__extra=torch.zeros(1)), "mt5_model.extra is not of an mT5"),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_refused_in_one_line(
    state: dict[str, Tensor],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    change: Callable[[dict[str, Tensor]], object],
    message: str,
) -> None:
    torch.save(change(state), tmp_path / "csl_stage1_weight.pth")
    refused(tmp_path, message)
    assert "executed" not in capfd.readouterr().out


@pytest.mark.parametrize("cut", [0, 100, 200_000, -5])
def test_a_truncated_checkpoint_is_refused(state: dict[str, Tensor], tmp_path: Path, cut: int) -> None:
    file = save(state, tmp_path / "csl_stage1_weight.pth")
    file.write_bytes(file.read_bytes()[:cut])
    refused(tmp_path, "csl_stage1_weight.pth")


def test_an_encoder_without_a_language_model_is_an_expert_and_no_model(
    state: dict[str, Tensor], tmp_path: Path, mt5: Path
) -> None:
    file = tmp_path / "csl_stage1_weight.pth"
    torch.save(_without("mt5_model")(state), file)
    result = run("import-model", file, tmp_path / "model", "--mt5", mt5)
    assert result.exit_code == 4
    assert "import-expert" in result.stderr
    assert run("import-expert", file, tmp_path / "expert").exit_code == 0


def test_what_cannot_be_known_must_be_said(state: dict[str, Tensor], tmp_path: Path, mt5: Path) -> None:
    file = save(state, tmp_path / "mine.pth")
    result = run("import-model", file, tmp_path / "out", "--mt5", mt5, "--sign-language", "ise")
    assert result.exit_code == 2
    assert "--language, --corpus" in result.stderr
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("mine")
    result = run("import-expert", file, tmp_path / "out", "--sign-language", "ise", "--corpus", "lis-news")
    assert result.exit_code == 2
    assert "exists already" in result.stderr


def test_a_tokenizer_that_does_not_fit_is_refused(state: dict[str, Tensor], tmp_path: Path) -> None:
    file = save(state, tmp_path / "csl_stage1_weight.pth")
    assert "no mT5 tokenizer there" in run("import-model", file, tmp_path / "a", "--mt5", tmp_path).stderr
    train_tokenizer(["".join(map(chr, range(0x4E00, 0x4E80)))], 200).save_pretrained(tmp_path / "large")
    result = run("import-model", file, tmp_path / "a", "--mt5", tmp_path / "large")
    assert result.exit_code == 4
    assert "its tokenizer has 132 pieces" in result.stderr


def run(command: str, file: Path, out: Path, *options: object):  # type: ignore[no-untyped-def]
    return CliRunner().invoke(main, [command, "unisign", str(file), "--out", str(out), *map(str, options)])


def refused(tmp_path: Path, message: str) -> None:
    result = run("import-expert", tmp_path / "csl_stage1_weight.pth", tmp_path / "out")
    assert result.exit_code == 4, result.output
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert not (tmp_path / "out").exists()
