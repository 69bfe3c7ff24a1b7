"""Checkpoints: one directory that holds all it takes to go on, and no pickle that executes.

config.json            the resolved TrainConfig
experts/<i>/           config.json (ExpertCard), model.safetensors
fusion.safetensors     adapters, aggregation, router (absent in Stage I)
language_model/        mT5 and tokenizer, as transformers saves them
training_state.pt      optimiser and step, for an exact resume (loaded with weights_only)

An expert alone, as `signet-train import-expert` writes it, is a directory with nothing but ``experts/0``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

import torch
from pydantic import AliasChoices, BaseModel, Field
from safetensors import SafetensorError
from safetensors.torch import save_file
from transformers import MT5Config, MT5ForConditionalGeneration, PreTrainedTokenizerBase
from transformers.utils import logging as transformers_logging

from signet_runtime.boundary import read_json, reading
from signet_runtime.directories import recover_directory, whole_directory
from signet_runtime.errors import CheckpointError, OutputError
from signet_train.config import BackboneConfig, LanguageModelConfig, Name, Tag, TrainConfig
from signet_train.language_model import read_language_model, read_tokenizer
from signet_train.model.backbone import Backbone
from signet_train.model.signet import Signet
from signet_train.pretrained import fetch_pretrained
from signet_train.ranges import Real, Whole
from signet_train.settings import validated
from signet_train.weights import read_pickled, read_weights

transformers_logging.disable_progress_bar()

Kind = TypeVar("Kind", bound=BaseModel)

_MOST_EXPERTS = 256


class ExpertCard(BaseModel):
    """Where an expert comes from. Experts of one SIGNET share normalisation and size.

    ``seen`` are the published corpora, by `Row.corpus`, that its weights were trained on at any time;
    ``pose_estimator`` and ``frame_rate`` are what its data were read by, and their clock. None: not known.
    """

    name: Name
    sign_languages: tuple[Tag, ...]
    corpus: str
    seen: tuple[str, ...] = ()
    source: str
    pose_estimator: Name | None = None
    frame_rate: Annotated[float, Real(0, 1e6, "frames a second", above=True)] | None = None
    # Called profile on disk: an older package that did not find that would take it for unisign.
    normalisation: str = Field(
        default="unisign",
        validation_alias=AliasChoices("normalisation", "profile"),
        serialization_alias="profile",
    )
    backbone: BackboneConfig


class _State(BaseModel):
    """What a run needs of its state to go on."""

    step: Annotated[int, Whole(0, 10**15, "steps that are done")]
    processes: Annotated[int, Whole(1, 100_000, "processes that trained")]
    best: float  # infinite before the first validation
    best_step: Annotated[int, Whole(0, 10**15, "a step")] = 0
    seconds: Annotated[float, Real(0, 1e12, "how long it took")] = 0.0
    unvalidated: bool = False
    log_temperature: Annotated[float, Real(-100, 100, "a logarithm")] | None = None
    optimizer: dict[str, Any]


@dataclass
class Checkpoint:
    """A model with the cards of its experts, its tokenizer and the configuration of its run."""

    model: Signet
    experts: list[ExpertCard]
    tokenizer: PreTrainedTokenizerBase
    config: TrainConfig

    def __post_init__(self) -> None:
        self.model.read_prompt(self.tokenizer)


def save_checkpoint(path: Path, checkpoint: Checkpoint, state: dict[str, Any] | None = None) -> None:
    """Write to a sibling and rename: a checkpoint exists whole or not at all; an older one is replaced.

    Raises:
        OutputError: it cannot be written (disk full, no permission); the older one is still there.
    """
    _save(path, lambda new: _write(new, checkpoint, state))


def save_expert(path: Path, card: ExpertCard, weights: dict[str, torch.Tensor]) -> None:
    """Write an expert alone, as `save_checkpoint` writes a checkpoint; ``weights`` are a `Backbone`'s.

    Raises:
        OutputError: as `save_checkpoint`.
    """
    _save(path, lambda new: _write_expert(new / "experts" / "0", card, weights))


def _save(path: Path, write: Callable[[Path], None]) -> None:
    try:
        with whole_directory(path) as new:
            write(new)
    except (OSError, SafetensorError) as error:
        raise OutputError(f"{path}: cannot write the checkpoint ({error})") from error


def recover_checkpoint(path: Path) -> None:
    """Bring back the older checkpoint of a run that was killed between the two renames of `save_checkpoint`."""
    recover_directory(path)


def _write(new: Path, checkpoint: Checkpoint, state: dict[str, Any] | None) -> None:
    model = checkpoint.model
    for i, (card, expert) in enumerate(zip(checkpoint.experts, model.experts, strict=True)):
        _write_expert(new / "experts" / str(i), card, expert.state_dict())
    if model.fusion is not None:
        save_file(_plain(model.fusion.state_dict()), new / "fusion.safetensors")
    model.language_model.save_pretrained(new / "language_model")
    checkpoint.tokenizer.save_pretrained(new / "language_model")
    if state is not None:
        torch.save(state, new / "training_state.pt")
    (new / "config.json").write_text(checkpoint.config.model_dump_json(indent=2, by_alias=True))


def _write_expert(directory: Path, card: ExpertCard, weights: dict[str, torch.Tensor]) -> None:
    directory.mkdir(parents=True)
    (directory / "config.json").write_text(card.model_dump_json(indent=2, by_alias=True))
    save_file(_plain(weights), directory / "model.safetensors")


def _plain(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}


def demo_checkpoint_path() -> Path:
    """Return the directory of the demonstration checkpoint that the package carries."""
    return Path(__file__).parent / "demo"


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint in eval mode.

    Raises:
        CheckpointError: no checkpoint there, or one that is damaged or does not fit its configuration.
    """
    if not (path / "config.json").is_file():
        raise CheckpointError(
            f"{path}: not a checkpoint (no config.json in it); give the directory a training run wrote"
        )
    cards, config = load_cards(path), load_checkpoint_config(path)
    for directory, card in zip(_expert_directories(path), cards, strict=True):
        if card.backbone != config.model.backbone:
            raise CheckpointError(f"{directory}: another backbone than {path / 'config.json'} states")
    if config.model.fusion is None and len(cards) > 1:
        raise CheckpointError(f"{path}: {len(cards)} experts, and no fusion of them in its configuration")
    if config.model.fusion is not None and config.model.fusion.top_k > len(cards):
        raise CheckpointError(f"{path}: model.fusion.top_k is {config.model.fusion.top_k}, of {len(cards)} experts")
    with torch.device("meta"):  # its names and shapes: what is not stored is not allocated
        like = Signet(config.model, len(cards), _no_language_model())
    backbone = like.experts[0].state_dict()
    experts = [read_weights(directory / "model.safetensors", backbone) for directory in _expert_directories(path)]
    fusion = None
    if like.fusion is not None:
        fusion = read_weights(path / "fusion.safetensors", like.fusion.state_dict())
    language_model = read_language_model(path / "language_model")
    refuse_other_size(language_model, config.model.language_model, path / "language_model")
    tokenizer = read_tokenizer(path / "language_model")
    if len(tokenizer) > config.model.language_model.vocab_size:
        raise CheckpointError(
            f"{path}: its tokenizer has {len(tokenizer)} pieces, and its language model knows "
            f"{config.model.language_model.vocab_size}"
        )
    with reading(path, CheckpointError, "a checkpoint"):
        model = Signet(config.model, len(cards), language_model)
        for expert, weights in zip(model.experts, experts, strict=True):
            expert.load_state_dict(weights)
        if model.fusion is not None and fusion is not None:
            model.fusion.load_state_dict(fusion)
        return Checkpoint(model.eval(), cards, tokenizer, config)


def _no_language_model() -> MT5ForConditionalGeneration:
    return MT5ForConditionalGeneration(MT5Config(vocab_size=8, d_model=1, d_kv=1, d_ff=1, num_layers=1, num_heads=1))


def refuse_other_size(language_model: MT5ForConditionalGeneration, stated: LanguageModelConfig, source: object) -> None:
    """See that an mT5 is of the size that a configuration states.

    Raises:
        CheckpointError: it is not.
    """
    for name in LanguageModelConfig.model_fields:
        if name in ("dropout", "absolute_positions", "prompt"):
            continue
        if getattr(language_model.config, name) != getattr(stated, name):
            raise CheckpointError(
                f"{source}: its {name} is {getattr(language_model.config, name)}, and model.language_model states "
                f"{getattr(stated, name)}"
            )


def load_checkpoint_config(path: Path) -> TrainConfig:
    """Read the configuration alone of what `load_checkpoint` reads.

    Raises:
        CheckpointError: no checkpoint there, or a damaged one.
    """
    return _read_json(path / "config.json", TrainConfig)


def _read_json(path: Path, kind: type[Kind]) -> Kind:
    if not path.exists():
        raise CheckpointError(f"{path.parent}: no checkpoint there, which has a {path.name}")
    return validated(kind, read_json(path, "settings_bytes", CheckpointError, "a checkpoint's"), path, CheckpointError)


def load_cards(path: Path) -> list[ExpertCard]:
    """Read the cards of a checkpoint's experts, in their order.

    Raises:
        CheckpointError: one is missing or damaged.
    """
    return [_read_json(directory / "config.json", ExpertCard) for directory in _expert_directories(path)]


def _expert_directories(path: Path) -> list[Path]:
    with reading(path, CheckpointError, "a checkpoint, whose experts lie in experts/0, experts/1, …"):
        names = sorted((entry.name for entry in (path / "experts").iterdir()), key=int)
        if names != [str(i) for i in range(len(names))] or not 1 <= len(names) <= _MOST_EXPERTS:
            raise ValueError(f"{len(names)} in experts/")
    return [path / "experts" / name for name in names]


def load_expert(path: Path) -> tuple[ExpertCard, dict[str, torch.Tensor]]:
    """Read the card and the weights of a Stage I checkpoint's backbone, without its language model.

    Raises:
        CheckpointError: no checkpoint there, a damaged one, or one of several experts.
    """
    card = load_expert_card(path)
    with torch.device("meta"):
        like = Backbone(card.backbone).state_dict()
    return card, read_weights(path / "experts" / "0" / "model.safetensors", like)


def load_expert_card(path: Path) -> ExpertCard:
    """Read the card alone of what `load_expert` reads.

    Raises:
        CheckpointError: no checkpoint there, a damaged one, or one of several experts.
    """
    directory = path / "experts" / "0"
    if not (directory / "config.json").is_file():
        raise CheckpointError(f"{path}: not a checkpoint of an expert; give a directory that `pretrain` wrote")
    if (path / "experts" / "1").exists():
        raise CheckpointError(f"{path}: holds several experts; an expert is a Stage I checkpoint")
    return _read_json(directory / "config.json", ExpertCard)


def load_mt5(source: str | Path) -> tuple[MT5ForConditionalGeneration, PreTrainedTokenizerBase]:
    """Load an mT5 and its tokenizer: a directory that transformers wrote, or a name on the Hugging Face hub.

    Raises:
        CheckpointError: not there and not to be had, damaged, or no mT5.
    """
    source = fetch_pretrained(source)
    return read_language_model(source), read_tokenizer(source)


def load_tokenizer(source: str | Path) -> PreTrainedTokenizerBase:
    """Load the tokenizer alone of what `load_mt5` reads.

    Raises:
        CheckpointError: not there and not to be had, or damaged.
    """
    return read_tokenizer(fetch_pretrained(source, tokenizer_only=True))


def load_training_state(path: Path) -> dict[str, Any]:
    """Read the state that `save_checkpoint` was given.

    Raises:
        CheckpointError: the checkpoint carries none, or a damaged one.
    """
    file = path / "training_state.pt"
    if not file.is_file():
        raise CheckpointError(f"{path}: carries no training state, so its run cannot be resumed")
    state = read_pickled(file, mapped=False)
    with reading(file, CheckpointError, "the state of a run"):
        return {**state, **_State.model_validate(state).model_dump(exclude_none=True)}
