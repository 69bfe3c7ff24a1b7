"""An mT5 and its tokenizer from a directory of somebody's: read by what is known of an mT5, and nothing runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import BaseModel, ConfigDict
from safetensors import safe_open
from torch import Tensor
from transformers import MT5Config, MT5ForConditionalGeneration, PreTrainedTokenizerBase, T5Tokenizer

from signet_runtime.boundary import open_regular, read_bounded, read_json, reading
from signet_runtime.errors import CheckpointError
from signet_runtime.remote_code import refuse_remote_code
from signet_train.config import LanguageModelConfig, Layers, Width
from signet_train.ranges import Real, Whole
from signet_train.settings import validated
from signet_train.weights import check_names, check_shapes, read_pickled, read_weights

_SHARED = ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight")  # are shared.weight
_UNUSED = "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight"  # in the published files
_MOST_EXTRA = 100_000  # pieces that a tokenizer adds; mT5's adds 100, or none
_SETTINGS = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")


def _size(name: str) -> Any:
    return LanguageModelConfig.model_fields[name].metadata[0]


class _Mt5(BaseModel):
    """What transformers' `config.json` says of an mT5, without what is nothing to us, such as code to be fetched."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    model_type: str
    vocab_size: Annotated[int, _size("vocab_size")]
    d_model: Width
    d_kv: Width
    d_ff: Annotated[int, _size("d_ff")]
    num_layers: Layers
    num_decoder_layers: Layers | None = None
    num_heads: Annotated[int, _size("num_heads")]
    relative_attention_num_buckets: Annotated[int, Whole(2, 4096, "mT5 has 32")] = 32
    relative_attention_max_distance: Annotated[int, Whole(2, 1_000_000, "mT5 has 128")] = 128
    dropout_rate: Annotated[float, Real(0, 1, "a share", below=True)] = 0.1
    layer_norm_epsilon: Annotated[float, Real(0, 1, "mT5 has 1e-6", above=True)] = 1e-6
    feed_forward_proj: Literal["gated-gelu", "gated-silu", "gated-relu", "relu", "gelu"] = "gated-gelu"
    tie_word_embeddings: bool = False
    pad_token_id: Annotated[int, Whole(0, 4_000_000, "a piece")] = 0
    eos_token_id: Annotated[int, Whole(0, 4_000_000, "a piece")] = 1
    decoder_start_token_id: Annotated[int, Whole(0, 4_000_000, "a piece")] = 0


def read_config(directory: Path) -> MT5Config:
    """Read the size of the mT5 in a directory that transformers wrote.

    Raises:
        CheckpointError: none there, damaged, no mT5, or numbers that no mT5 can have (named).
    """
    path = directory / "config.json"
    refuse_remote_code(directory, CheckpointError)
    stated = read_json(path, "settings_bytes", CheckpointError, "the configuration of an mT5")
    kind = stated.get("model_type") if isinstance(stated, dict) else None
    if kind != "mt5":
        raise CheckpointError(f"{directory}: a {ascii(kind)[1:-1][:40]} model, where an mT5 is needed")
    known = validated(_Mt5, stated, path, CheckpointError)
    for name in ("pad_token_id", "eos_token_id", "decoder_start_token_id"):
        if getattr(known, name) >= known.vocab_size:
            raise CheckpointError(f"{path}: {name} is {getattr(known, name)}, of a vocabulary of {known.vocab_size}")
    return MT5Config(**known.model_dump(exclude={"model_type"}))


def read_language_model(directory: Path) -> MT5ForConditionalGeneration:
    """Read the mT5 in a directory that transformers wrote, in fp32 and eval mode.

    Raises:
        CheckpointError: none there, damaged, no mT5, or weights that are not those that its configuration states.
    """
    config = read_config(directory)
    files = _files(directory)
    for stack, stated in (("encoder", config.num_layers), ("decoder", config.num_decoder_layers)):
        stored = len(
            {name.split(".")[2] for file in files for name in _names(file) if name.startswith(f"{stack}.block.")}
        )
        if stored != stated:  # known before thousands of them are built, if only of names and shapes
            raise CheckpointError(
                f"{directory}: its configuration states {stated} layers of the {stack}, and {stored} are stored"
            )
    with torch.device("meta"):  # nothing is drawn, or allocated, for weights that are about to be replaced
        model = MT5ForConditionalGeneration(config)
    expected = model.state_dict()
    tensors = _weights(directory, files, expected, config.tie_word_embeddings)
    own = {name: tensor.float() for name, tensor in tensors.items() if name not in _SHARED}
    model.load_state_dict(own, strict=False, assign=True)
    model.tie_weights()
    return model.eval()


def _files(directory: Path) -> list[Path]:
    """Return the file or files in which transformers wrote an mT5's weights."""
    for pattern in ("model.safetensors", "model-*-of-*.safetensors", "pytorch_model*.bin"):
        if files := sorted(directory.glob(pattern)):
            return files
    raise CheckpointError(f"{directory}: no weights there (no model.safetensors)")


def _names(file: Path) -> list[str]:
    """Return what tensors a file of weights has; without what is in published files and nobody uses."""
    if file.suffix == ".bin":
        content = read_pickled(file)
        if not isinstance(content, dict) or not all(isinstance(name, str) for name in content):
            raise CheckpointError(f"{file}: holds no weights")
        names = list(content)
    else:
        with open_regular(file, CheckpointError, "weights"):  # which safetensors opens anew, by its name
            pass
        with reading(file, CheckpointError, "weights"), safe_open(file, framework="pt") as opened:
            names = list(opened.keys())
    return [name for name in names if name != _UNUSED]


def _weights(directory: Path, files: list[Path], expected: dict[str, Tensor], tied: bool) -> dict[str, Tensor]:
    """Return all tensors but those that are another's."""
    check_names(
        directory,
        {name for file in files for name in _names(file)},
        expected,
        (*_SHARED, *(("lm_head.weight",) if tied else ())),
    )
    tensors: dict[str, Tensor] = {}
    for file in files:
        own = {name: expected[name] for name in _names(file)}
        if file.suffix == ".bin":
            content = read_pickled(file)
            if not all(isinstance(content[name], Tensor) for name in own):
                raise CheckpointError(f"{file}: holds no weights")
            check_shapes(file, {name: content[name] for name in own}, expected)
            tensors |= {name: content[name] for name in own}
        else:
            tensors |= read_weights(file, own, others={_UNUSED})
    return tensors


def read_tokenizer(directory: Path) -> PreTrainedTokenizerBase:
    """Read the tokenizer of the mT5 in a directory.

    Raises:
        CheckpointError: none there, or damaged.
    """
    if not (directory / "spiece.model").is_file():
        raise CheckpointError(f"{directory}: no mT5 tokenizer there (no spiece.model in it)")
    refuse_remote_code(directory, CheckpointError)
    read_bounded(directory / "spiece.model", "tokenizer_bytes", CheckpointError)
    for name in _SETTINGS:
        if (directory / name).exists():
            stated = read_json(directory / name, "settings_bytes", CheckpointError, "a tokenizer's settings")
            _check_settings(directory / name, stated)
    with reading(directory, CheckpointError, "the tokenizer of an mT5"):
        tokenizer = T5Tokenizer.from_pretrained(directory, legacy=False)
        if not isinstance(tokenizer, PreTrainedTokenizerBase):  # transformers gives False for some damaged models
            raise ValueError("spiece.model")
        return tokenizer


def _check_settings(path: Path, stated: Any) -> None:
    extra = stated.get("extra_ids", 0) if isinstance(stated, dict) else None
    if type(extra) is not int or not 0 <= extra <= _MOST_EXTRA:
        raise CheckpointError(f"{path}: extra_ids is {ascii(extra)[:40]}: has to be a number from 0 to {_MOST_EXTRA:,}")
