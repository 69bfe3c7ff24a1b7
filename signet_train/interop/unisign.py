"""Checkpoints of Uni-Sign's public code, and of Geo-Sign's, which extends it -> the weights of our modules.

The paper's backbone is the pose encoder that Uni-Sign published (github.com/ZechengLi19/Uni-Sign, `models.py`): the
same tensors under other names, with the 1x1 convolutions as 4-D kernels and both hands' aliases stored. Its file is
``{"model": state dict}``, in bfloat16 as published; a tensor in it is used, or known and left out, or an error.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from transformers import MT5ForConditionalGeneration, PreTrainedTokenizerBase

from signet_runtime.boundary import reading
from signet_runtime.errors import CheckpointError
from signet_runtime.printable import is_printable
from signet_train.checkpoint import Checkpoint, ExpertCard, load_tokenizer
from signet_train.config import BackboneConfig, DataConfig, LanguageModelConfig, ModelCard, ModelConfig, TrainConfig
from signet_train.interop.origins import Origin
from signet_train.model.backbone import Backbone
from signet_train.model.signet import Signet, build_language_model
from signet_train.settings import validated
from signet_train.weights import read_pickled

# Our stream -> theirs; the hands share one stream, which is stored under both names.
_PARTS = {"body": ("body",), "hand": ("right", "left"), "face": ("face_all",)}
_STAGES = {
    "spatial": ("gcn_modules", ("layer0_0", "layer1_0", "layer2_0")),
    "temporal": ("fusion_gcn_modules", ("layer0_0", "layer0_1", "layer0_2")),
}
_LAYERS = {
    "gcn.adjacency": "gcn.A",
    "gcn.weight": "gcn.conv.weight",
    "gcn.bias": "gcn.conv.bias",
    "gcn.norm": "gcn.bn",
    "tcn.conv": "tcn.0",
    "tcn.norm": "tcn.1",
    "residual": "residual",
}

# What has no part in reading signs from keypoints, by the beginnings of its names.
_LEFT_OUT = {
    "the RGB branch": ("rgb_support_backbone.", "rgb_proj.", "fusion_pose_rgb_", "fusion_gate."),
    "Geo-Sign's hyperbolic heads": (
        "hyp_proj_",
        "hyp_attn_",
        "manifold.",
        "geom_loss.",
        "text_pool_attn.",
        "loss_alpha_logit",
        "global_step",
    ),
}
_LANGUAGE_MODEL = "mt5_model."


@dataclass(frozen=True)
class Published:
    """What a published checkpoint holds.

    Attributes:
        backbone: of a `Backbone` of ``backbone_config``, by its names, in fp32.
        language_model: of an mT5 of ``language_model_config``, by transformers' names, as stored (bf16 where published)
            and not read into memory; empty where there is none.
        left_out: parts of the file that were not taken, in words.
    """

    backbone_config: BackboneConfig
    backbone: dict[str, Tensor]
    language_model_config: LanguageModelConfig
    language_model: dict[str, Tensor]
    left_out: tuple[str, ...]


def read_unisign(path: Path) -> Published:
    """Read a checkpoint without executing anything in it.

    Raises:
        CheckpointError: not a file, damaged, or more than weights in it; a key that is missing, unknown, or of another
            shape than the published encoder's (named).
    """
    tensors = load_tensors(path)
    _refuse_foreign(path, tensors)
    if "pose_proj.weight" not in tensors:
        raise CheckpointError(
            f"{path}: the key pose_proj.weight is missing: not a checkpoint of Uni-Sign's pose encoder"
        )
    with reading(path, CheckpointError, "Uni-Sign's pose encoder"):
        width = len(tensors["pose_proj.weight"])
    config = validated(BackboneConfig, {"embedding": width}, path, CheckpointError)
    taken: set[str] = set()
    backbone = {name: _take(path, tensors, name, like, taken) for name, like in _meta_backbone(config).items()}

    language_model = {k.removeprefix(_LANGUAGE_MODEL): v for k, v in tensors.items() if k.startswith(_LANGUAGE_MODEL)}
    taken |= {k for k in tensors if k.startswith(_LANGUAGE_MODEL)}
    language_model_config = LanguageModelConfig()
    if language_model:
        language_model_config = language_model_size(path, language_model)
        check_language_model(path, language_model, language_model_config)
        if language_model_config.d_model != config.embedding:
            raise CheckpointError(
                f"{path}: pose_proj.weight makes embeddings of {config.embedding}, and its language model reads "
                f"{language_model_config.d_model} (mt5_model.shared.weight)"
            )

    left_out = []
    for what, beginnings in _LEFT_OUT.items():
        found = {name for name in tensors if name.startswith(beginnings)}
        if found:
            left_out.append(what)
        taken |= found
    unknown = sorted(tensors.keys() - taken)
    if unknown:
        more = f", and {len(unknown) - 1} more" if len(unknown) > 1 else ""
        raise CheckpointError(f"{path}: the key {unknown[0]}{more} is not of Uni-Sign's published model")
    return Published(config, backbone, language_model_config, language_model, tuple(left_out))


def import_expert(path: Path, origin: Origin, name: str) -> tuple[ExpertCard, dict[str, Tensor], Published]:
    """Read a published checkpoint's backbone as an expert: its card and weights, and all that was read.

    Raises:
        CheckpointError: as `read_unisign`.
    """
    published = read_unisign(path)
    card = ExpertCard(
        name=name,
        sign_languages=(origin.sign_language,),
        corpus=" + ".join(origin.seen),
        seen=origin.seen,
        source=f"unisign {fingerprint(path)}",
        pose_estimator="rtmpose",  # as the published keypoints say it
        backbone=published.backbone_config,
    )
    return card, published.backbone, published


def fingerprint(path: Path) -> str:
    """Return a file's name and what is in it: ``NAME sha256:…``."""
    with path.open("rb") as file:
        return f"{path.name} sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


def import_model(path: Path, origin: Origin, name: str, mt5: str | Path) -> tuple[Checkpoint, Published]:
    """Read a published checkpoint as a whole SIGNET of one expert, without adapter and router, and all that was read.

    Args:
        mt5: where the tokenizer is, which checkpoints do not carry: a directory, or a name on the Hugging Face hub.

    Raises:
        CheckpointError: as `read_unisign`; no language model in it; or no tokenizer, or one of another vocabulary.
    """
    card, weights, published = import_expert(path, origin, name)
    if not published.language_model:
        raise CheckpointError(f"{path}: has no language model (no key mt5_model.…); it can be an expert: import-expert")
    tokenizer = tokenizer_of(mt5, path, published.language_model_config)
    language_model_config = published.language_model_config.model_copy(update={"prompt": prompt(origin.language)})
    config = TrainConfig(
        stage="pretrain",
        task=origin.task,
        model=ModelConfig(backbone=published.backbone_config, language_model=language_model_config),
        data=DataConfig(manifests=(), max_frames=origin.max_frames, frame_rate=origin.frame_rate),
        card=ModelCard(name=name, language=origin.language, pose_estimator=origin.pose_estimator),
    )
    model = Signet(config.model, 1, fill_language_model(language_model_config, published.language_model))
    model.experts[0].load_state_dict(weights)
    return Checkpoint(model.eval(), [card], tokenizer, config), published


def tokenizer_of(mt5: str | Path, path: Path, config: LanguageModelConfig) -> PreTrainedTokenizerBase:
    """Load the tokenizer of ``mt5`` for the language model that was read from ``path``.

    Raises:
        CheckpointError: there is none, or it has more pieces than the language model knows.
    """
    tokenizer = load_tokenizer(mt5)
    if len(tokenizer) > config.vocab_size:
        raise CheckpointError(
            f"{mt5}: its tokenizer has {len(tokenizer)} pieces, and the language model of {path} knows "
            f"{config.vocab_size}"
        )
    return tokenizer


def fill_language_model(config: LanguageModelConfig, tensors: dict[str, Tensor]) -> MT5ForConditionalGeneration:
    """Build an mT5 of these weights, in fp32."""
    with torch.device("meta"):  # nothing is drawn for weights that are about to be replaced
        language_model = build_language_model(config)
    language_model.load_state_dict({name: tensor.float() for name, tensor in tensors.items()}, assign=True)
    return language_model


def prompt(language: str) -> str:
    """Return what Uni-Sign's code writes before the signs: it knows Chinese, and takes everything else for English."""
    return f"Translate sign language video to {'Chinese' if language.split('-')[0] == 'zh' else 'English'}: "


def load_tensors(path: Path) -> dict[str, Tensor]:
    """Read a file's state dict, mapped into memory, without executing anything in it.

    Raises:
        CheckpointError: not a file, damaged, more than weights in it, or weights that are not finite.
    """
    content = read_pickled(path)
    state = content.get("model", content) if isinstance(content, dict) else None
    if not isinstance(state, dict) or not state or not all(isinstance(v, Tensor) for v in state.values()):
        raise CheckpointError(f"{path}: holds no weights under 'model', as Uni-Sign's checkpoints do")
    if not all(isinstance(name, str) and is_printable(name) for name in state):
        raise CheckpointError(f"{path}: holds weights whose names are none")
    if all(name.startswith("module.") for name in state):  # as torch's and DeepSpeed's wrappers name them
        state = {name.removeprefix("module."): tensor for name, tensor in state.items()}
    for name, tensor in state.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise CheckpointError(f"{path}: {name} has values that are not finite")
    return state


def _refuse_foreign(path: Path, tensors: dict[str, Tensor]) -> None:
    refuse_lora(path, tensors)
    if not any(name.startswith("gcn_modules.") for name in tensors):
        rgb = any(name.startswith(_LEFT_OUT["the RGB branch"]) for name in tensors)
        what = "it has an RGB branch alone" if rgb else f"its first key is {next(iter(tensors))}"
        raise CheckpointError(f"{path}: no pose encoder in it (no key gcn_modules.…; {what})")


def refuse_lora(path: Path, tensors: dict[str, Tensor]) -> None:
    """See that no weight is a low-rank update, or waits for one.

    Raises:
        CheckpointError: one is or does; it is named.
    """
    lora = next((name for name in tensors if "lora_" in name or ".base_layer." in name), None)
    if lora is not None:
        raise CheckpointError(f"{path}: {lora} is a LoRA weight; merge the adapters into their model, and import that")


def _meta_backbone(config: BackboneConfig) -> dict[str, Tensor]:
    """Make a backbone of names and shapes alone."""
    with torch.device("meta"):
        return Backbone(config).state_dict()


def published_names(ours: str) -> list[str]:
    """Return what the published code calls a tensor of our `Backbone`: two names for one of the hands'."""
    if ours == "part_offset":
        return ["part_para"]
    if ours.startswith("projection."):
        return ["pose_proj." + ours.removeprefix("projection.")]
    stream, rest = ours.split(".", 1)
    if rest.startswith("projection."):
        return [f"proj_linear.{part}.{rest.removeprefix('projection.')}" for part in _PARTS[stream]]
    stage, _, block, layer = rest.split(".", 3)
    modules, blocks = _STAGES[stage]
    name = next(theirs + layer.removeprefix(own) for own, theirs in _LAYERS.items() if layer.startswith(own))
    return [f"{modules}.{part}.{blocks[int(block)]}.{name}" for part in _PARTS[stream]]


def _take(path: Path, tensors: dict[str, Tensor], ours: str, like: Tensor, taken: set[str]) -> Tensor:
    names = published_names(ours)
    there = [name for name in names if name in tensors]
    if not there:
        hint = "; it was saved without its running statistics" if "running_" in ours else ""
        raise CheckpointError(f"{path}: the key {names[0]} is missing{hint}")
    taken.update(there)
    first = tensors[there[0]]
    expected = _published_shape(ours, like)
    for name in there:
        if tensors[name].shape != expected:
            found = tuple(tensors[name].shape)
            raise CheckpointError(f"{path}: {name} has the shape {found}, the published encoder's is {tuple(expected)}")
        if not torch.equal(tensors[name], first):
            raise CheckpointError(f"{path}: {there[0]} and {name} differ, and the hands share their weights (A.3)")
    return first.reshape(like.shape).to(like.dtype)


def _published_shape(ours: str, like: Tensor) -> torch.Size:
    """Return its shape there: 1x1 convolutions are 4-D kernels, those of a graph convolution's subsets in one."""
    if ours.endswith("gcn.weight"):
        return torch.Size([like.shape[0] * like.shape[1], like.shape[2], 1, 1])
    if ours.endswith("gcn.bias"):
        return torch.Size([like.numel()])
    if ours.endswith("residual.0.weight"):
        return torch.Size([*like.shape, 1, 1])
    return like.shape


def language_model_size(path: Path, tensors: dict[str, Tensor]) -> LanguageModelConfig:
    """Return an mT5's size, which its tensors tell.

    Raises:
        CheckpointError: they are not an mT5's.
    """
    block = "encoder.block.0.layer."
    attention, feed_forward = block + "0.SelfAttention.", block + "1.DenseReluDense."
    if feed_forward + "wi.weight" in tensors:
        raise CheckpointError(f"{path}: {_LANGUAGE_MODEL}{feed_forward}wi.weight is of a T5, where an mT5 is needed")

    def shape(name: str) -> torch.Size:
        if name not in tensors or tensors[name].dim() != 2:
            raise CheckpointError(f"{path}: the key {_LANGUAGE_MODEL}{name} is missing, or not a matrix")
        return tensors[name].shape

    vocab_size, d_model = shape("shared.weight")
    heads = shape(attention + "relative_attention_bias.weight")[1]
    with reading(path, CheckpointError, "an mT5"):
        sizes = {
            "vocab_size": vocab_size,
            "d_model": d_model,
            "d_kv": shape(attention + "q.weight")[0] // heads,
            "d_ff": shape(feed_forward + "wi_0.weight")[0],
            "num_layers": len({name.split(".")[2] for name in tensors if name.startswith("encoder.block.")}),
            "num_heads": heads,
        }
        return validated(LanguageModelConfig, sizes, path, CheckpointError)


def check_language_model(path: Path, tensors: dict[str, Tensor], config: LanguageModelConfig) -> None:
    """See that these are all of an mT5's tensors, and no others.

    Raises:
        CheckpointError: a key that is missing, unknown or of another shape, or embeddings that are not shared.
    """
    with torch.device("meta"):
        expected = build_language_model(config).state_dict()
    for name in sorted(expected.keys() ^ tensors.keys()):
        state = "missing" if name in expected else "not of an mT5 of this size"
        raise CheckpointError(f"{path}: the key {_LANGUAGE_MODEL}{name} is {state}")
    for name, like in expected.items():
        if tensors[name].shape != like.shape:
            raise CheckpointError(
                f"{path}: {_LANGUAGE_MODEL}{name} has the shape {tuple(tensors[name].shape)}, an mT5 of this size has "
                f"{tuple(like.shape)}"
            )
    for name in ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight"):
        if not torch.equal(tensors[name], tensors["shared.weight"]):
            raise CheckpointError(f"{path}: {_LANGUAGE_MODEL}{name} differs from shared.weight, which mT5 has it share")
