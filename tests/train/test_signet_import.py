"""Gates and experts of the authors' code: what they compute here, what is written down, and what is refused."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result
from published_layout import PRIOR, embeddings, gate_state, published_state, small_mt5
from torch import Tensor
from torch.nn import functional as F

from signet_runtime.skeleton import REGIONS
from signet_train.checkpoint import load_checkpoint
from signet_train.cli import main
from signet_train.tokenizer import train_tokenizer

EMBEDDING = 32
State = dict[str, Tensor]
ORIGIN = ("--sign-language", "gsg", "--language", "de", "--corpus", "phoenix14t")


def fused(gate: State, priors: Tensor, outputs: Sequence[Tensor], adapters: bool = True) -> tuple[Tensor, Tensor]:
    """What the authors' gate makes of [left; right] priors (B, N, D) and embeddings (B, T, E) each, in inference."""

    def linear(name: str, x: Tensor) -> Tensor:
        return F.linear(x, gate[f"{name}.weight"], gate[f"{name}.bias"])

    query = linear("query_mlp.2", F.relu(linear("query_mlp.0", priors.mean(dim=1))))
    attention = torch.softmax((priors @ query[..., None])[..., 0] / math.sqrt(PRIOR), dim=-1)
    descriptor = F.layer_norm(
        (attention[..., None] * priors).sum(dim=1), [PRIOR], gate["gate_norm.weight"], gate["gate_norm.bias"]
    )
    logits = linear("router.2", F.relu(linear("router.0", descriptor)))
    values, chosen = logits.topk(2, dim=-1)
    weights = torch.zeros_like(logits).scatter(-1, chosen, values.softmax(dim=-1))
    total = torch.zeros_like(outputs[0])
    for i, z in enumerate(outputs):
        if adapters:
            x = F.layer_norm(z, [EMBEDDING], gate[f"adapters.{i}.norm.weight"], gate[f"adapters.{i}.norm.bias"])
            z = z + x @ gate[f"adapters.{i}.A.weight"].T @ gate[f"adapters.{i}.B.weight"].T
        total = total + weights[:, i, None, None] * z
    return total, weights


@pytest.fixture(scope="module")
def mt5(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("mt5")
    text = "Translate sign language video to German: English Chinese abcdefghijklmnopqrstuvwxyz"
    train_tokenizer([text], 96).save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def states() -> list[State]:
    return [published_state(seed=seed) for seed in range(3)]


@pytest.fixture(scope="module")
def experts(states: list[State], tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """As the authors' scripts lay them out."""
    root, files = tmp_path_factory.mktemp("experts"), []
    for name, state in zip(("CSL_News", "YT_ASL", "BOBSL"), states, strict=True):
        (root / name).mkdir()
        files.append(root / name / "best_checkpoint.pth")
        torch.save({"model": state}, files[-1])
    return files


def run(gate: Path, out: Path, mt5: Path, experts: Sequence[Path], *options: str) -> Result:
    given = [part for file in experts for part in ("--expert", str(file))]
    arguments = ["import-model", "signet", str(gate), "--out", str(out), "--mt5", str(mt5), *given, *options]
    return CliRunner().invoke(main, [*arguments, *ORIGIN])


def save(state: State, path: Path, **beside: object) -> Path:
    torch.save({"model": state, "epoch": 3, **beside}, path)
    return path


@pytest.mark.parametrize("adapters", [True, False])
def test_an_imported_gate_computes_what_the_authors_code_does(
    states: list[State], experts: list[Path], mt5: Path, tmp_path: Path, adapters: bool
) -> None:
    gate = gate_state()
    file = save(gate, tmp_path / "best_checkpoint_b4_12.50.pth", bleu4=12.5)
    result = run(file, tmp_path / "model", mt5, experts, *([] if adapters else ["--no-adapters"]))
    assert result.exit_code == 0, result.output
    checkpoint = load_checkpoint(tmp_path / "model")
    regions = {name: torch.rand(4, 11, len(r.joints), 3) * 2 - 1 for name, r in REGIONS.items()}
    mask = torch.ones(4, 11, dtype=torch.bool)
    with torch.no_grad():
        features = checkpoint.model.features(regions, mask)
        found, weights = checkpoint.model.fuse(features)
        right, left = features.priors.chunk(2, dim=-1)
        outputs = [embeddings(state, regions) for state in states]
        expected, expected_weights = fused(gate, torch.cat([left, right], dim=-1), outputs, adapters)
    torch.testing.assert_close(weights, expected_weights, atol=1e-5, rtol=0)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_a_model_says_where_it_comes_from_and_reads_its_prompt(experts: list[Path], mt5: Path, tmp_path: Path) -> None:
    file = save(gate_state(), tmp_path / "gate.pth")
    result = run(file, tmp_path / "model", mt5, experts)
    assert result.exit_code == 0, result.output
    assert "its experts are 0 csl-news, 1 youtube-asl, 2 bobsl" in result.stderr
    assert result.stderr.count("its language model was left out") == 3
    made = load_checkpoint(tmp_path / "model")
    assert [(card.seen, card.sign_languages) for card in made.experts] == [
        (("csl-news",), ("csl",)),
        (("youtube-asl",), ("ase",)),
        (("bobsl",), ("bfi",)),
    ]
    assert all("best_checkpoint.pth sha256:" in c.source and "gate.pth sha256:" in c.source for c in made.experts)
    assert made.config.stage == "finetune" and made.config.card.language == "de"
    assert made.config.model.language_model.prompt == "Translate sign language video to German: "
    fusion = made.config.model.fusion
    assert fusion is not None
    assert (fusion.router_hidden, fusion.attention_dropout, fusion.adapter_start) == (128, 0.1, "redrawn")
    assert (fusion.adapter_rank, fusion.top_k) == (16, 2)


def test_a_gate_of_stage_2_is_for_stage_3_to_start_from(experts: list[Path], mt5: Path, tmp_path: Path) -> None:
    file = save(gate_state() | {"logit_scale": torch.tensor(2.659)}, tmp_path / "gate.pth", loss=1.5)
    result = run(file, tmp_path / "model", mt5, experts)
    assert result.exit_code == 0, result.output
    assert "the temperature that Stage II never learned (logit_scale) was left out" in result.stderr
    assert "start_from" in result.stderr
    made = load_checkpoint(tmp_path / "model")
    assert made.config.stage == "align" and made.config.model.language_model.prompt is None


@pytest.mark.parametrize(("corpus", "clips"), [("how2sign", "first"), ("phoenix14t", "sampled")])
def test_long_clips_are_as_the_corpus_was_read(
    experts: list[Path], mt5: Path, tmp_path: Path, corpus: str, clips: str
) -> None:
    file = save(gate_state(2), tmp_path / "gate.pth")
    result = run(file, tmp_path / "model", mt5, experts[:2], "--corpus", corpus)
    assert result.exit_code == 0, result.output
    assert load_checkpoint(tmp_path / "model").config.data.long_clips == clips


def _without(*names: str) -> Callable[[State], State]:
    return lambda s: {k: v for k, v in s.items() if not k.startswith(names)}


def _with(name: str, tensor: Tensor) -> Callable[[State], State]:
    return lambda s: s | {name: tensor}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_with("gate_query", torch.zeros(1, 1, 512)), "gate_query is a static query"),
        (_with("mt5_model.base_model.model.encoder.q.lora_A.default.weight", torch.zeros(8, 32)), "LoRA"),
        (_without("router.2"), "no router in it"),
        (_without("query_mlp"), "query_mlp.0.weight is missing"),
        (_without("gate_norm.bias"), "gate_norm.bias is missing"),
        (_without("adapters.2"), "adapters.2.norm.weight is missing"),
        (_with("adapters.3.A.weight", torch.zeros(16, 32)), "of an adapter more than the 3 that router.2.weight"),
        (_with("router.0.weight", torch.zeros(128, 1024)), "router.0.weight has the shape (128, 1024)"),
        (_with("adapters.1.B.weight", torch.zeros(32, 8)), "adapters.1.B.weight has the shape (32, 8)"),
        (_with("classifier.weight", torch.zeros(3)), "classifier.weight is not of a gate"),
        (_without("mt5_model.shared"), "mt5_model.shared.weight is missing"),
        (_without("mt5_model"), "mt5_model.shared.weight is missing"),
        (_with("router.2.bias", torch.full((3,), torch.nan)), "not finite"),
    ],
)
def test_a_gate_that_does_not_fit_is_refused_in_one_line(
    experts: list[Path], mt5: Path, tmp_path: Path, change: Callable[[State], State], message: str
) -> None:
    file = save(change(gate_state()), tmp_path / "gate.pth")
    refused(run(file, tmp_path / "model", mt5, experts), "gate.pth", message, tmp_path / "model")


def refused(result: Result, file: str, message: str, out: Path) -> None:
    assert result.exit_code == 4, result.output
    assert message in result.stderr and file in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert not out.exists()


def test_experts_must_be_the_gates(states: list[State], experts: list[Path], mt5: Path, tmp_path: Path) -> None:
    gate, out = save(gate_state(), tmp_path / "gate.pth"), tmp_path / "model"
    refused(run(gate, out, mt5, []), "gate.pth", "between 3 experts, and 0 were given", out)
    refused(run(gate, out, mt5, experts[:2]), "gate.pth", "between 3 experts, and 2 were given", out)
    twice = [experts[0], experts[1], experts[0]]
    refused(run(gate, out, mt5, twice), "CSL_News", "the same weights as", out)
    refused(run(experts[0], out, mt5, experts), "CSL_News", "no router in it (no key router.2.weight; this is an", out)
    lora = tmp_path / "BOBSL"
    lora.mkdir()
    file = save(states[2] | {"mt5_model.x.lora_A.default.weight": torch.zeros(2)}, lora / "lora.pth")
    refused(run(gate, out, mt5, [*experts[:2], file]), "lora.pth", "LoRA", out)
    refused(
        run(gate, out, mt5, [*experts[:2], save(gate_state(), lora / "gate.pth")]), "gate.pth", "no pose encoder", out
    )
    wide = save(published_state(small_mt5(d_model=48)), lora / "wide.pth")
    refused(run(gate, out, mt5, [*experts[:2], wide]), "wide.pth", "makes embeddings of 48", out)


@pytest.mark.parametrize("cut", [0, 1000, -5])
def test_a_truncated_gate_is_refused(experts: list[Path], mt5: Path, tmp_path: Path, cut: int) -> None:
    file = save(gate_state(), tmp_path / "gate.pth")
    file.write_bytes(file.read_bytes()[:cut])
    refused(run(file, tmp_path / "model", mt5, experts), "gate.pth", "", tmp_path / "model")


def test_what_cannot_be_known_must_be_said(states: list[State], experts: list[Path], mt5: Path, tmp_path: Path) -> None:
    gate, out = save(gate_state(), tmp_path / "gate.pth"), tmp_path / "model"
    nameless = save(states[2], tmp_path / "expert.pth")
    result = run(gate, out, mt5, [*experts[:2], nameless])
    assert result.exit_code == 2 and "say what it was pretrained on by --expert-corpus" in result.stderr
    named = [part for corpus in ("csl-news", "youtube-asl", "bsl-corpus") for part in ("--expert-corpus", corpus)]
    assert run(gate, out, mt5, [*experts[:2], nameless], *named).exit_code == 0
    assert load_checkpoint(out).experts[2].seen == ("bsl-corpus",)
    result = run(gate, tmp_path / "b", mt5, experts, "--expert-corpus", "csl-news")
    assert result.exit_code == 2 and "1 for 3 experts" in result.stderr
    result = run(gate, tmp_path / "b", mt5, experts, *named[:-1], "mystery")
    assert result.exit_code == 2 and "mystery is not known" in result.stderr
    result = CliRunner().invoke(
        main, ["import-model", "unisign", str(experts[0]), "--out", str(out), "--expert", str(experts[0]), *ORIGIN]
    )
    assert result.exit_code == 2 and "are for the format signet" in result.stderr
