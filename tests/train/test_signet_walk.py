"""The walk of docs/official.md: a checkpoint set in the authors' layout in, a translation out.

python -m pytest -m slow tests/train/test_signet_walk.py    # of the paper's size: minutes, 12 GiB of memory, 13 of disk
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from published_layout import gate_state, published_state, small_mt5
from transformers import MT5Config

import signet_export.cli
import signet_runtime.commands.translate
from signet_runtime.pose.files import write_keypoints
from signet_runtime.pose.sequence import PoseSequence
from signet_runtime.regions import extract_regions
from signet_train.checkpoint import load_checkpoint
from signet_train.cli import main
from signet_train.tokenizer import train_tokenizer

EXPERTS = ("CSL_News", "YT_ASL", "BOBSL")
LETTERS = "abcdefghijklmnopqrstuvwxyzäöüß"
BASE = MT5Config(vocab_size=250_112, d_model=768, d_kv=64, d_ff=2048, num_layers=12, num_heads=12)


def run(*arguments: object, command: object = main) -> Result:
    result = CliRunner().invoke(command, [str(a) for a in arguments])  # type: ignore[arg-type]
    assert result.exit_code == 0, (arguments, result.output)
    return result


def write_set(root: Path, config: MT5Config) -> None:
    """Three experts with an mT5 each, a gate and a tokenizer, laid out by the authors' scripts and in their bf16."""

    def save(path: Path, state: dict[str, torch.Tensor], **beside: object) -> None:
        halved = {name: x.bfloat16() if x.is_floating_point() else x for name, x in state.items()}
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save({"model": halved, **beside}, path)

    tokenizer = train_tokenizer([f"Translate sign language video to German: {LETTERS}"], 96)
    tokenizer.save_pretrained(root / "mt5-base")
    for seed, name in enumerate(EXPERTS):
        save(root / "out" / "experts" / name / "best_checkpoint.pth", published_state(config, seed))
    gate = gate_state(len(EXPERTS), config)
    head = gate["mt5_model.lm_head.weight"]
    head.normal_(std=3 * config.d_model**-0.5, generator=torch.Generator().manual_seed(1))
    head[len(tokenizer) :] = 0  # what is written are letters
    save(root / "out" / "Phoenix" / "signet" / "best_checkpoint_b4_27.88.pth", gate, epoch=3, bleu4=27.88)


@pytest.mark.parametrize(
    "config", [pytest.param(small_mt5(), id="small"), pytest.param(BASE, id="base", marks=pytest.mark.slow)]
)
def test_a_checkpoint_set_is_imported_exported_and_translates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, config: MT5Config
) -> None:
    """What the bundle writes is what PyTorch writes with the imported weights."""
    monkeypatch.chdir(tmp_path)
    write_set(tmp_path, config)
    experts = [part for name in EXPERTS for part in ("--expert", f"out/experts/{name}/best_checkpoint.pth")]
    gate = "out/Phoenix/signet/best_checkpoint_b4_27.88.pth"
    origin = ("--sign-language", "gsg", "--language", "de", "--corpus", "phoenix14t", "--mt5", "mt5-base")
    run("import-model", "signet", gate, *experts, *origin, "--out", "models/signet-phoenix14t")
    run("models/signet-phoenix14t", "--out", "bundles/signet-phoenix14t", command=signet_export.cli.main)

    rng = np.random.default_rng()
    keypoints = rng.uniform(0.2, 0.8, (133, 2)) + rng.normal(0, 0.02, (40, 133, 2)).cumsum(axis=0)
    clip = PoseSequence(keypoints, np.full((40, 133), 0.9), 25.0, (1280, 720), "rtmpose")
    write_keypoints(Path("clip.npz"), clip)
    arguments = ("--bundle", "bundles/signet-phoenix14t", "clip.npz", "--format", "json")
    told = json.loads(run(*arguments, command=signet_runtime.commands.translate.main).stdout)
    assert list(told["routing"]) == ["csl-news", "youtube-asl", "bobsl"]

    checkpoint = load_checkpoint(Path("models/signet-phoenix14t"))
    regions = {name: torch.from_numpy(region)[None] for name, region in extract_regions(clip).items()}
    mask = torch.ones(regions["body"].shape[:2], dtype=torch.bool)
    with torch.no_grad():
        features = checkpoint.model.eval().features(regions, mask)
        written = checkpoint.model.generate(features, mask, 4, 100)[0]
    assert told["text"] == checkpoint.tokenizer.decode(written, skip_special_tokens=True)
    assert len(set(told["text"])) > 2  # it writes something
