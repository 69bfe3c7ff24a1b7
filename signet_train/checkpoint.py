"""Checkpoints: one directory that holds all it takes to go on, and no pickle that executes.

config.json            the resolved TrainConfig
experts/<i>/           config.json (ExpertCard), model.safetensors
fusion.safetensors     adapters, aggregation, router (absent in Stage I)
language_model/        mT5 and tokenizer, as transformers saves them
training_state.pt      optimiser and step, for an exact resume (loaded with weights_only)

An expert alone, as `signet-train import-expert` writes it, is a directory with nothing but ``experts/0``.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import AliasChoices, BaseModel, Field, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, MT5ForConditionalGeneration, PreTrainedTokenizerBase, T5Tokenizer
from transformers.utils import logging as transformers_logging

from signet_runtime.directories import recover_directory, whole_directory
from signet_runtime.errors import CheckpointError, OutputError, first_line
from signet_runtime.remote_code import refuse_remote_code
from signet_train.config import BackboneConfig, TrainConfig
from signet_train.model.signet import Signet

transformers_logging.disable_progress_bar()

_PATIENCE = 10  # seconds that the hub may take to say whether it has a model


class ExpertCard(BaseModel):
    """Where an expert comes from. Experts of one SIGNET share normalisation and size.

    ``seen`` are the published corpora, by `Row.corpus`, that its weights were trained on at any time;
    ``pose_estimator`` and ``frame_rate`` are what its data were read by, and their clock. None: not known.
    """

    name: str
    sign_languages: tuple[str, ...]
    corpus: str
    seen: tuple[str, ...] = ()
    source: str
    pose_estimator: str | None = None
    frame_rate: float | None = None
    # Called profile on disk: an older package that did not find that would take it for unisign.
    normalisation: str = Field(
        default="unisign",
        validation_alias=AliasChoices("normalisation", "profile"),
        serialization_alias="profile",
    )
    backbone: BackboneConfig


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
    cards = load_cards(path)
    refuse_remote_code(path / "language_model", CheckpointError)
    try:
        config = TrainConfig.model_validate_json((path / "config.json").read_text())
        language_model = MT5ForConditionalGeneration.from_pretrained(path / "language_model")
        model = Signet(config.model, len(cards), language_model)
        directories = _expert_directories(path)
        for expert, directory in zip(model.experts, directories, strict=True):
            expert.load_state_dict(load_file(directory / "model.safetensors"))
        if model.fusion is not None:
            model.fusion.load_state_dict(load_file(path / "fusion.safetensors"))
        tokenizer = T5Tokenizer.from_pretrained(path / "language_model", legacy=False)
    except (OSError, RuntimeError, SafetensorError, ValidationError, ValueError) as error:
        raise CheckpointError(f"{path}: damaged checkpoint: {first_line(error)}") from error
    return Checkpoint(model.eval(), cards, tokenizer, config)


def load_checkpoint_config(path: Path) -> TrainConfig:
    """Read the configuration alone of what `load_checkpoint` reads.

    Raises:
        CheckpointError: no checkpoint there, or a damaged one.
    """
    try:
        return TrainConfig.model_validate_json((path / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: no checkpoint, or a damaged one: {first_line(error)}") from error


def load_cards(path: Path) -> list[ExpertCard]:
    """Read the cards of a checkpoint's experts, in their order.

    Raises:
        CheckpointError: one is missing or damaged.
    """
    try:
        return [ExpertCard.model_validate_json((d / "config.json").read_text()) for d in _expert_directories(path)]
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: damaged checkpoint: {first_line(error)}") from error


def _expert_directories(path: Path) -> list[Path]:
    return sorted((path / "experts").iterdir(), key=lambda d: int(d.name))


def load_expert(path: Path) -> tuple[ExpertCard, dict[str, torch.Tensor]]:
    """Read the card and the weights of a Stage I checkpoint's backbone, without its language model.

    Raises:
        CheckpointError: no checkpoint there, a damaged one, or one of several experts.
    """
    card = load_expert_card(path)
    try:
        return card, load_file(path / "experts" / "0" / "model.safetensors")
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path}: damaged checkpoint: {first_line(error)}") from error


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
    try:
        return ExpertCard.model_validate_json((directory / "config.json").read_text())
    except (OSError, ValidationError) as error:
        raise CheckpointError(f"{path}: damaged checkpoint: {first_line(error)}") from error


def load_mt5(source: str | Path) -> tuple[MT5ForConditionalGeneration, PreTrainedTokenizerBase]:
    """Load an mT5 and its tokenizer: a directory that transformers wrote, or a name on the Hugging Face hub.

    Raises:
        CheckpointError: not there and not to be had, damaged, or no mT5.
    """
    source = find_pretrained(source)
    try:
        if Path(source).is_dir():
            refuse_remote_code(Path(source), CheckpointError)
        kind = AutoConfig.from_pretrained(source, trust_remote_code=False).model_type
        if kind != "mt5":
            raise CheckpointError(f"{source}: a {kind} model, where an mT5 is needed")
        model = MT5ForConditionalGeneration.from_pretrained(source)
        return model, load_tokenizer(source)
    except (OSError, RuntimeError, SafetensorError, ValueError) as error:
        reason = first_line(error)
        raise CheckpointError(f"{source}: no mT5 there, or it cannot be downloaded: {reason}") from error


def load_tokenizer(source: str | Path) -> PreTrainedTokenizerBase:
    """Load the tokenizer alone of what `load_mt5` reads.

    Raises:
        CheckpointError: not there and not to be had, or damaged.
    """
    source = find_pretrained(source)
    if Path(source).is_dir() and not (Path(source) / "spiece.model").is_file():
        raise CheckpointError(f"{source}: no mT5 tokenizer there (no spiece.model in it)")
    if Path(source).is_dir():
        refuse_remote_code(Path(source), CheckpointError)
    try:
        return T5Tokenizer.from_pretrained(source, legacy=False)
    except (OSError, RuntimeError, TypeError, ValueError) as error:
        reason = first_line(error)
        raise CheckpointError(f"{source}: no mT5 tokenizer there, or it cannot be downloaded: {reason}") from error


def find_pretrained(source: str | Path) -> str | Path:
    """Return where transformers finds a model: its directory, the hub's cache, or its name where the hub answers.

    Once asked, transformers would try again for minutes, file by file. ``SIGNET_OFFLINE=1`` asks nobody.

    Raises:
        CheckpointError: no such directory, it is not in the cache, and the hub has none or must not be asked.
    """
    if Path(source).is_dir():
        return source
    from huggingface_hub import HfApi, try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        cached = try_to_load_from_cache(str(source), "config.json")
        if isinstance(cached, str):
            return Path(cached).parent
        if os.environ.get("SIGNET_OFFLINE", "0").lower() not in ("", "0", "false", "no"):
            raise CheckpointError(
                f"{source}: no such directory, not in the Hugging Face cache, and SIGNET_OFFLINE forbids to ask: "
                "give its directory, or fetch it where there is a network"
            )
        HfApi().model_info(str(source), timeout=_PATIENCE)
    except HFValidationError:
        raise CheckpointError(f"{source}: no such directory, and no name of the Hugging Face hub") from None
    except (OSError, ValueError) as error:  # whatever a network brings, requests' errors are OSErrors
        reason = type(error).__name__ if "object at 0x" in str(error) else first_line(error)
        raise CheckpointError(
            f"{source}: no such directory, and the Hugging Face hub cannot be asked for it ({reason}): give its "
            "directory, or fetch it where there is a network"
        ) from error
    return source


def load_training_state(path: Path) -> dict[str, Any]:
    """Read the state that `save_checkpoint` was given.

    Raises:
        CheckpointError: the checkpoint carries none.
    """
    file = path / "training_state.pt"
    if not file.is_file():
        raise CheckpointError(f"{path}: carries no training state, so its run cannot be resumed")
    return torch.load(file, weights_only=True, map_location="cpu")
