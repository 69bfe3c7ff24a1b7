"""Ours against Uni-Sign's own code (github.com/ZechengLi19/Uni-Sign), which published the encoder that experts are.

    git clone https://github.com/ZechengLi19/Uni-Sign /path/to/Uni-Sign    # compared at commit 2c9028f
    SIGNET_UNISIGN=/path/to/Uni-Sign python -m pytest tests/peers/test_unisign.py

With ``-m slow`` once more, around an mT5 of base size. Nothing of the checkout comes into the project, and what it
needs for video, RGB and distributed training need not be installed.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest

if not os.environ.get("SIGNET_UNISIGN"):
    pytest.skip("SIGNET_UNISIGN names no checkout of Uni-Sign", allow_module_level=True)

import numpy as np
import torch
from parity import LABEL_SMOOTHING, Agree, Pair
from peer import INPUT_CASES, PARTS, SENTENCES, Clip, PeerCode, load_peer, random_clip, save_language_model
from transformers import MT5Config

from signet_runtime.pose.files import read_keypoints
from signet_runtime.pose.pickles import load_pickle
from signet_runtime.regions import extract_regions
from signet_train.interop.origins import Origin
from signet_train.interop.unisign import import_model

DATASETS = {"English": "How2Sign", "Chinese": "CSL_Daily"}  # by which the public code chooses its prompt
ORIGINS = {"English": Origin("ase", "en", ("how2sign",)), "Chinese": Origin("csl", "zh", ("csl-daily",))}


def make_pair(code: PeerCode, language: str, language_model: Path, scratch: Path) -> Pair:
    arguments = SimpleNamespace(
        hidden_dim=256, rgb_support=False, label_smoothing=LABEL_SMOOTHING, dataset=DATASETS[language]
    )
    theirs = code.build(language_model, arguments)
    path = scratch / "checkpoint.pth"
    theirs.bfloat16()  # which is how it is trained and published
    torch.save({"model": code.models.get_requires_grad_dict(theirs)}, path)
    theirs.float()
    ours, _ = import_model(path, ORIGINS[language], "peer", language_model)
    return Pair(code, theirs, ours, SENTENCES[language])


@pytest.fixture(scope="module")
def code() -> PeerCode:
    return load_peer(Path(os.environ["SIGNET_UNISIGN"]))


@pytest.fixture(scope="module", params=["English", "Chinese"])
def pair(
    request: pytest.FixtureRequest, code: PeerCode, language_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> Pair:
    return make_pair(code, request.param, language_model, tmp_path_factory.mktemp("unisign"))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("case", INPUT_CASES)
def test_input_preparation(code: PeerCode, agree: Agree, case: str, seed: int) -> None:
    clip = INPUT_CASES[case](seed)
    theirs = code.prepare(clip)
    ours = extract_regions(clip.sequence())
    for name, part in PARTS.items():
        agree(f"input: {case}", ours[name], theirs[part])


def test_input_preparation_of_a_real_clip(code: PeerCode, agree: Agree, shared_data: Path) -> None:
    file = shared_data / "lis_news_0.pkl"
    content = load_pickle(file.read_bytes())
    height, width = content["w_h"]
    theirs = code.prepare(Clip(np.array(content["keypoints"]) / [width, height], np.array(content["scores"])))
    ours = extract_regions(read_keypoints(file))
    assert len(ours["body"]) == 126
    for name, part in PARTS.items():
        agree("input: lis_news_0.pkl", ours[name], theirs[part])


@pytest.mark.parametrize(("clips", "frames"), [(1, 1), (1, 2), (1, 13), (1, 64), (4, 24)])
def test_every_step_from_regions_to_loss(pair: Pair, agree: Agree, clips: int, frames: int) -> None:
    pair.agrees(agree, [random_clip(100 * frames + i, frames) for i in range(clips)])


def test_tokens_of_single_clips(pair: Pair) -> None:
    """Each side by its own preparation, as 20 translations of 20 recordings."""
    clips = [random_clip(seed, 8 + 3 * seed) for seed in range(20)]
    theirs = [pair.their_tokens([clip], 4, 40)[0] for clip in clips]
    assert [pair.our_tokens([extract_regions(clip.sequence())], 4, 40)[0] for clip in clips] == theirs
    assert len({tuple(tokens) for tokens in theirs}) > 10  # the model does read the clips


def test_tokens_of_a_batch_of_one_length(pair: Pair) -> None:
    clips = [random_clip(seed, 20) for seed in range(50, 55)]
    theirs = pair.their_tokens(clips, 4, 100)
    assert pair.our_tokens([extract_regions(clip.sequence()) for clip in clips], 4, 100) == theirs
    assert len({tuple(tokens) for tokens in theirs}) > 2


def test_padding_changes_the_public_result_and_not_ours(pair: Pair) -> None:
    """The public code repeats a clip's last frame up to the batch's longest, and its convolutions see that.

    What it makes of a clip's last 6 frames (3 convolutions of 5 taps) thus depends on its neighbours' lengths.
    """
    short, long = random_clip(7, 20), random_clip(8, 33)
    alone = pair.trace_theirs([short]).embeddings[0]
    together = pair.trace_theirs([short, long]).embeddings[0, :20]
    torch.testing.assert_close(together[:14], alone[:14], rtol=0, atol=1e-5)
    assert (together[14:] - alone[14:]).abs().max() > 1e-2

    regions = [extract_regions(clip.sequence()) for clip in (short, long)]
    ours_alone, ours_together = pair.trace_ours(regions[:1]), pair.trace_ours(regions)
    torch.testing.assert_close(ours_together.embeddings[0, :20], ours_alone.embeddings[0], rtol=0, atol=1e-5)
    for name, feature in ours_alone.parts.items():
        torch.testing.assert_close(ours_together.parts[name][0, :20], feature[0], rtol=0, atol=1e-5)
    length = ours_alone.logits.shape[1]
    torch.testing.assert_close(ours_together.logits[0, :length], ours_alone.logits[0], rtol=0, atol=1e-4)


@pytest.mark.slow
def test_base_size(code: PeerCode, agree: Agree) -> None:
    """mT5-base's size and vocabulary, one clip: a minute, 7.4 GiB of memory and 4 GiB of disk."""
    config = MT5Config(
        vocab_size=250_112, d_model=768, d_kv=64, d_ff=2048, num_layers=12, num_heads=12, decoder_start_token_id=0
    )
    with tempfile.TemporaryDirectory() as directory:
        pair = make_pair(code, "Chinese", save_language_model(Path(directory, "mt5"), config), Path(directory))
        clip = random_clip(1, 128)
        pair.agrees(agree, [clip])
        theirs = pair.their_tokens([clip], 4, 30)
        assert pair.our_tokens([extract_regions(clip.sequence())], 4, 30) == theirs
        assert len(set(theirs[0])) > 5  # it writes something
