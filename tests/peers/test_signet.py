"""Ours against the code that the paper's authors published (github.com/elsobhano/SIGNET).

    git clone https://github.com/elsobhano/SIGNET /path/to/SIGNET          # compared at commits b9a7e5a and 66d46bd
    git clone https://github.com/ZechengLi19/Uni-Sign /path/to/Uni-Sign    # its stgcn_layers, which theirs lacks
    SIGNET_OFFICIAL=/path/to/SIGNET SIGNET_UNISIGN=/path/to/Uni-Sign python -m pytest tests/peers/test_signet.py

With ``-m slow`` once more, around an mT5 of base size. Clips of one batch are of one length: theirs takes padding into
its means, and what it makes of a clip depends on its neighbours. Which of its commits the checkout is, is seen by what
it computes: at 66d46bd the adapters are not used in Stage III.
"""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

if not os.environ.get("SIGNET_OFFICIAL"):
    pytest.skip("SIGNET_OFFICIAL names no checkout of the authors' SIGNET", allow_module_level=True)

import torch
from parity import LABEL_SMOOTHING, MAX_TARGET_TOKENS, Agree
from peer import PARTS, SENTENCES, Clip, random_clip, randomise, save_language_model
from torch import Tensor
from transformers import MT5Config

from benchmarks.peers.signet_checkout import load_models
from signet_runtime.regions import extract_regions
from signet_train.checkpoint import Checkpoint
from signet_train.data.batches.collate import Batch, Collate
from signet_train.data.batches.dataset import Sample
from signet_train.interop.origins import Origin
from signet_train.interop.signet import import_signet
from signet_train.model.fusion import Fusion
from signet_train.model.losses import info_nce, token_loss
from signet_train.model.pooling import masked_mean

# By what the authors' code chooses its prompt; How2Sign's is Uni-Sign's, and the tokenizer of the tests knows it.
DATASET, ORIGIN = "How2Sign", Origin("ase", "en", ("how2sign",))
ARGUMENTS = SimpleNamespace(hidden_dim=256, label_smoothing=LABEL_SMOOTHING, dataset=DATASET, use_lora=False)
EXPERTS = [
    Origin("csl", "und", ("csl-news",)),
    Origin("ase", "und", ("youtube-asl",)),
    Origin("bfi", "und", ("bobsl",)),
]


@dataclass(frozen=True)
class Authors:
    """Their experts and gate with random weights, and ours, imported from the files that their code would write."""

    experts: list[Any]
    gate: Any
    ours: Checkpoint
    adapts: bool  # whether their Stage III uses its adapters

    @property
    def fusion(self) -> Fusion:
        assert isinstance(self.ours.model.fusion, Fusion)
        return self.ours.model.fusion

    def theirs(self, clips: Sequence[Clip]) -> tuple[list[dict[str, Tensor]], dict[str, Any], Tensor]:
        """What experts see, targets with precomputed text vectors, and the mask."""
        regions = [extract_regions(clip.sequence()) for clip in clips]
        source = {part: torch.stack([torch.from_numpy(r[name]) for r in regions]) for name, part in PARTS.items()}
        with torch.no_grad():
            seen = [expert(source, None) for expert in self.experts]
        text = torch.randn(len(clips), 768, generator=torch.Generator().manual_seed(len(clips)))
        target = {"gt_sentence": sentences(len(clips)), "text_embeddings": text}
        return seen, target, torch.ones(source["body"].shape[:2], dtype=torch.int64)

    def batch(self, clips: Sequence[Clip]) -> Batch:
        regions = [extract_regions(clip.sequence()) for clip in clips]
        named = enumerate(zip(regions, sentences(len(clips)), strict=True))
        collate = Collate(self.ours.tokenizer, MAX_TARGET_TOKENS)
        return collate([Sample(str(i), clip, text) for i, (clip, text) in named])


def sentences(count: int) -> list[str]:
    return [SENTENCES["English"][i % 3] for i in range(count)]


def left_first(prior: Tensor) -> Tensor:
    """A hand prior of ours as theirs: [left; right]."""
    return prior.roll(prior.shape[-1] // 2, dims=-1)


@pytest.fixture(scope="module")
def models() -> ModuleType:
    unisign = os.environ.get("SIGNET_UNISIGN")
    return load_models(Path(os.environ["SIGNET_OFFICIAL"]), Path(unisign) if unisign else None)


def build(models: ModuleType, count: int, language_model: Path, scratch: Path) -> Authors:
    models.SignetGate.__init__.__globals__["mt5_path"] = str(language_model)  # of models/signet.py
    files, experts = [], []
    with torch.random.fork_rng():
        torch.manual_seed(count)
        for i in range(count):
            stage_1 = models.SignetModel(ARGUMENTS)
            randomise(stage_1)
            state = models.get_requires_grad_dict(stage_1.eval())
            files.append(scratch / f"expert_{i}.pth")
            torch.save({"model": state}, files[-1])
            expert = models.SignetExpert(ARGUMENTS)
            missing = expert.load_state_dict(state, strict=False).missing_keys
            assert not missing
            experts.append(expert.eval().requires_grad_(False))
        gate = models.SignetGate(ARGUMENTS, num_experts=count, k=2).eval()
        for name, parameter in gate.named_parameters():
            if not name.startswith("mt5_model."):
                # Nothing is as it started: the router decides, and adapters do something.
                parameter.data.normal_(std=0.05 if parameter.dim() > 1 else 0.3)
                parameter.data += "norm.weight" in name
    adapts = _uses_adapters(gate)
    path = scratch / "best_checkpoint.pth"
    torch.save({"model": models.get_requires_grad_dict(gate), "epoch": 3, "bleu4": 12.5}, path)
    origins = [(file, EXPERTS[i]) for i, file in enumerate(files)]
    ours, _ = import_signet(path, origins, ORIGIN, "peer", language_model, adapters=adapts)
    return Authors(experts, gate, ours, adapts)


def _uses_adapters(gate: Any) -> bool:
    seen = [{"encoder_embeds": torch.zeros(1, 2, 768), "x_global": torch.randn(1, 512)} for _ in gate.adapters]
    target = {"gt_sentence": sentences(1)}
    with torch.no_grad():
        read = gate(seen, target, torch.ones(1, 2, dtype=torch.int64))["inputs_embeds"]
    return bool(read[0, -1].any())  # an adapter makes something of nothing


@pytest.fixture(scope="module", params=[2, 3])
def authors(
    request: pytest.FixtureRequest, models: ModuleType, language_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> Authors:
    return build(models, request.param, language_model, tmp_path_factory.mktemp("authors"))


def compare(authors: Authors, agree: Agree, clips: Sequence[Clip]) -> None:
    """Every step, of clips of one length, in inference."""
    seen, target, mask = authors.theirs(clips)
    batch, model, fusion = authors.batch(clips), authors.ours.model.eval(), authors.fusion
    gate = authors.gate.eval()
    with torch.no_grad():
        features = model.features(batch.regions, batch.mask)
        for i, expert in enumerate(seen):
            agree("features: embeddings of experts", features.embeddings[:, i], expert["encoder_embeds"])
            agree("features: hand priors", left_first(features.priors[:, i]), expert["x_global"])
        priors = torch.stack([expert["x_global"] for expert in seen], dim=1)
        descriptor, _ = gate.aggregate_experts_attention(priors)
        agree("features: aggregation", left_first(fusion.aggregation(features.priors)), descriptor)
        agree("logits: router", fusion.router.mlp(fusion.aggregation(features.priors)), gate.router(descriptor))

        outputs = [expert["encoder_embeds"] for expert in seen]
        if authors.adapts:
            outputs = [adapter(output) for adapter, output in zip(gate.adapters, outputs, strict=True)]
        fused, chosen, weights = gate.topk_gating(descriptor, outputs)
        ours, ours_weights = model.fuse(features)
        scattered = torch.zeros_like(ours_weights).scatter(-1, chosen, weights)
        agree("features: weights of the top k", ours_weights, scattered)
        agree("features: fused embeddings", ours, fused)

        theirs = gate(seen, target, mask)
        logits = model.logits(features, batch.mask, batch.labels)
        count = (batch.labels != -100).sum()
        agree("loss: Stage III", token_loss(logits, batch.labels, LABEL_SMOOTHING) / count, theirs["loss"])
        assert theirs["inputs_embeds"].shape[1] == len(model.prompt) + mask.shape[1]
        if authors.adapts:  # in Stage II every commit uses them
            agree(
                "loss: Stage II",
                stage_2_loss(authors, batch, target),
                gate(seen, target, mask, "contrastive_loss")["loss"],
            )


def stage_2_loss(authors: Authors, batch: Batch, target: dict[str, Any]) -> Tensor:
    """Eq. 9 of the frames alone, without a prompt, and with the text vectors that are given."""
    model = authors.ours.model
    prompt, model.prompt = model.prompt, model.prompt[:0]
    encoded = model.encode(model.features(batch.regions, batch.mask), batch.mask)
    model.prompt = prompt
    visual = masked_mean(encoded.hidden_states, batch.mask)
    return info_nce(visual, target["text_embeddings"], torch.tensor(math.log(0.07)))


@pytest.mark.parametrize(("clips", "frames"), [(1, 1), (1, 13), (4, 24), (8, 40)])
def test_every_step_of_inference(authors: Authors, agree: Agree, clips: int, frames: int) -> None:
    compare(authors, agree, [random_clip(100 * frames + i, frames) for i in range(clips)])


def test_tokens(authors: Authors) -> None:
    """Of 20 clips alone, and of a batch of one length."""
    single = [random_clip(seed, 8 + 3 * seed) for seed in range(20)]
    written = set()
    for clips in [*([clip] for clip in single), [random_clip(seed, 20) for seed in range(50, 54)]]:
        seen, target, mask = authors.theirs(clips)
        with torch.no_grad():
            theirs = authors.gate.eval().generate(authors.gate(seen, target, mask), max_new_tokens=40, num_beams=4)
        batch, model = authors.batch(clips), authors.ours.model.eval()
        features = model.features(batch.regions, batch.mask)
        assert model.generate(features, batch.mask, 4, 40).tolist() == theirs.tolist()
        written |= {tuple(tokens) for tokens in theirs.tolist()}
    assert len(written) > 10  # the model does read the clips


@pytest.mark.parametrize("stage", ["II", "III"])
def test_training_draws_the_same_noise(authors: Authors, agree: Agree, stage: str) -> None:
    """In train mode with one seed: dropout of the attention, then Gumbel's noise. Other dropout is off on both sides.

    Adapters and mT5 drop out in another order there than here.
    """
    clips = [random_clip(seed, 30) for seed in range(6)]
    seen, target, mask = authors.theirs(clips)
    batch, model, gate = authors.batch(clips), authors.ours.model, authors.gate
    model.train()
    gate.train()
    for module in (model.language_model, gate.mt5_model, authors.fusion.adapters, gate.adapters):
        module.eval()
    try:
        torch.manual_seed(7)
        theirs = gate(seen, target, mask, "SLT" if stage == "III" else "contrastive_loss")["loss"]
        torch.manual_seed(7)
        if stage == "II":
            if not authors.adapts:
                pytest.skip("imported without the adapters that its Stage II used")
            agree("loss: Stage II, training", stage_2_loss(authors, batch, target).detach(), theirs.detach())
            return
        features = model.features(batch.regions, batch.mask)
        logits = model.logits(features, batch.mask, batch.labels)
        count = (batch.labels != -100).sum()
        ours = token_loss(logits, batch.labels, LABEL_SMOOTHING) / count
        agree("loss: Stage III, training", ours.detach(), theirs.detach())
        torch.manual_seed(8)
        again = gate(seen, target, mask)["loss"]
        assert abs(float((again - theirs).detach())) > 1e-4  # the noise matters
    finally:
        model.eval()
        gate.eval()


def test_nothing_but_encoder_and_fusion_learns_in_their_stage_2(authors: Authors) -> None:
    """Their code freezes nothing of mT5 there, but its decoder and token embeddings have no part in the loss.

    The temperature gets a gradient, and is in no optimiser: it is made in the first forward pass.
    """
    seen, target, mask = authors.theirs([random_clip(seed, 12) for seed in range(3)])
    authors.gate(seen, target, mask, "contrastive_loss")["loss"].backward()
    reached = {name for name, p in authors.gate.named_parameters() if p.grad is not None and p.grad.any()}
    authors.gate.zero_grad(set_to_none=True)
    fusion = {"router", "query_mlp", "gate_norm", "adapters"}
    assert {name.split(".")[0] for name in reached} == fusion | {"mt5_model", "logit_scale"}
    of_mt5 = {name for name in reached if name.startswith("mt5_model.")}
    assert of_mt5 and all(name.startswith(("mt5_model.encoder.block", "mt5_model.encoder.final")) for name in of_mt5)


def test_the_counted_parameters_are_the_authors(authors: Authors) -> None:
    """0.67M of three experts' fusion are trained, where the paper counts 1.5M."""
    theirs = sum(
        p.numel() for n, p in authors.gate.named_parameters() if not n.startswith(("mt5_model", "logit_scale"))
    )
    if len(authors.experts) == 3:
        assert theirs == 670_723
    if authors.adapts:
        assert sum(p.numel() for p in authors.fusion.parameters()) == theirs


def test_adapters_do_not_start_as_the_identity(models: ModuleType, language_model: Path) -> None:
    """They are drawn with std 1e-4 and zeroed, and then drawn again by ``self.apply(self._init_weights)``."""
    models.SignetGate.__init__.__globals__["mt5_path"] = str(language_model)
    gate = models.SignetGate(ARGUMENTS, num_experts=2)
    for adapter in gate.adapters:
        for matrix in (adapter.A.weight, adapter.B.weight):
            assert float(matrix.std()) == pytest.approx(0.02, rel=0.1)


def test_padding_changes_the_authors_result_and_not_ours(authors: Authors) -> None:
    """Theirs pools a short clip's prior over the repeated last frame, too, which its convolutions have seen."""
    short = extract_regions(random_clip(7, 20).sequence())
    source = {part: torch.from_numpy(short[name])[None] for name, part in PARTS.items()}
    padded = {part: torch.cat([r, r[:, -1:].expand(-1, 13, -1, -1)], dim=1) for part, r in source.items()}
    with torch.no_grad():
        alone, together = (authors.experts[0](x, None)["x_global"] for x in (source, padded))
        assert (together - alone).abs().max() > 1e-3
        regions = {name: padded[part] for name, part in PARTS.items()}
        mask = torch.arange(33)[None] < 20
        ours = authors.ours.model.features(regions, mask).priors[:, 0]
    torch.testing.assert_close(left_first(ours), alone, rtol=0, atol=1e-5)


def test_the_benchmark_times_whole_steps_of_both() -> None:
    from click.testing import CliRunner

    from benchmarks.latency import main

    peers = [f"signet={os.environ['SIGNET_OFFICIAL']}"]
    if os.environ.get("SIGNET_UNISIGN"):
        peers.append(f"unisign={os.environ['SIGNET_UNISIGN']}")
    given = [part for peer in peers for part in ("--peer", peer)]
    small = ["--small", "--quick", "--only", "training", "--frames", "8", "--rounds", "1"]
    result = CliRunner().invoke(main, [*small, *given], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    table = result.stdout.partition("## A training step of Stage III")[2]
    for row in ("SIGNET, eager", "SIGNET, cached features", "SIGNET, the authors' code"):
        assert f"| {row} " in table


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 3])
def test_base_size(models: ModuleType, agree: Agree, count: int) -> None:
    """mT5-base's size and vocabulary, two clips: some minutes, 14 GiB of memory and 10 GiB of disk."""
    config = MT5Config(
        vocab_size=250_112, d_model=768, d_kv=64, d_ff=2048, num_layers=12, num_heads=12, decoder_start_token_id=0
    )
    with tempfile.TemporaryDirectory() as directory:
        authors = build(models, count, save_language_model(Path(directory, "mt5"), config), Path(directory))
        clip = random_clip(1, 128)
        compare(authors, agree, [clip, random_clip(2, 128)])  # of one alone, Stage II's loss is 0 whatever it computes
        seen, target, mask = authors.theirs([clip])
        with torch.no_grad():
            theirs = authors.gate.generate(authors.gate(seen, target, mask), max_new_tokens=30, num_beams=4).tolist()
        batch, model = authors.batch([clip]), authors.ours.model
        assert model.generate(model.features(batch.regions, batch.mask), batch.mask, 4, 30).tolist() == theirs
        assert len(set(theirs[0])) > 5  # it writes something
