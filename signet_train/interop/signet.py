"""Checkpoints of the paper's authors' own code (github.com/elsobhano/SIGNET) -> a whole SIGNET of ours.

There a model is several files: experts, each ``{"model": state dict}`` with Uni-Sign's names and the mT5 of its Stage I
beside the encoder, and a gate, ``{"model": state dict, "epoch": …}``, which holds what Stages II and III train:
``query_mlp`` and ``gate_norm`` (Algorithm 1), ``router``, ``adapters`` and the mT5. The gate does not say which experts
it was trained with: only their number can be told.

Hand priors are [left; right] there and [right; left] here, as Eq. 4 has them. Which half comes first only names the
features, so the weights that read or write them are put into our order, and the function stays the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from signet_runtime.errors import CheckpointError
from signet_train.checkpoint import Checkpoint, ExpertCard
from signet_train.config import DataConfig, FusionConfig, LanguageModelConfig, ModelCard, ModelConfig, TrainConfig
from signet_train.interop.origins import Origin
from signet_train.interop.unisign import (
    check_language_model,
    fill_language_model,
    fingerprint,
    language_model_size,
    load_tensors,
    read_unisign,
    refuse_lora,
    tokenizer_of,
)
from signet_train.model.fusion import Fusion
from signet_train.model.signet import Signet

_LANGUAGE_MODEL = "mt5_model."
_LANGUAGES = {"zh": "Chinese", "de": "German", "en": "English"}  # that its prompt names
_FIRST_FRAMES = {"how2sign", "meinedgs"}  # corpora of whose long clips its readers take the beginning


@dataclass(frozen=True)
class Gate:
    """What a gate's checkpoint holds.

    Attributes:
        num_experts: how many it was trained with, in an order that the file does not tell.
        prior: D, the width of the hand priors it reads.
        embedding: E, the width of the experts' embeddings.
        config: of its fusion, with the authors' settings for what its tensors do not tell.
        fusion: the weights of a `Fusion` of this size, by our names, in fp32.
        language_model: of an mT5 of ``language_model_config``, by transformers' names, as stored.
        aligned: it comes from Stage II, whose model has not learned to translate.
        left_out: parts of the file that were not taken, in words.
    """

    num_experts: int
    prior: int
    embedding: int
    config: FusionConfig
    fusion: dict[str, Tensor]
    language_model_config: LanguageModelConfig
    language_model: dict[str, Tensor]
    aligned: bool
    left_out: tuple[str, ...]


def read_gate(path: Path, adapters: bool = True) -> Gate:
    """Read a gate's checkpoint without executing anything in it.

    Args:
        adapters: False leaves them out. At commit 66d46bd Stage III computes them and goes on without what it computed:
            a checkpoint that was trained so has to run so.

    Raises:
        CheckpointError: not a file, damaged, or more than weights in it; an expert's file; one with LoRA or the static
            query; a key that is missing, unknown, or of another shape than the others (named).
    """
    tensors = load_tensors(path)
    refuse_lora(path, tensors)
    if "gate_query" in tensors:
        raise CheckpointError(
            f"{path}: gate_query is a static query, one for every clip; only the query of Eq. 14 (query_mlp.…) is read"
        )
    if "router.2.weight" not in tensors:
        kind = (
            "this is an expert's file" if "pose_proj.weight" in tensors else f"its first key is {next(iter(tensors))}"
        )
        raise CheckpointError(f"{path}: no router in it (no key router.2.weight; {kind}); give the gate's checkpoint")
    num_experts, hidden = _matrix(path, tensors, "router.2.weight")
    query_hidden, prior = _matrix(path, tensors, "query_mlp.0.weight")
    rank, embedding = _matrix(path, tensors, "adapters.0.A.weight")
    config = FusionConfig(
        adapter_rank=rank,
        adapter_dropout=0.1,
        adapter_start="redrawn",
        attention_dropout=0.1,
        query_hidden=query_hidden,
        router_hidden=hidden,
        top_k=min(2, num_experts),
    )
    taken: set[str] = set()

    def take(theirs: str, shape: tuple[int, ...]) -> Tensor:
        if theirs not in tensors:
            raise CheckpointError(f"{path}: the key {theirs} is missing")
        found = tuple(tensors[theirs].shape)
        if found != shape:
            raise CheckpointError(f"{path}: {theirs} has the shape {found}, and its other tensors ask for {shape}")
        taken.add(theirs)
        return tensors[theirs].float()

    fusion = {}
    for ours, theirs, shape, halves in _aggregation_and_router(prior, query_hidden, hidden, num_experts):
        tensor = take(theirs, shape)
        for axis in halves:  # from [left; right] to [right; left]
            tensor = tensor.roll(prior // 2, dims=axis)
        fusion[ours] = tensor
    left_out = []
    for i in range(num_experts):
        fusion[f"adapters.{i}.norm.weight"] = take(f"adapters.{i}.norm.weight", (embedding,))
        fusion[f"adapters.{i}.norm.bias"] = take(f"adapters.{i}.norm.bias", (embedding,))
        fusion[f"adapters.{i}.down"] = take(f"adapters.{i}.A.weight", (rank, embedding)).t().contiguous()
        fusion[f"adapters.{i}.up"] = take(f"adapters.{i}.B.weight", (embedding, rank)).t().contiguous()
    if not adapters:
        left_out.append("the adapters, by --no-adapters,")
        config = config.model_copy(update={"adapter_rank": 0})
        fusion = {name: tensor for name, tensor in fusion.items() if not name.startswith("adapters.")}
    aligned = "logit_scale" in tensors
    if aligned:
        taken.add("logit_scale")
        left_out.append("the temperature that Stage II never learned (logit_scale)")

    of_language_model = {k for k in tensors if k.startswith(_LANGUAGE_MODEL)}
    language_model = {k.removeprefix(_LANGUAGE_MODEL): tensors[k] for k in of_language_model}
    unknown = sorted(tensors.keys() - taken - of_language_model)
    if unknown:
        more = f", and {len(unknown) - 1} more" if len(unknown) > 1 else ""
        of_adapter = unknown[0].startswith("adapters.")
        why = (
            f"of an adapter more than the {num_experts} that router.2.weight routes to"
            if of_adapter
            else "not of a gate"
        )
        raise CheckpointError(f"{path}: the key {unknown[0]}{more} is {why}")
    size = language_model_size(path, language_model)
    check_language_model(path, language_model, size)
    if size.d_model != embedding:
        raise CheckpointError(
            f"{path}: adapters.0.A.weight reads embeddings of {embedding}, and its language model {size.d_model} "
            "(mt5_model.shared.weight)"
        )
    return Gate(num_experts, prior, embedding, config, fusion, size, language_model, aligned, tuple(left_out))


def _aggregation_and_router(
    prior: int, query: int, hidden: int, experts: int
) -> list[tuple[str, str, tuple[int, ...], tuple[int, ...]]]:
    """Our name, theirs, the shape, and the axes along which a tensor's halves are the two hands."""
    return [
        ("aggregation.query.0.weight", "query_mlp.0.weight", (query, prior), (1,)),
        ("aggregation.query.0.bias", "query_mlp.0.bias", (query,), ()),
        ("aggregation.query.2.weight", "query_mlp.2.weight", (prior, query), (0,)),
        ("aggregation.query.2.bias", "query_mlp.2.bias", (prior,), (0,)),
        ("aggregation.norm.weight", "gate_norm.weight", (prior,), (0,)),
        ("aggregation.norm.bias", "gate_norm.bias", (prior,), (0,)),
        ("router.mlp.0.weight", "router.0.weight", (hidden, prior), (1,)),
        ("router.mlp.0.bias", "router.0.bias", (hidden,), ()),
        ("router.mlp.2.weight", "router.2.weight", (experts, hidden), ()),
        ("router.mlp.2.bias", "router.2.bias", (experts,), ()),
    ]


def _matrix(path: Path, tensors: dict[str, Tensor], name: str) -> tuple[int, int]:
    if name not in tensors or tensors[name].dim() != 2:
        raise CheckpointError(f"{path}: the key {name} is missing, or not a matrix")
    return tensors[name].shape[0], tensors[name].shape[1]


def import_signet(
    path: Path,
    experts: Sequence[tuple[Path, Origin]],
    origin: Origin,
    name: str,
    mt5: str | Path,
    adapters: bool = True,
) -> tuple[Checkpoint, tuple[str, ...]]:
    """Put a gate and its experts together to a whole SIGNET, and say in words what was left out of the files.

    Args:
        path: the gate's checkpoint, of Stage III, or of Stage II for Stage III to start from.
        experts: in the order of ``--expert_model_paths`` in the gate's training, each with where it comes from.
        origin: what the gate was trained on: its text's language, by which the prompt is chosen, and its corpora.
        mt5: where the tokenizer is, which checkpoints do not carry: a directory, or a name on the Hugging Face hub.
        adapters: see `read_gate`.

    Raises:
        CheckpointError: as `read_gate`, and as `read_unisign` of experts; experts in another number than the gate's,
            one of them twice, or of another size; no tokenizer, or one of another vocabulary.
    """
    gate = read_gate(path, adapters)
    if len(experts) != gate.num_experts:
        raise CheckpointError(
            f"{path}: router.2.weight routes between {gate.num_experts} experts, and {len(experts)} were given: "
            "--expert FILE once for each, in the order of its training's --expert_model_paths"
        )
    tokenizer = tokenizer_of(mt5, path, gate.language_model_config)
    gate_source = fingerprint(path)
    cards, weights, seen = [], [], dict[str, Path]()
    for file, of_expert in experts:
        published = read_unisign(file)
        backbone, source = published.backbone_config, fingerprint(file)
        twice = seen.setdefault(source.rpartition("sha256:")[2], file)
        if twice is not file:
            raise CheckpointError(f"{file}: the same weights as {twice}: each of a gate's experts is another")
        if (2 * backbone.temporal_channels[-1], backbone.embedding) != (gate.prior, gate.embedding):
            raise CheckpointError(
                f"{file}: pose_proj.weight makes embeddings of {backbone.embedding}, and {path} reads {gate.embedding}"
            )
        cards.append(
            ExpertCard(
                name=of_expert.seen[0],
                sign_languages=(of_expert.sign_language,),
                corpus=" + ".join(of_expert.seen),
                seen=of_expert.seen,
                source=f"signet {source}, with the gate {gate_source}",
                backbone=backbone,
            )
        )
        weights.append(published.backbone)
    language_model = gate.language_model_config.model_copy(
        update={"prompt": None if gate.aligned else prompt(origin.language)}
    )
    first = bool(_FIRST_FRAMES & set(origin.seen))
    config = TrainConfig(
        stage="align" if gate.aligned else "finetune",
        task=origin.task,
        model=ModelConfig(backbone=cards[0].backbone, fusion=gate.config, language_model=language_model),
        data=DataConfig(
            manifests=(),
            noise=0,
            frame_drop=0,
            max_frames=origin.max_frames,
            long_clips="first" if first else "sampled",
        ),
        card=ModelCard(name=name, language=origin.language),
    )
    model = Signet(config.model, len(cards), fill_language_model(language_model, gate.language_model))
    for expert, state in zip(model.experts, weights, strict=True):
        expert.load_state_dict(state)
    assert isinstance(model.fusion, Fusion)
    model.fusion.load_state_dict(gate.fusion)
    left_out = (*(f"{path}: {part}" for part in gate.left_out), *(f"{file}: its language model" for file, _ in experts))
    return Checkpoint(model.eval(), cards, tokenizer, config), left_out


def prompt(language: str) -> str:
    """Return what the authors' code writes before the signs: German, Chinese, and English for everything else."""
    named = _LANGUAGES.get(language.split("-")[0], "English")
    return f"Translate sign language video to {named}: "
