"""Ours against Geo-Sign's own code (github.com/ed-fish/Geo-Sign): Uni-Sign's encoder, trained with hyperbolic heads.

    git clone https://github.com/ed-fish/Geo-Sign /path/to/Geo-Sign    # compared at commit 5cacfe5
    pip install --target /path/to/scratch --no-deps geoopt
    PYTHONPATH=/path/to/scratch SIGNET_GEOSIGN=/path/to/Geo-Sign python -m pytest tests/peers/test_geosign.py

Its heads shape training alone: a translation does not pass through them, and an import leaves them out.
"""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

if not os.environ.get("SIGNET_GEOSIGN"):
    pytest.skip("SIGNET_GEOSIGN names no checkout of Geo-Sign", allow_module_level=True)

if find_spec("geoopt") is None:
    pytest.skip("Geo-Sign needs geoopt, which is not installed", allow_module_level=True)

import geoopt
import torch
from parity import Agree, Pair
from peer import INPUT_CASES, PARTS, SENTENCES, PeerCode, load_peer, random_clip

from benchmarks.peers.models import GEOSIGN
from signet_runtime.errors import CheckpointError
from signet_runtime.regions import extract_regions
from signet_train.interop.origins import Origin
from signet_train.interop.unisign import import_model, read_unisign

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning:models", "ignore:hyp_attn:UserWarning")  # the peer's

ORIGIN = Origin("csl", "zh", ("csl-news", "csl-daily"))

ARGUMENTS = {**GEOSIGN, "hyp_lr": 1e-3}


@pytest.fixture(scope="module")
def code() -> PeerCode:
    return load_peer(Path(os.environ["SIGNET_GEOSIGN"]))


@pytest.fixture(scope="module")
def theirs(code: PeerCode, language_model: Path) -> Any:
    return code.build(language_model, SimpleNamespace(**ARGUMENTS))


@pytest.fixture(scope="module")
def optimiser(code: PeerCode, theirs: Any) -> Any:
    """Of the heads, after a step: its state is in the file too."""
    heads = [p for p in theirs.parameters() if isinstance(p, geoopt.ManifoldParameter)]
    optimiser = geoopt.optim.RiemannianAdam(heads, lr=1e-3, stabilize=100)
    batch = code.collate([code.prepare(random_clip(seed, 12)) for seed in range(2)], SENTENCES["Chinese"][:2])
    theirs(*batch)["loss"].backward()
    optimiser.step()
    theirs.zero_grad()
    return optimiser


@pytest.fixture(scope="module")
def checkpoint(theirs: Any, optimiser: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As its fine_tuning.py saves it."""
    path = tmp_path_factory.mktemp("geosign") / "best_checkpoint.pth"
    torch.save(
        {
            "model": theirs.state_dict(),
            "epoch": 3,
            "args": ARGUMENTS,
            "best_bleu4": 12.5,
            "global_step": theirs.global_step.item(),
            "hyp_optimizer": optimiser.state_dict(),
        },
        path,
    )
    return path


@pytest.fixture(scope="module")
def pair(code: PeerCode, theirs: Any, checkpoint: Path, language_model: Path) -> Pair:
    ours, _ = import_model(checkpoint, ORIGIN, "peer", language_model)
    return Pair(code, theirs, ours, SENTENCES["Chinese"], loss="ce_loss")


@pytest.mark.parametrize("case", INPUT_CASES)
def test_input_preparation(code: PeerCode, agree: Agree, case: str) -> None:
    clip = INPUT_CASES[case](0)
    theirs, ours = code.prepare(clip), extract_regions(clip.sequence())
    for name, part in PARTS.items():
        agree(f"input: {case}", ours[name], theirs[part])


def test_hyperbolic_heads_are_left_out_by_name(checkpoint: Path) -> None:
    assert read_unisign(checkpoint).left_out == ("Geo-Sign's hyperbolic heads",)


@pytest.mark.parametrize(("clips", "frames"), [(1, 1), (1, 40), (3, 24)])
def test_every_step_from_regions_to_loss(pair: Pair, agree: Agree, clips: int, frames: int) -> None:
    pair.agrees(agree, [random_clip(100 * frames + i, frames) for i in range(clips)])


def test_tokens(pair: Pair) -> None:
    """Of 20 clips alone, and of a batch of one length."""
    single = [random_clip(seed, 8 + 3 * seed) for seed in range(20)]
    written = set()
    for clips in [*([clip] for clip in single), [random_clip(seed, 20) for seed in range(50, 54)]]:
        theirs = pair.their_tokens(clips, 4, 40)
        assert pair.our_tokens([extract_regions(clip.sequence()) for clip in clips], 4, 40) == theirs
        written |= {tuple(tokens) for tokens in theirs}
    assert len(written) > 12  # the model does read the clips


def test_pretraining_checkpoints_lack_running_statistics(code: PeerCode, theirs: Any, tmp_path: Path) -> None:
    """Its pre_training.py saves parameters without buffers: BatchNorm's statistics are lost, and cannot be guessed."""
    path = tmp_path / "checkpoint_0.pth"
    torch.save({"model": code.models.get_requires_grad_dict(theirs)}, path)
    with pytest.raises(CheckpointError, match=r"running_mean is missing; it was saved without its running statistics"):
        read_unisign(path)
