"""What a stage needs, resolved once from its configuration: its rows, and the checkpoints that it starts from."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from signet_runtime.errors import CheckpointError, ConfigError
from signet_runtime.models.catalogue import built_in
from signet_train.checkpoint import ExpertCard, load_cards, load_expert_card
from signet_train.config import TrainConfig
from signet_train.data.batches.dataset import LocatedRow, select_rows
from signet_train.data.manifest import read_manifests

_log = logging.getLogger(__name__)

_UNSEEN = "csl"  # the expert whose language model a language starts from that no expert has seen (C.1)


@dataclass(frozen=True, slots=True)
class StagePlan:
    """A configuration and the rows that it names.

    Attributes:
        config: what was resolved.
        training, validation: rows of the two splits, in the configured sign languages.
        corpus: the training split in every sign language; `training` is part of it.
    """

    config: TrainConfig
    training: list[LocatedRow]
    validation: list[LocatedRow]
    corpus: list[LocatedRow]

    @property
    def rows(self) -> dict[str, list[LocatedRow]]:
        """Training and validation rows by their split's name, in this order."""
        return {self.config.data.train: self.training, self.config.data.validation: self.validation}

    @property
    def sign_languages(self) -> set[str]:
        """The training rows' sign languages."""
        return {r.row.sign_language for r in self.training}

    @property
    def corpora(self) -> set[str]:
        """The published corpora that the training rows are from."""
        return {r.row.corpus for r in self.training if r.row.corpus is not None}


def plan_stage(config: TrainConfig) -> StagePlan:
    """Read the manifests of a run, and take from them what it needs.

    Raises:
        InputError: as `load_rows`, for either split.
    """
    data, manifests = config.data, read_manifests(config.data.manifests)
    return StagePlan(
        config,
        training=select_rows(manifests, data, data.train),
        validation=select_rows(manifests, data, data.validation),
        corpus=select_rows(manifests, data.model_copy(update={"sign_languages": ()}), data.train),
    )


@dataclass(frozen=True, slots=True)
class StartingPoint:
    """What the model of Stages II and III is put together from.

    Attributes:
        cards: of the experts in ``config.experts``, in their order.
        language_model: the checkpoint whose mT5 the stage starts from.
        fusion: the checkpoint whose fusion the stage goes on with; None: a fresh one.
    """

    cards: list[ExpertCard]
    language_model: Path
    fusion: Path | None


def find_start(plan: StagePlan) -> StartingPoint:
    """Find what Stages II and III start from: frozen experts, and a language model by the rule of Sec. 3.7.

    ``config.start_from`` overrides the rule: a checkpoint whose language model is taken, and whose fusion if it has
    one. Without it, a language that an expert has seen takes that expert's language model and needs no Stage II; one
    that none has seen takes, in Stage II, the Chinese expert's (C.1), or the first where there is none.

    Raises:
        ConfigError: no experts, or more of them are asked for; or the rule asks for another stage.
        CheckpointError: experts that do not fit the configuration or one another, or have seen the corpus.
    """
    config = plan.config
    if not config.experts or (config.model.fusion is None and (len(config.experts) > 1 or config.stage == "align")):
        raise ConfigError("experts: Stages II and III need some, and model.fusion unless Stage III tunes a single one")
    if config.model.fusion is not None and not 1 <= config.model.fusion.top_k <= len(config.experts):
        raise ConfigError(f"model.fusion.top_k: {config.model.fusion.top_k} of {len(config.experts)} experts")
    cards = fitting_experts(config)
    source = config.start_from or language_model_by_rule(config, cards, plan.sign_languages)
    refuse_leak([*cards, *load_cards(source)], plan.corpora, config.allow_leak)
    goes_on = config.start_from is not None and config.model.fusion is not None
    return StartingPoint(cards, source, source if goes_on and (source / "fusion.safetensors").is_file() else None)


def fitting_experts(config: TrainConfig) -> list[ExpertCard]:
    """Read the cards of a run's experts.

    Raises:
        CheckpointError: another backbone size than the model's, or data with another normalisation.
    """
    cards: list[ExpertCard] = []
    for path in config.experts:
        card = load_expert_card(path)
        if card.backbone != config.model.backbone:
            raise CheckpointError(f"{path}: another backbone than model.backbone states: {card.backbone}")
        if card.normalisation != config.data.normalisation:
            raise CheckpointError(
                f"{path}: its data had the normalisation {card.normalisation}, and data.normalisation states "
                f"{config.data.normalisation}: experts of one model share it, so set data.normalisation or take other "
                "experts"
            )
        cards.append(card)
    return cards


def refuse_leak(cards: Sequence[ExpertCard], downstream: set[str], allow: bool) -> None:
    """See that no expert was trained on the corpus that a stage is about to train on, as none of the paper's was.

    Nor on one that shares videos with it, as far as the catalogue of models knows.

    Args:
        allow: say it, and how much it is where that is known, and go on.

    Raises:
        CheckpointError: one was, and it is not allowed.
    """
    for card in cards:
        same = ", ".join(sorted(downstream & set(card.seen)))
        found = [f"{same}, the corpus of this run"] if same else []
        for overlap in built_in().overlap(card.seen, downstream):
            first, second = overlap.corpora
            found.append(
                f"{first if first in card.seen else second}, which shares videos with this run's corpus: {first} has "
                f"{overlap.share:.0%} of {second}'s {overlap.split} clips ({overlap.status}: {overlap.source})"
            )
        if not found:
            continue
        leak = f"the expert {card.name} was trained on {'; and on '.join(found)}"
        if not allow:
            raise CheckpointError(
                f"{leak}; the paper's experts were not: take another, or --allow-leak and say so beside the figures"
            )
        _log.warning("%s: allowed, so say so beside the figures", leak)


def language_model_by_rule(config: TrainConfig, cards: Sequence[ExpertCard], sign_languages: set[str]) -> Path:
    """Choose the expert's checkpoint whose language model to start from (Sec. 3.7, C.1).

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
