"""Which experts a bundle keeps: counted on samples, and a model of fewer experts made of the whole one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from signet_export.vocabulary import trim
from signet_runtime.bundle import Bundle
from signet_runtime.errors import BundleError, CheckpointError
from signet_train.checkpoint import Checkpoint, load_tokenizer
from signet_train.config import ModelConfig
from signet_train.data.batches.collate import Collate, load_batches
from signet_train.data.batches.dataset import PoseDataset, load_rows
from signet_train.data.batches.sampling import in_order
from signet_train.evaluation.metrics import character_error_rate
from signet_train.model.signet import Signet
from signet_train.stages.generate import predict
from signet_train.stages.loop import make_accelerator


def pin(checkpoint: Checkpoint, kept: Sequence[int]) -> Checkpoint:
    """Make a checkpoint of some of the experts, routed among themselves; its weights are the given one's.

    The descriptor that the router reads is then made of the kept experts' hand priors alone, so this is another
    function than the whole model's, whose agreement with it has to be measured.

    Args:
        kept: positions of the experts that stay, in order.

    Raises:
        CheckpointError: no such experts, or a checkpoint without a router.
    """
    model = checkpoint.model
    if model.routed is None:
        raise CheckpointError("pinned routing: this checkpoint has one expert and no router")
    if not kept or sorted(set(kept)) != list(kept) or not 0 <= kept[0] <= kept[-1] < len(checkpoint.experts):
        raise CheckpointError(f"pinned routing: no experts {list(kept)} among {len(checkpoint.experts)}")
    fusion = model.config.fusion
    assert fusion is not None
    k = min(model.routed.router.top_k, len(kept))
    config = model.config.model_copy(update={"fusion": fusion.model_copy(update={"top_k": k})})
    pinned = Signet(ModelConfig.model_validate(config), len(kept), model.language_model).eval()
    assert pinned.routed is not None
    for i, position in enumerate(kept):
        pinned.experts[i].load_state_dict(model.experts[position].state_dict())
        pinned.routed.adapters[i].load_state_dict(model.routed.adapters[position].state_dict())
    pinned.routed.aggregation.load_state_dict(model.routed.aggregation.state_dict())
    router: dict[str, Tensor] = model.routed.router.state_dict()
    for last in ("mlp.2.weight", "mlp.2.bias"):
        router[last] = router[last][list(kept)]
    pinned.routed.router.load_state_dict(router)
    experts = [checkpoint.experts[i] for i in kept]
    whole = checkpoint.config.model_copy(update={"model": config})
    return Checkpoint(pinned, experts, checkpoint.tokenizer, whole)


def preferred(weights: Tensor) -> tuple[list[int], Counter[tuple[int, ...]]]:
    """Return the set of experts that most clips are sent to, and how often each set is.

    Args:
        weights: routing weights (clips, N) of the whole model, zero for those not chosen.
    """
    sets = Counter(tuple(torch.nonzero(row > 0).flatten().tolist()) for row in weights)
    return list(sets.most_common(1)[0][0]), sets


def samples(checkpoint: Checkpoint, manifest: Path, split: str) -> PoseDataset:
    """Return a split of a manifest, prepared as the checkpoint reads it.

    Raises:
        InputError: the manifest cannot be used, or has no such split.
    """
    data = checkpoint.config.data.model_copy(update={"manifests": (manifest,)})
    config = checkpoint.config.model_copy(update={"data": data})
    return PoseDataset(load_rows(data, split), config, training=False)


@dataclass(frozen=True)
class Calibration:
    """What pinning would do to a set of samples.

    Attributes:
        kept: positions of the experts that most samples are sent to.
        sets: how many samples are sent to which experts, by name.
        same_text: share of samples whose greedy text stays as it was.
        errors: share of characters that are wrong, before and after.
    """

    kept: list[int]
    sets: dict[str, int]
    same_text: float
    errors: tuple[float, float]

    def report(self) -> str:
        """Tell the figures, a line each."""
        clips = sum(self.sets.values())
        chosen = max(self.sets, key=lambda names: self.sets[names])
        lines = [f"  {names}: {count} of {clips} ({count / clips:.1%})" for names, count in self.sets.items()]
        before, after = self.errors
        return "\n".join(
            [
                "experts that clips are sent to:",
                *lines,
                f"pinning {chosen} agrees with the router on {self.sets[chosen] / clips:.1%} of the clips",
                f"greedy text stays the same for {self.same_text:.1%}",
                f"characters wrong: {before:.2%} before, {after:.2%} after",
            ]
        )


def calibrate(checkpoint: Checkpoint, manifest: Path, split: str, top_k: int | None) -> Calibration:
    """Route and translate the samples with the whole model, and translate them with its most wanted experts alone.

    Raises:
        InputError: the manifest cannot be used, or has no such split.
        CheckpointError: a checkpoint without a router, or ``top_k`` does not fit it.
    """
    model = checkpoint.model
    if model.routed is None or len(checkpoint.experts) < 2:
        raise CheckpointError("--routing pinned: this checkpoint has one expert, and nothing to choose from")
    k = top_k or model.routed.router.top_k
    if not 1 <= k < len(checkpoint.experts):
        raise CheckpointError(f"--routing pinned: k is {k} of {len(checkpoint.experts)} experts; --top-k must be lower")
    model.routed.router.top_k = k
    dataset = samples(checkpoint, manifest, split)
    kept, sets = preferred(_routing_weights(checkpoint, dataset))
    accelerator = make_accelerator("no", "cpu")
    before, after = (
        predict(c, dataset, accelerator, num_beams=1, batch_size=8) for c in (checkpoint, pin(checkpoint, kept))
    )
    references = [p.reference for p in before]
    rates = [character_error_rate(references, [p.hypothesis for p in found]) for found in (before, after)]
    same = sum(a.hypothesis == b.hypothesis for a, b in zip(before, after, strict=True)) / len(before)
    names = [card.name for card in checkpoint.experts]
    by_name = {" + ".join(names[i] for i in chosen): count for chosen, count in sets.most_common()}
    return Calibration(kept, by_name, same, (rates[0], rates[1]))


@torch.no_grad()
def _routing_weights(checkpoint: Checkpoint, dataset: PoseDataset) -> Tensor:
    keys = in_order(len(dataset), 8)
    collate = Collate(checkpoint.tokenizer, checkpoint.config.data.max_target_tokens)
    batches = load_batches(dataset, keys, collate, checkpoint.config.data.workers)
    model = checkpoint.model.eval()
    progress = tqdm(batches, desc="route", total=len(keys), leave=False, mininterval=2)
    return torch.cat([model.fuse(model.features(batch.regions, batch.mask))[1] for batch in progress])


def as_bundled(checkpoint: Checkpoint, bundle: Bundle) -> Checkpoint:
    """Return the checkpoint with the experts, the k and the vocabulary that a bundle of it has.

    Raises:
        BundleError: the bundle's experts or pieces are not among the checkpoint's.
    """
    names, present = [e.name for e in bundle.manifest.experts], [card.name for card in checkpoint.experts]
    if not set(names) <= set(present):
        raise BundleError(f"{bundle.path}: made of another checkpoint: its experts are {', '.join(names)}")
    if len(names) < len(present):
        checkpoint = pin(checkpoint, [present.index(name) for name in names])
    if checkpoint.model.routed is not None:
        checkpoint.model.routed.router.top_k = bundle.manifest.routing.k
    bundled = load_tokenizer(bundle.path).get_vocab()
    whole = checkpoint.tokenizer.get_vocab()
    if bundled == whole:
        return checkpoint
    if not bundled.keys() <= whole.keys():
        raise BundleError(f"{bundle.path}: made of another checkpoint: its vocabulary has other pieces")
    return trim(checkpoint, {whole[piece] for piece in bundled}).checkpoint
