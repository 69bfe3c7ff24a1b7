"""The public code of two peers, loaded from checkouts outside the project, and what to feed it.

SIGNET_UNISIGN and SIGNET_GEOSIGN name the checkouts; `benchmarks.peers.checkouts` imports them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import MT5Config, MT5ForConditionalGeneration, T5Tokenizer

from benchmarks.peers.checkouts import load_modules
from signet_runtime.pose.sequence import PoseSequence
from signet_runtime.skeleton import REGIONS
from signet_train.tokenizer import train_tokenizer

PARTS = dict(zip(REGIONS, ("body", "left", "right", "face_all"), strict=True))  # ours -> the peers'

PROMPTS = {
    "English": "Translate sign language video to English: ",
    "Chinese": "Translate sign language video to Chinese: ",
}
SENTENCES = {
    "English": [
        "it will rain in the north",
        "good evening",
        "tomorrow the sun comes back, and it stays for no less than a week",
    ],
    "Chinese": ["明天北方有雨", "晚上好", "太阳明天会回来，并且停留一个星期"],
}


@dataclass(frozen=True)
class PeerCode:
    models: ModuleType
    datasets: ModuleType

    def prepare(self, clip: Clip) -> dict[str, Tensor]:
        """The peer's regions of a clip, float64, by its names."""
        return self.datasets.load_part_kp(list(clip.keypoints), list(clip.scores))

    def collate(self, clips: Sequence[dict[str, Tensor]], texts: Sequence[str]) -> tuple[dict[str, Any], Any]:
        """The peer's own batch of what its ``load_part_kp`` made, in the precision that its model is in."""
        dataset = self.datasets.Base_Dataset()
        dataset.rgb_support = False
        batch: list[tuple[Any, ...]] = [
            (str(i), clip, text, "", {}) for i, (clip, text) in enumerate(zip(clips, texts, strict=True))
        ]
        source, target = dataset.collate_fn(batch)
        as_floats = {k: v.float() if torch.is_tensor(v) and v.is_floating_point() else v for k, v in source.items()}
        return as_floats, target

    def build(self, language_model: Path, arguments: SimpleNamespace) -> nn.Module:
        """A model in eval mode around a directory's mT5 and tokenizer, with none of its weights left trivial."""
        for module in (self.models, self.datasets):
            vars(module)["mt5_path"] = str(language_model)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model = self.models.Uni_Sign(arguments)
            # Geo-Sign's constructor draws the linear layers of the mT5 that it has read anew.
            read = MT5ForConditionalGeneration.from_pretrained(language_model)
            model.mt5_model.load_state_dict(read.state_dict())
            randomise(model)
        return model.eval()


def load_peer(checkout: Path) -> PeerCode:
    """A checkout's code; see `load_modules`."""
    return PeerCode(*load_modules(checkout))


@torch.no_grad()
def randomise(model: nn.Module) -> None:
    """Whatever starts at 0, at 1 or at a fixed matrix becomes something that a mistake would change."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None and module.running_var is not None
            module.running_mean.normal_(std=0.3)
            module.running_var.uniform_(0.5, 1.5)
            module.weight.uniform_(0.5, 1.5)
            module.bias.normal_(std=0.3)
    for name, parameter in model.named_parameters():
        if name.endswith("gcn.A"):
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
        elif name == "part_para" or name.startswith(("proj_linear", "hyp_")) or name == "pose_proj.bias":
            parameter.normal_(std=0.5)


def save_language_model(path: Path, config: MT5Config) -> Path:
    """A random mT5 with a tokenizer, as a directory that both sides read."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = MT5ForConditionalGeneration(config)
    with torch.no_grad():
        # Drawn with deviation 1, logits would be some 30 apart, and every distribution a point.
        model.lm_head.weight.mul_(3 * config.d_model**-0.5)
        # A random decoder writes the same of every clip where it hardly looks at them, and one token over and over
        # where its layers together outweigh the token that it has just written.
        model.shared.weight.mul_((config.num_layers / 2) ** 0.5)
        for name, parameter in model.named_parameters():
            if "EncDecAttention" in name:
                parameter.mul_((8 / config.num_layers) ** 0.5)
    model.save_pretrained(path)
    tokenizer().save_pretrained(path)
    return path


def tokenizer() -> T5Tokenizer:
    return train_tokenizer(chain(PROMPTS.values(), *SENTENCES.values()), 256)


def small_config() -> MT5Config:
    """768 wide, as the peers hard-wire; all else small."""
    return MT5Config(
        vocab_size=256, d_model=768, d_kv=64, d_ff=256, num_layers=2, num_heads=4, decoder_start_token_id=0
    )


@dataclass(frozen=True)
class Clip:
    """Keypoints (T, 1, 133, 2) and scores (T, 1, 133), float64: a published pickle's frames, stacked."""

    keypoints: np.ndarray
    scores: np.ndarray

    def sequence(self) -> PoseSequence:
        return PoseSequence(self.keypoints[:, 0], self.scores[:, 0], 25.0, (1, 1), "rtmpose")


def random_clip(seed: int, frames: int, *, height: float = 0.5) -> Clip:
    """A signer who moves, ``height`` of the frame from nose to wrists at rest; some joints are not found."""
    rng = np.random.default_rng(seed)
    person = np.zeros((133, 2))
    person[[0, 1, 2, 3, 4]] = [(0, 0), (0.04, -0.04), (-0.04, -0.04), (0.09, -0.02), (-0.09, -0.02)]
    person[[5, 6, 7, 8, 9, 10]] = [(0.25, 0.3), (-0.25, 0.3), (0.32, 0.7), (-0.32, 0.7), (0.15, 1), (-0.15, 1)]
    person[11:23] = np.stack([rng.uniform(-0.3, 0.3, 12), rng.uniform(1.2, 3, 12)], axis=-1)
    person[23:91] = rng.uniform(-0.12, 0.12, (68, 2))
    person[91:112] = person[9] + rng.uniform(-0.12, 0.12, (21, 2))
    person[112:133] = person[10] + rng.uniform(-0.12, 0.12, (21, 2))

    def walk(joints: int, step: float) -> np.ndarray:
        return rng.normal(0, step, (frames, joints, 2)).cumsum(axis=0)

    motion = person + walk(133, 0.005)
    motion += walk(1, 0.01)
    for elbow, wrist, hand in ((7, 9, slice(91, 112)), (8, 10, slice(112, 133))):
        path = walk(1, 0.06)
        motion[:, [elbow]] += path / 2
        motion[:, [wrist]] += path
        motion[:, hand] += path
    keypoints = rng.uniform(0.4, 0.6, 2) + height * motion * rng.choice([-1, 1], 2) * [1, 0.9]
    scores = rng.uniform(0.35, 1.08, (frames, 133))  # the published estimator overshoots 1
    missing = rng.random((frames, 133)) < 0.1
    scores[missing] = rng.uniform(0, 0.3, missing.sum())
    return Clip(keypoints[:, None], scores[:, None])


def _few_confident(seed: int, joints: int) -> Clip:
    """A body of which only so many joints are found in the whole clip; hands and face are there."""
    clip = random_clip(seed, 12)
    body = np.array(REGIONS["body"].joints)
    clip.scores[:, :, body] = 0.2
    found = np.random.default_rng(seed).choice(12 * len(body), joints, replace=False)
    clip.scores[found // len(body), 0, body[found % len(body)]] = 0.9
    return clip


INPUT_CASES: dict[str, Callable[[int], Clip]] = {
    "half a frame high": lambda seed: random_clip(seed, 40),
    "a quarter of a frame high": lambda seed: random_clip(seed, 40, height=0.25),
    "a tenth of a frame high": lambda seed: random_clip(seed, 40, height=0.1),
    "beyond the frame": lambda seed: random_clip(seed, 40, height=1.5),
    "one frame": lambda seed: random_clip(seed, 1),
    "scores above 1": lambda seed: Clip(random_clip(seed, 12).keypoints, 2 * random_clip(seed, 12).scores),
    "4 confident joints": lambda seed: _few_confident(seed, 4),
    "3 confident joints": lambda seed: _few_confident(seed, 3),
    "no confident joint": lambda seed: _few_confident(seed, 0),
    "all in one point": lambda seed: Clip(np.full((12, 1, 133, 2), 0.37), random_clip(seed, 12).scores),
}
