"""The peers of the paper's Table 5, built from their own public code, with SIGNET's batch as theirs.

    git clone https://github.com/ZechengLi19/Uni-Sign      its RGB branch needs einops
    git clone https://github.com/ed-fish/Geo-Sign          needs geoopt
    git clone https://github.com/elsobhano/SIGNET          needs Uni-Sign's checkout, too (see `peers.signet`)

Weights are random, and the language model is the one that SIGNET's rows use: a peer's constructor would read mT5 from
a directory. All else is the checkout's, its tokenizing in every forward pass included.
"""

from __future__ import annotations

import math
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import sentencepiece
import torch
from torch import Tensor, nn
from transformers import MT5ForConditionalGeneration, T5Tokenizer

from benchmarks.peers.checkouts import load_modules
from benchmarks.peers.efficientnet import efficientnet_b0_features
from benchmarks.peers.signet import AuthorsPeer, build_authors
from signet_runtime.errors import InputError
from signet_runtime.skeleton import REGIONS
from signet_train.data.batches.collate import Batch

NAMES = {"unisign": "Uni-Sign", "geosign": "Geo-Sign", "signet": "the authors' SIGNET"}

WIDTH = 768  # of the language model, hard-wired in both

_PARTS = dict(zip(REGIONS, ("body", "left", "right", "face_all"), strict=True))  # ours -> theirs
_PROMPT = "Translate sign language video to English: "
_CROP, _SAMPLED = 112, 0.1  # pixels, and the share of frames whose hands are looked at, of Uni-Sign's RGB branch

# As Uni-Sign's fine_tuning.py has them.
_UNISIGN: dict[str, Any] = {"dataset": "How2Sign", "task": "SLT", "hidden_dim": 256, "label_smoothing": 0.2}

# As Geo-Sign's script/train.sh, but for what does not run as published (with geoopt 0.5.1): `eval` meets an undefined
# name, and the comparison by `token` mixes the axes of tokens and of coordinates. "pooled" has the same weights.
GEOSIGN: dict[str, Any] = {
    "dataset": "CSL_Daily",
    "task": "SLT",
    "label_smoothing": 0.2,
    "use_hyperbolic": True,
    "hyp_dim": 256,
    "init_c": 1.0,
    "label_smoothing_hyp": 0.2,
    "hyp_text_emb_src": "decoder",
    "hyp_text_cmp": "pooled",
    "alpha": 0.7,
    "total_steps": 10,
    "eval": False,
}


@dataclass(frozen=True)
class Peer:
    """A model of a peer's code.

    Attributes:
        name: as Table 5 calls it, and what of it this is.
        paper: its name in Table 5, None where the table has another variant.
    """

    name: str
    paper: str | None
    model: Any
    datasets: ModuleType
    rgb: bool

    def encoder_parameters(self) -> int:
        """All but the language model's."""
        return sum(p.numel() for n, p in self.model.named_parameters() if not n.startswith("mt5_model."))

    def run(self, inputs: Any) -> Tensor:
        """Its forward pass on what `inputs` gives: the loss."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of an autocast that is deprecated, and off
            return self.model(*inputs)["loss"]

    def inputs(self, batch: Batch, tokens: int, dtype: torch.dtype) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return the peer's own batch of the same regions, with a sentence of as many tokens."""
        size, frames = batch.mask.shape
        dataset = self.datasets.Base_Dataset()
        dataset.rgb_support, dataset.lang = self.rgb, "English"
        text = " ".join(f"word{i % 10}" for i in range(tokens - 1))  # and the end of sentence
        samples = [
            (
                str(i),
                {_PARTS[name]: region[i].cpu() for name, region in batch.regions.items()},
                text,
                "",
                _hands(frames) if self.rgb else {},
            )
            for i in range(size)
        ]
        source, target = dataset.collate_fn(samples)
        device = batch.mask.device

        def moved(value: Any) -> Any:
            if not torch.is_tensor(value):
                return value
            return value.to(device, dtype if value.is_floating_point() else value.dtype)

        return {k: moved(v) for k, v in source.items()}, {k: moved(v) for k, v in target.items()}


def _hands(frames: int) -> dict[str, Tensor]:
    """Return what Uni-Sign's `load_support_rgb_dict` gives of a clip whose hands are seen in every frame."""
    count = math.ceil(_SAMPLED * frames)
    chosen = torch.linspace(0, frames - 1, count).long()
    found: dict[str, Tensor] = {}
    for side in ("left", "right"):
        found[f"{side}_sampled_indices"] = chosen
        found[f"{side}_hands"] = torch.randn(count, 3, _CROP, _CROP)
        found[f"{side}_skeletons_norm"] = torch.rand(count, 21, 2)
    return found


def read_checkouts(given: Sequence[str]) -> dict[str, Path]:
    """``NAME=PATH`` of the command line.

    Raises:
        ValueError: not of this form, or a peer that is not known.
        InputError: no checkout there.
    """
    found = {}
    for value in given:
        name, _, path = value.partition("=")
        if name not in NAMES or not path:
            raise ValueError(f"{value}: give NAME=PATH with a name of {', '.join(NAMES)}")
        entry = "source/models/signet.py" if name == "signet" else "models.py"
        if not Path(path, entry).is_file():
            raise InputError(f"{path}: no {entry} there; give the root of a checkout of {NAMES[name]}")
        found[name] = Path(path)
    return found


@contextmanager
def build_peers(
    checkouts: dict[str, Path], language_model: MT5ForConditionalGeneration, left_out: list[str], experts: int = 3
) -> Iterator[list[Peer | AuthorsPeer]]:
    """Build the peers of some checkouts around one language model, `WIDTH` wide.

    Args:
        left_out: takes a sentence for every variant that cannot be built here.
        experts: of the authors' SIGNET.

    Raises:
        InputError: a checkout's code cannot be imported.
    """
    with tempfile.TemporaryDirectory() as directory:
        _tokenizer().save_pretrained(directory)
        peers: list[Peer | AuthorsPeer] = []
        for name, checkout in checkouts.items():
            if name == "signet":
                peers.append(build_authors(checkout, checkouts.get("unisign"), directory, language_model, experts))
                continue
            try:
                models, datasets = load_modules(checkout)
            except ImportError as error:
                raise InputError(f"{checkout}: cannot be imported ({error}); install what it needs") from error
            for module in (models, datasets):
                vars(module)["mt5_path"] = directory
            vars(models)["MT5ForConditionalGeneration"] = SimpleNamespace(from_pretrained=lambda path: language_model)
            if name == "geosign":
                peers.append(_peer("Geo-Sign", "Geo-Sign", models, datasets, GEOSIGN))
                continue
            if find_spec("einops") is None:
                left_out.append("Uni-Sign's RGB branch was left out: it needs einops (pip install einops)")
            else:
                left_out += _own_efficientnet(models)
                peers.append(_peer("Uni-Sign, RGB + pose", "Uni-Sign", models, datasets, _UNISIGN, rgb=True))
            peers.append(_peer("Uni-Sign, pose only", None, models, datasets, _UNISIGN))
        yield peers


def _peer(
    name: str, paper: str | None, models: ModuleType, datasets: ModuleType, arguments: dict[str, Any], rgb: bool = False
) -> Peer:
    model = models.Uni_Sign(SimpleNamespace(**arguments, rgb_support=rgb))
    return Peer(name, paper, model, datasets, rgb)


def _own_efficientnet(models: ModuleType) -> list[str]:
    """Random weights for the RGB branch's EfficientNet-B0, which would be downloaded; and what to say of it."""
    try:
        from torchvision.models import efficientnet_b0
    except (ImportError, RuntimeError):  # RuntimeError where it does not fit this PyTorch

        def whole() -> nn.Module:
            return nn.Sequential(efficientnet_b0_features(), nn.Identity(), nn.Identity())

        note = ["torchvision does not load here: Uni-Sign's EfficientNet-B0 was built anew, with torchvision's layers"]
    else:

        def whole() -> nn.Module:
            return efficientnet_b0(weights=None)

        note = []
    vars(models)["torchvision"] = SimpleNamespace(models=SimpleNamespace(efficientnet_b0=lambda pretrained: whole()))
    return note


def _tokenizer() -> T5Tokenizer:
    """Make a tokenizer of a piece a word: 7 for the prompt, its end included, and as many as asked for a sentence."""
    with tempfile.TemporaryDirectory() as directory:
        words = [*_PROMPT.split(), *(f"word{i}" for i in range(10))]
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter([" ".join(words)]),
            model_prefix=str(Path(directory, "spiece")),
            model_type="word",
            vocab_size=len(words) + 3,
            pad_id=0,
            eos_id=1,
            unk_id=2,
            bos_id=-1,
            minloglevel=2,
        )
        return T5Tokenizer(str(Path(directory, "spiece.model")), extra_ids=0, legacy=False)
