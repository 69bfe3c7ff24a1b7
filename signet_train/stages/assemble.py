"""The model a stage starts from: fresh, or put together from the checkpoints of earlier stages."""

from __future__ import annotations

import copy
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import torch
from transformers import MT5ForConditionalGeneration
from transformers.models.mt5.modeling_mt5 import MT5Stack

from signet_runtime.errors import CheckpointError, ConfigError
from signet_train.checkpoint import Checkpoint, ExpertCard, load_cards, load_checkpoint, load_expert, load_mt5
from signet_train.config import LanguageModelConfig, TrainConfig
from signet_train.data.batches.cache import digest
from signet_train.data.batches.dataset import LocatedRow, load_rows, target
from signet_train.model.signet import Signet
from signet_train.tokenizer import train_tokenizer

_log = logging.getLogger(__name__)

_UNSEEN = "csl"  # the expert whose language model a language starts from that no expert has seen (C.1)


def new_expert(config: TrainConfig, rows: Sequence[LocatedRow], name: str) -> Checkpoint:
    """Stage I's start: a fresh backbone, and ``config.mt5`` or a fresh mT5.

    A fresh one gets a vocabulary of the characters of the whole corpus, whatever sign languages the expert learns, so
    that experts of one corpus share it.

    Raises:
        ConfigError: fusion is configured, which a single expert has not.
        CheckpointError: the mT5 is not of the configured size.
    """
    if config.model.fusion is not None:
        raise ConfigError("model.fusion: Stage I trains a single expert; leave the fusion section out")
    torch.manual_seed(config.seed)
    model = Signet(config.model, 1)
    if config.mt5 is not None:
        language_model, tokenizer = load_mt5(config.mt5)
        put_language_model(model, language_model, config.mt5)
    else:
        everything = load_rows(config.data.model_copy(update={"sign_languages": ()}), config.data.train)
        texts = (target(r.row, config.task) for r in everything)
        tokenizer = train_tokenizer(texts, config.model.language_model.vocab_size)
    card = ExpertCard(
        name=name,
        sign_languages=tuple(sorted({r.row.sign_language for r in rows})),
        corpus=" + ".join(path.stem for path in config.data.manifests),
        seen=tuple(sorted(corpora(rows))),
        source="signet-train pretrain",
        normalisation=config.data.normalisation,
        backbone=config.model.backbone,
    )
    return Checkpoint(model, [card], tokenizer, config)


def fused_experts(config: TrainConfig, rows: Sequence[LocatedRow]) -> Checkpoint:
    """Stage II's and III's start: frozen experts, fusion, and a language model by the rule of Sec. 3.7.

    ``config.start_from`` overrides the rule: a checkpoint whose language model is taken, and whose fusion if it has
    one. Without it, a language that an expert has seen takes that expert's language model and needs no Stage II; one
    that none has seen takes, in Stage II, the Chinese expert's (C.1), or the first where there is none.

    Raises:
        ConfigError: no experts, or more of them are asked for; or the rule asks for another stage.
        CheckpointError: experts that do not fit the configuration or one another, or have seen the corpus.
    """
    if not config.experts or (config.model.fusion is None and (len(config.experts) > 1 or config.stage == "align")):
        raise ConfigError("experts: Stages II and III need some, and model.fusion unless Stage III tunes a single one")
    if config.model.fusion is not None and not 1 <= config.model.fusion.top_k <= len(config.experts):
        raise ConfigError(f"model.fusion.top_k: {config.model.fusion.top_k} of {len(config.experts)} experts")
    torch.manual_seed(config.seed)
    model = Signet(config.model, len(config.experts))
    cards = load_experts(model, config.experts, config.data.normalisation)
    source = config.start_from or language_model_by_rule(config, cards, {r.row.sign_language for r in rows})
    if not config.allow_leak:
        refuse_leak([*cards, *load_cards(source)], corpora(rows))
    language_model, tokenizer = load_mt5(source / "language_model")
    put_language_model(model, language_model, str(source))
    if config.start_from is not None and model.fusion is not None and (source / "fusion.safetensors").is_file():
        put_fusion(model, source)
    return Checkpoint(model, cards, tokenizer, config)


def load_experts(model: Signet, paths: Sequence[Path], normalisation: str) -> list[ExpertCard]:
    """Fill the model's experts from Stage I checkpoints, and give their cards.

    Args:
        normalisation: that the run prepares its data by.

    Raises:
        CheckpointError: another backbone size than the model's, or another normalisation.
    """
    cards: list[ExpertCard] = []
    for expert, path in zip(model.experts, paths, strict=True):
        card, weights = load_expert(path)
        if card.backbone != model.config.backbone:
            raise CheckpointError(f"{path}: another backbone than model.backbone states: {card.backbone}")
        if card.normalisation != normalisation:
            raise CheckpointError(
                f"{path}: its data had the normalisation {card.normalisation}, and data.normalisation states "
                f"{normalisation}: experts of one model share it, so set data.normalisation or take other experts"
            )
        expert.load_state_dict(weights)
        cards.append(card)
    return cards


def corpora(rows: Sequence[LocatedRow]) -> set[str]:
    """The published corpora that rows are from."""
    return {r.row.corpus for r in rows if r.row.corpus is not None}


def refuse_leak(cards: Sequence[ExpertCard], downstream: set[str]) -> None:
    """See that no expert was trained on the corpus that a stage is about to train on, as none of the paper's was.

    Raises:
        CheckpointError: one was.
    """
    for card in cards:
        leaked = downstream & set(card.seen)
        if leaked:
            raise CheckpointError(
                f"the expert {card.name} was trained on {', '.join(sorted(leaked))}, the corpus of this run, and the "
                "paper's experts were not: take another, or --allow-leak and say so beside the figures"
            )


def language_model_by_rule(config: TrainConfig, cards: Sequence[ExpertCard], sign_languages: set[str]) -> Path:
    """Sec. 3.7 and C.1: the expert's checkpoint whose language model to start from.

    An expert that came without one (`import-expert`) is passed over.

    Raises:
        ConfigError: Stage II for a language that was seen, or Stage III without it for one that was not.
        CheckpointError: none of the experts that come into question has a language model.
    """
    names = ", ".join(sorted(sign_languages))
    seen = [i for i, card in enumerate(cards) if sign_languages <= set(card.sign_languages)]
    if config.stage == "finetune":
        if not seen:
            raise ConfigError(
                f"no expert has seen {names}: run Stage II (`signet-train align`) and start_from its checkpoint, "
                "or from an expert's to go without (Sec. 3.7)"
            )
        chosen = _first_with_language_model(config.experts, seen)
        _log.info("%s was seen by %s: its language model, and no Stage II (Sec. 3.7)", names, cards[chosen].name)
        return config.experts[chosen]
    if seen:
        raise ConfigError(
            f"{names} was seen by expert {cards[seen[0]].name}: go on with Stage III (Sec. 3.7), or set start_from to "
            "align nevertheless"
        )
    others_last = sorted(range(len(cards)), key=lambda i: _UNSEEN not in cards[i].sign_languages)
    chosen = _first_with_language_model(config.experts, others_last)
    _log.info("no expert has seen %s: starting from the language model of %s (C.1)", names, cards[chosen].name)
    return config.experts[chosen]


def _first_with_language_model(experts: Sequence[Path], order: Sequence[int]) -> int:
    for i in order:
        if (experts[i] / "language_model").is_dir():
            return i
    names = ", ".join(str(experts[i]) for i in order)
    raise CheckpointError(
        f"{names}: no language model there; import it by `signet-train import-model`, or set start_from"
    )


def put_fusion(model: Signet, source: Path) -> None:
    """The fusion of a Stage II or III checkpoint, if it was trained on these experts.

    Raises:
        CheckpointError: it was trained on others, or is of another size.
    """
    other = load_checkpoint(source).model
    if digest(other.experts) != digest(model.experts):
        raise CheckpointError(
            f"{source}: its fusion was trained on other experts than these, or on another order of them"
        )
    assert other.fusion is not None and model.fusion is not None
    if other.config.fusion != model.config.fusion:
        raise CheckpointError(f"{source}: another fusion than model.fusion states: {other.config.fusion}")
    model.fusion.load_state_dict(other.fusion.state_dict())


def put_language_model(model: Signet, language_model: MT5ForConditionalGeneration, source: str) -> None:
    """An mT5's weights.

    Raises:
        CheckpointError: it is not of the configured size.
    """
    stated = model.config.language_model
    for name in LanguageModelConfig.model_fields:
        if name in ("dropout", "absolute_positions", "prompt"):
            continue
        if getattr(language_model.config, name) != getattr(stated, name):
            raise CheckpointError(
                f"{source}: its {name} is {getattr(language_model.config, name)}, and model.language_model states "
                f"{getattr(stated, name)}"
            )
    model.language_model.load_state_dict(language_model.state_dict())


def text_encoder(config: TrainConfig, checkpoint: Checkpoint) -> MT5Stack:
    """Stage II's frozen text encoder: of ``config.mt5``, or a copy of the language model's as it is at the start.

    Raises:
        CheckpointError: it is of another width, or it reads other tokens.
    """
    if config.mt5 is None:
        return copy.deepcopy(cast(MT5Stack, checkpoint.model.language_model.get_encoder()))
    model, tokenizer = load_mt5(config.mt5)
    if tokenizer.get_vocab() != checkpoint.tokenizer.get_vocab():
        raise CheckpointError(f"{config.mt5}: its vocabulary is not that of the language model that is aligned with it")
    if model.config.d_model != config.model.language_model.d_model:
        raise CheckpointError(
            f"{config.mt5}: its width is {model.config.d_model}, not {config.model.language_model.d_model}"
        )
    return cast(MT5Stack, model.get_encoder())
