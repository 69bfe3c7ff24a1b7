"""What a stage needs, resolved once from its configuration: its rows, and the checkpoints that it starts from."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from signet_runtime.errors import CheckpointError, ConfigError
from signet_runtime.models.catalogue import built_in
from signet_train.checkpoint import ExpertCard, load_cards, load_checkpoint_config, load_expert_card
from signet_train.config import LanguageModelConfig, TrainConfig
from signet_train.data.batches.dataset import LocatedRows, select_rows
from signet_train.data.manifest import Manifest, Rows, read_manifests
from signet_train.data.provenance import VARIANTS, Survey, same_estimator, same_language, same_rate, survey
from signet_train.tokenizer import characters_of, pieces_for

_log = logging.getLogger(__name__)

_UNSEEN = "csl"  # the expert whose language model a language starts from that no expert has seen (C.1)


@dataclass(frozen=True, slots=True)
class StagePlan:
    """A configuration and the rows that it names.

    Attributes:
        config: what was given, with what data and checkpoints say where it says nothing: language, pose estimator, and
            the size of a vocabulary that is not mT5's.
        training, validation: rows of the two splits, in the configured sign languages.
        corpus: the training split in every sign language; `training` is part of it.
        clock: the frames a second of what the model is trained on; None where recordings differ.
        characters: of all targets of the corpus, where Stage I learns a vocabulary of them.
    """

    config: TrainConfig
    training: LocatedRows
    validation: LocatedRows
    corpus: LocatedRows
    clock: float | None = None
    characters: Sequence[str] = ()

    @property
    def rows(self) -> dict[str, LocatedRows]:
        """Training and validation rows by their split's name, in this order."""
        return {self.config.data.train: self.training, self.config.data.validation: self.validation}

    @property
    def sign_languages(self) -> set[str]:
        """The training rows' sign languages."""
        return self.training.distinct("sign_language")

    @property
    def corpora(self) -> set[str]:
        """The published corpora that the training rows are from."""
        return self.training.distinct("corpus") - {None}


def plan_stage(config: TrainConfig) -> StagePlan:
    """Read the manifests of a run, take from them what it needs, and let them say what the configuration leaves out.

    Raises:
        InputError: as `load_rows`, for either split; or keypoints that cannot be read.
        ConfigError: the data are of several pose estimators, or of another one or another language than the
            configuration states, and ``allow_mix`` does not name that.
    """
    data, manifests = config.data, read_manifests(config.data.manifests)
    training, validation = (select_rows(manifests, data, split) for split in (data.train, data.validation))
    found = survey(training + validation)
    characters: Sequence[str] = ()
    if config.stage == "pretrain" and config.mt5 is None:
        characters = _characters(manifests, config.task)
    return StagePlan(
        _resolved(config, found, characters),
        training,
        validation,
        corpus=select_rows(manifests, data.model_copy(update={"sign_languages": ()}), data.train),
        clock=_clock(config, found),
        characters=characters,
    )


def _characters(manifests: Sequence[Manifest], task: str) -> list[str]:
    target = "gloss" if task == "recognise" else "text"
    return characters_of(character for m in manifests for character in Rows.of(m.rows).characters(target))


def _resolved(config: TrainConfig, found: Survey, characters: Sequence[str]) -> TrainConfig:
    estimators, stated = list(found.estimators), config.card.pose_estimator
    others = [name for name in estimators if not same_estimator(name, stated or estimators[0])]
    if others and "pose_estimator" not in config.allow_mix:
        what = f"card.pose_estimator is {stated}" if stated else f"keypoints are {estimators[0]}'s"
        raise ConfigError(
            f"{what}, and those of row {found.estimators[others[0]]!r} are {others[0]}'s: a model reads videos through "
            "the estimator it was trained on. Extract all by one, or say card.pose_estimator and "
            'allow_mix = ["pose_estimator"]'
        )
    if others and stated is None:
        raise ConfigError(f"card.pose_estimator: say which of {', '.join(estimators)} the model is to read videos by")
    language = config.card.language
    if language in (None, "und"):
        language = found.language
    elif language != "mul" and "language" not in config.allow_mix and config.task == "translate":
        foreign = [tag for tag in found.languages if not same_language(tag, str(language))]
        if foreign:
            raise ConfigError(
                f"card.language is {language}, and there is text in {', '.join(foreign)}: leave it out, or say "
                'allow_mix = ["language"]'
            )
    model = config.model
    pieces = -(-pieces_for(characters) // 8) * 8 if characters else _pieces_at_the_start(config)
    if pieces is not None and model.language_model.vocab_size == LanguageModelConfig().vocab_size:
        resized = model.language_model.model_copy(update={"vocab_size": pieces})
        model = model.model_copy(update={"language_model": resized})
    estimator = stated or estimators[0]
    if estimator in VARIANTS:
        _log.warning(
            "keypoints are of %s, and do not say of which size: the model will read videos through %s, unless "
            "card.pose_estimator says otherwise",
            estimator,
            VARIANTS[estimator],
        )
        estimator = VARIANTS[estimator]
    card = config.card.model_copy(update={"language": language, "pose_estimator": estimator})
    return config.model_copy(update={"card": card, "model": model})


def _pieces_at_the_start(config: TrainConfig) -> int | None:
    """Return the size of the vocabulary that Stages II and III begin with: of the first checkpoint that has one."""
    for path in (config.start_from, *config.experts):
        if path is not None and (path / "language_model").is_dir():
            return load_checkpoint_config(path).model.language_model.vocab_size
    return None


def _clock(config: TrainConfig, found: Survey) -> float | None:
    """Return the rate of what the model sees: its clock, or the recordings' own, which may be slower."""
    clock = config.data.frame_rate
    low, high = found.rates
    if clock is None and found.rate is None:
        _log.warning(
            "recordings have %.4g to %.4g frames a second, and data.frame_rate is not set: each is taken as it is",
            low,
            high,
        )
    if clock is not None and low < clock and not same_rate(low, clock):
        _log.warning(
            "data.frame_rate is %.4g, and some recordings have %.4g frames a second: these stay slower", clock, low
        )
    return clock or found.rate


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
        ConfigError: no experts, or no fusion of several; or the rule asks for another stage.
        CheckpointError: experts that do not fit the configuration or one another, or have seen the corpus.
    """
    config = plan.config
    if not config.experts or (config.model.fusion is None and (len(config.experts) > 1 or config.stage == "align")):
        raise ConfigError("experts: Stages II and III need some, and model.fusion unless Stage III tunes a single one")
    cards = fitting_experts(config, plan.clock)
    source = config.start_from or language_model_by_rule(config, cards, plan.sign_languages)
    refuse_leak([*cards, *load_cards(source)], plan.corpora, config.allow_leak)
    goes_on = config.start_from is not None and config.model.fusion is not None
    return StartingPoint(cards, source, source if goes_on and (source / "fusion.safetensors").is_file() else None)


def fitting_experts(config: TrainConfig, clock: float | None) -> list[ExpertCard]:
    """Read the cards of a run's experts; ``clock`` is that of its data.

    Raises:
        CheckpointError: another backbone size than the model's, or data with another normalisation; or, unless
            ``allow_mix`` names it, with another clock or by another pose estimator.
    """
    estimator = config.card.pose_estimator
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
        other = card.pose_estimator
        if other and estimator and not same_estimator(other, estimator) and "pose_estimator" not in config.allow_mix:
            raise CheckpointError(
                f"{path}: was trained on keypoints of {other}, and this run's are of {estimator}: extract them by "
                f'{other} (--pose {other}), take other experts, or say allow_mix = ["pose_estimator"]'
            )
        rate = card.frame_rate
        if rate and clock and not same_rate(rate, clock) and "frame_rate" not in config.allow_mix:
            raise CheckpointError(
                f"{path}: was trained at {rate:.4g} frames a second, and this run's data have {clock:.4g}: set "
                f'data.frame_rate = {rate:.4g}, take other experts, or say allow_mix = ["frame_rate"]'
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
