"""What the stages of a project are, and what their configurations say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from signet_runtime.errors import CheckpointError, InputError
from signet_runtime.pose.estimators import DEFAULT, ESTIMATORS
from signet_train.checkpoint import ExpertCard, load_checkpoint_config, load_expert_card
from signet_train.config import LanguageModelConfig
from signet_train.data.manifest import Row
from signet_train.data.poses import poses_exist
from signet_train.data.provenance import provenance, same_estimator
from signet_train.evaluation.metrics import tokenizer_for
from signet_train.pretrained import fetch_pretrained, find_pretrained
from signet_train.project.layout import Project, write_project, write_stage
from signet_train.project.sizing import Lengths, Machine, Sizes, measure, stage_sizes, this_machine
from signet_train.ranges import name_of

MT5_BASE = "google/mt5-base"
_ENOUGH_TO_JUDGE = 10  # samples: the best of many checkpoints on a few is the luckiest

Settings = dict[str, tuple[Any, str]]


@dataclass
class Planned:
    """A project that is to be written: its file, its stages' files by name, and what is to be told."""

    project: Project
    stages: dict[str, tuple[str, Settings, dict[str, Settings]]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def write(self, directory: Path) -> None:
        """Write all of it."""
        write_project(directory, self.project)
        for name, (heading, top, sections) in self.stages.items():
            write_stage(directory / f"{name}.toml", heading, top, sections)


def make_plan(
    rows: Sequence[Row],
    directory: Path,
    *,
    task: Literal["translate", "recognise"],
    experts: Sequence[Path],
    mt5: str,
    pose: str | None,
) -> Planned:
    """Decide which stages there are, by the paper's rule, and size them.

    Args:
        experts: frozen ones to build on; none: Stage I trains one for each sign language.
        mt5: "auto", "none", or where a pretrained mT5 is.

    Raises:
        InputError: recordings of which none can be read, or keypoints of another estimator than asked for.
        CheckpointError: experts that do not fit one another, or without a language model; no such mT5.
    """
    machine, lengths = this_machine(), measure(rows, directory)
    cards = [load_expert_card(path) for path in experts]
    notes: list[str] = []
    source = None if cards else _language_model(mt5, machine, notes)
    estimator = _estimator(rows, directory, cards, pose, notes)
    training = [row for row in rows if row.split == "train"]
    sign_languages = sorted({row.sign_language for row in training})
    names = [] if cards else [f"pretrain-{code}" for code in sign_languages]
    # Sec. 3.7: a language that an expert has seen goes straight to Stage III; of one's own experts each sees one.
    seen = any(set(sign_languages) <= set(card.sign_languages) for card in cards)
    align = not seen if cards else len(sign_languages) > 1
    judges = sum(row.split == "dev" for row in rows)
    kept: Literal["best", "last"] = "best" if judges >= _ENOUGH_TO_JUDGE else "last"
    if kept == "last":
        notes.append(f"{judges} samples in dev are too few to choose a checkpoint by: the last of each run is taken")
    project = Project(task=task, pose=estimator, pretrain=tuple(names), align=align, checkpoint=kept)
    planned = Planned(project, notes=notes)
    common = _Common(directory, rows, task, source, lengths, machine, estimator)
    for name, code in zip(names, sign_languages, strict=False):
        planned.stages[name] = common.expert(code, sum(row.sign_language == code for row in training))
    paths = [path.absolute() for path in experts] or [directory / "runs" / name / kept for name in names]
    given = _given_sizes(paths, cards) if cards else None
    if align:
        planned.stages["align"] = common.fused("align", paths, len(training), given, start=None if cards else paths[0])
    start = directory / "runs" / "align" / kept if align else None
    planned.stages["finetune"] = common.fused("finetune", paths, len(training), given, start=start)
    notes.append(_way(cards, names, align, sign_languages))
    if source is None and not cards:
        notes.append(
            "from nothing: a vocabulary of your texts' characters, and a small model that learns these texts; it will "
            "hardly write others. A pretrained language model (--mt5) or experts (--expert) take it further"
        )
    if len(training) < 1000 and task == "translate":
        notes.append(
            f"{len(training)} training samples are a try: translation takes thousands, recognition dozens a sign"
        )
    return planned


def _way(cards: Sequence[ExpertCard], names: Sequence[str], align: bool, sign_languages: Sequence[str]) -> str:
    first = f"Stage I trains {len(names)} expert{'s'[: len(names) > 1]}" if names else f"{len(cards)} experts are given"
    known = ", ".join(sign_languages)
    then = "Stage II aligns them with your texts" if align else f"no Stage II: an expert knows {known} (Sec. 3.7)"
    return f"{first}; {then}; Stage III tunes the translator"


def _language_model(mt5: str, machine: Machine, notes: list[str]) -> str | None:
    if mt5 == "none":
        return None
    if mt5 != "auto":
        found = find_pretrained(mt5)
        return str(Path(found).absolute()) if Path(found).is_dir() else str(found)
    from huggingface_hub import try_to_load_from_cache

    fetched = isinstance(try_to_load_from_cache(MT5_BASE, "config.json"), str)
    if fetched and machine.gpu is not None:
        return MT5_BASE
    if fetched:
        notes.append(f"{MT5_BASE} is there, and with no GPU it is slow: --mt5 {MT5_BASE} takes it nevertheless")
    else:
        notes.append(f"{MT5_BASE} is not on this machine: --mt5 {MT5_BASE} fetches it (2.3 GB), or give a directory")
    return None


def _estimator(
    rows: Sequence[Row], directory: Path, cards: Sequence[ExpertCard], pose: str | None, notes: list[str]
) -> str:
    """Return the pose estimator: of the keypoints that are there, what was asked for, the experts', or the default."""
    there = next((row for row in rows if poses_exist(row.poses, directory)), None)
    known = {card.pose_estimator for card in cards} - {None}
    if there is not None:
        found = provenance(there.poses, directory).estimator
        if pose is not None and not same_estimator(found, pose):
            raise InputError(f"--pose {pose}: there are keypoints already, of {found} ({there.poses})")
        notes.append(f"keypoints are there already, of {found}")
        return found
    if pose is None and len(known) == 1:
        name = str(known.pop())
        if name in ESTIMATORS:
            notes.append(f"the experts were trained on keypoints of {name}, so it finds yours")
            return name
    return pose or DEFAULT


def _given_sizes(paths: Sequence[Path], cards: Sequence[ExpertCard]) -> dict[str, Settings]:
    """Return the sizes that experts have; their language model's too.

    Raises:
        CheckpointError: their backbones differ, or none has a language model.
    """
    for path, card in zip(paths, cards, strict=True):
        if card.backbone != cards[0].backbone or card.normalisation != cards[0].normalisation:
            raise CheckpointError(f"{path}: another backbone or normalisation than {paths[0]}: they cannot be fused")
    complete = next((path for path in paths if (path / "language_model").is_dir()), None)
    if complete is None:
        raise CheckpointError(
            f"{', '.join(map(str, paths))}: no language model in any of them; add one that `signet-train import-model` "
            "or `pretrain` wrote"
        )
    model = load_checkpoint_config(complete).model
    return {
        "model.backbone": {key: (value, "") for key, value in cards[0].backbone.model_dump(mode="json").items()},
        "model.language_model": {
            key: (value, "") for key, value in model.language_model.model_dump(mode="json").items() if value is not None
        },
    }


def _mt5_size(mt5: str) -> dict[str, Settings]:
    """Return the sizes that a pretrained mT5 states, where they are others than mT5-base's."""
    from signet_train.language_model import read_config

    stated = read_config(fetch_pretrained(mt5))
    base = LanguageModelConfig()
    keys = ("vocab_size", "d_model", "d_kv", "d_ff", "num_layers", "num_heads")
    sizes: Settings = {key: (getattr(stated, key), "as it is") for key in keys if hasattr(stated, key)}
    sizes = {key: value for key, value in sizes.items() if value[0] != getattr(base, key)}
    return {"model.language_model": sizes, "model.backbone": {"embedding": (stated.d_model, "its width")}}


@dataclass(frozen=True)
class _Common:
    """What the configurations of a project share."""

    directory: Path
    rows: Sequence[Row]
    task: str
    mt5: str | None
    lengths: Lengths
    machine: Machine
    estimator: str

    def expert(self, code: str, samples: int) -> tuple[str, Settings, dict[str, Settings]]:
        """Return Stage I of one sign language: heading, settings, settings by section."""
        top: Settings = {"stage": ("pretrain", ""), **self._top()}
        sections = self._sections("pretrain", samples)
        if self.mt5 is not None:
            top["mt5"] = (self.mt5, "the language model to start from")
            sections = {**sections, **_mt5_size(self.mt5)}
        sections["data"] = {**self._data(), "sign_languages": ([code], "what this expert reads"), **sections["data"]}
        return f"Stage I: an expert for {code}.", top, sections

    def fused(
        self, stage: str, experts: Sequence[Path], samples: int, given: dict[str, Settings] | None, start: Path | None
    ) -> tuple[str, Settings, dict[str, Settings]]:
        """Return Stage II or III on experts."""
        top: Settings = {
            "stage": (stage, ""),
            "experts": ([str(path) for path in experts], "frozen"),
            **({} if start is None else {"start_from": (str(start), "its language model")}),
            **self._top(),
        }
        sections = self._sections(stage, samples)
        if self.mt5 is not None:
            sections |= _mt5_size(self.mt5)
        sections |= given or {}
        few = len(experts)
        sections["model.fusion"] = {"top_k": (min(2, few), f"of {few} experts" if few < 3 else "the paper's best")}
        if self.mt5 is None and given is None:
            sections["model.fusion"] |= {"query_hidden": (128, ""), "router_hidden": (128, "")}
        cache = (str(self.directory / "features"), "the experts' features, computed once")
        sections["data"] = {**self._data(), "cache": cache, **sections["data"]}
        what = "aligns the experts with your texts" if stage == "align" else "tunes the translator on frozen experts"
        return f"Stage {'II' if stage == 'align' else 'III'}: {what}.", top, sections

    def _top(self) -> Settings:
        top: Settings = {"task": (self.task, ""), "seed": (1, "")}
        tokenizers = {tokenizer_for(row.language) for row in self.rows if row.language}
        if self.task == "translate" and (self.mt5 is None or len(tokenizers) > 1):
            top["tokenize"] = ("char", "validation's BLEU counts characters, so that a beginner's progress can be seen")
        return top

    def _data(self) -> Settings:
        return {"manifests": ([str(self.directory / "manifest.parquet")], "")}

    def _sections(self, stage: str, samples: int) -> dict[str, Settings]:
        texts = [(row.gloss if self.task == "recognise" else row.text) or "" for row in self.rows]
        few = len({row.signer for row in self.rows if row.signer}) < 2
        sizes: Sizes = stage_sizes(stage, samples, self.lengths, max(map(len, texts)), self.machine, self.mt5, few)
        card: Settings = {
            "name": (name_of(self.directory), ""),
            "pose_estimator": (self.estimator, "whose keypoints these are"),
        }
        order = ("model.backbone", "model.language_model", "data", "optimisation")
        sections = {name: dict(sizes.settings[name]) for name in order if name in sizes.settings}
        return {**sections, "card": {**card, **sizes.of("card")}}
