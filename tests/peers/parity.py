"""One clip through a peer's model and through ours, and what can be seen of both on the way."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from peer import PARTS, Clip, PeerCode
from torch import Tensor, nn

from signet_train.checkpoint import Checkpoint
from signet_train.data.batches.collate import Batch, Collate
from signet_train.data.batches.dataset import Sample
from signet_train.model.backbone import Backbone
from signet_train.model.losses import token_loss

TOLERANCES = {"input": 1e-6, "features": 1e-5, "logits": 1e-4, "loss": 1e-4}  # absolute

Agree = Callable[[str, Any, Any], None]  # (what, ours, theirs): its first word names the tolerance

LABEL_SMOOTHING = 0.2  # these two are the peers' defaults
MAX_TARGET_TOKENS = 50


@dataclass(frozen=True)
class Trace:
    """parts: each (B, T, C) after the temporal stage, joints averaged; embeddings (B, T, E); encoder_input (B, P+T, E)
    and attention_mask (B, P+T); logits (B, L, V); loss: label-smoothed, the mean over real tokens."""

    parts: dict[str, Tensor]
    embeddings: Tensor
    encoder_input: Tensor
    attention_mask: Tensor
    logits: Tensor
    loss: Tensor


class _Watch(ExitStack):
    """Outputs of modules, in the order of their calls, while the context is open."""

    def outputs(self, module: nn.Module) -> list[Any]:
        seen: list[Any] = []
        self.callback(module.register_forward_hook(lambda *call: seen.append(call[2])).remove)
        return seen

    def keywords(self, module: nn.Module) -> list[dict[str, Any]]:
        seen: list[dict[str, Any]] = []
        hook = module.register_forward_pre_hook(lambda *call: seen.append(call[2]), with_kwargs=True)
        self.callback(hook.remove)
        return seen


@dataclass(frozen=True)
class Pair:
    """A peer's model with random weights, and ours, imported from the checkpoint that the peer's code would write.

    ``loss`` is the peer's name for the language model's loss.
    """

    code: PeerCode
    theirs: Any
    ours: Checkpoint
    sentences: list[str]
    loss: str = "loss"

    def batch(self, clips: Sequence[Clip]) -> tuple[dict[str, Any], Any]:
        """The peer's own batch of these clips and some sentences."""
        return self.code.collate([self.code.prepare(clip) for clip in clips], self.texts(len(clips)))

    def texts(self, count: int) -> list[str]:
        return [self.sentences[i % len(self.sentences)] for i in range(count)]

    def trace_theirs(self, clips: Sequence[Clip]) -> Trace:
        return self._run_theirs(clips)[0]

    def their_tokens(self, clips: Sequence[Clip], num_beams: int, max_new_tokens: int) -> list[list[int]]:
        out = self._run_theirs(clips)[1]
        return self.theirs.generate(out, max_new_tokens=max_new_tokens, num_beams=num_beams).tolist()

    @torch.no_grad()
    def _run_theirs(self, clips: Sequence[Clip]) -> tuple[Trace, dict[str, Any]]:
        model = self.theirs
        with _Watch() as watch:
            temporal = {part: watch.outputs(model.fusion_gcn_modules[part]) for part in ("body", "right", "face_all")}
            projected, decoded = watch.outputs(model.pose_proj), watch.outputs(model.mt5_model)
            out = model(*self.batch(clips))
        left, right = temporal["right"]  # one module, which reads the left hand first
        (body,), (face,) = temporal["body"], temporal["face_all"]
        features = {"body": body, "left_hand": left, "right_hand": right, "face": face}
        parts = {name: feature.mean(dim=-1).transpose(1, 2) for name, feature in features.items()}
        encoder_input, mask, loss = out["inputs_embeds"], out["attention_mask"], out[self.loss]
        return Trace(parts, projected[0], encoder_input, mask, decoded[0].logits, loss), out

    @torch.no_grad()
    def trace_ours(self, regions: Sequence[dict[str, np.ndarray]]) -> Trace:
        """Of regions (T, J, 3), with the peer's sentences, collated as in training."""
        batch = self._collate(regions)
        model = self.ours.model
        (expert,) = model.experts
        assert isinstance(expert, Backbone)
        with _Watch() as watch:
            streams = [watch.outputs(stream.temporal) for stream in (expert.body, expert.hand, expert.face)]
            embedded, read = watch.outputs(expert), watch.keywords(model.language_model.get_encoder())
            logits = model.logits(model.features(batch.regions, batch.mask), batch.mask, batch.labels)
        # Only real frames are computed, (N, J, C); both hands are one batch.
        (body,), (hands,), (face,) = streams
        left, right = hands.chunk(2)
        parts = {}
        for name, frames in {"body": body, "left_hand": left, "right_hand": right, "face": face}.items():
            parts[name] = frames.new_zeros(*batch.mask.shape, frames.shape[-1])
            parts[name][batch.mask] = frames.mean(dim=1)
        assert torch.equal(parts["left_hand"], embedded[0].left_hand)
        assert torch.equal(parts["right_hand"], embedded[0].right_hand)
        encoder_input, mask = read[0]["inputs_embeds"], read[0]["attention_mask"]
        loss = token_loss(logits, batch.labels, LABEL_SMOOTHING) / (batch.labels != -100).sum()
        return Trace(parts, embedded[0].embeddings, encoder_input, mask, logits, loss)

    @torch.no_grad()
    def our_tokens(
        self, regions: Sequence[dict[str, np.ndarray]], num_beams: int, max_new_tokens: int
    ) -> list[list[int]]:
        batch, model = self._collate(regions), self.ours.model
        features = model.features(batch.regions, batch.mask)
        return model.generate(features, batch.mask, num_beams, max_new_tokens).tolist()

    def _collate(self, regions: Sequence[dict[str, np.ndarray]]) -> Batch:
        named = zip(regions, self.texts(len(regions)), strict=True)
        collate = Collate(self.ours.tokenizer, MAX_TARGET_TOKENS)
        return collate([Sample(str(i), clip, text) for i, (clip, text) in enumerate(named)])

    def agrees(self, agree: Agree, clips: Sequence[Clip]) -> None:
        """Every step from regions to loss, of clips of one length: both are given what the peer prepared."""
        source, _ = self.batch(clips)
        regions = [{name: source[part][i].numpy() for name, part in PARTS.items()} for i in range(len(clips))]
        theirs, ours = self.trace_theirs(clips), self.trace_ours(regions)
        for name, feature in ours.parts.items():
            agree(f"features: {name}", feature, theirs.parts[name])
        agree("features: projected", ours.embeddings, theirs.embeddings)
        agree("features: encoder input with prompt", ours.encoder_input, theirs.encoder_input)
        assert torch.equal(ours.attention_mask, theirs.attention_mask)
        agree("logits", ours.logits, theirs.logits)
        agree("loss", ours.loss, theirs.loss)
