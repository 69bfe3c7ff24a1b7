"""The small world that a transfer study is made in: experts, tasks, data, and how they are trained. Read from TOML."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from signet_train.config import DataConfig, File, ModelCard, ModelConfig, Name, OptimisationConfig, Seed, Tag
from signet_train.data.manifest import Row, read_manifests, write_manifest
from signet_train.ranges import Text, Whole
from signet_train.settings import faults, read_settings, validated

WORLDS = Path(__file__).parent / "worlds"


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Data(_Strict):
    """Manifests, as of any corpus (docs/training.md): what experts learn from, and what tasks do."""

    pretraining: tuple[File, ...]
    downstream: tuple[File, ...]


Words = Annotated[int, Whole(1, 1_000_000, "training words an alphabet")]
Letters = Annotated[int, Whole(2, 100, "the word lists have words of two letters and more")]


class Spelling(_Strict):
    """Words spelled in the demo's letter clips, instead of manifests: how many an alphabet, and how long."""

    pretraining: Words
    downstream: Words
    max_letters: Letters


class Optimisation(_Strict):
    """Each stage's, as in the configurations of `signet-train`."""

    pretrain: OptimisationConfig = OptimisationConfig()
    align: OptimisationConfig = OptimisationConfig()
    finetune: OptimisationConfig = OptimisationConfig()


class World(_Strict):
    """One study.

    Attributes:
        experts: name -> the sign languages that it is pretrained on.
        tasks: name -> the sign languages that it is about; a task is matched by the expert that has seen all of them.
        mixed: the tasks on which one model is trained together, to be tried on the unmatched ones (zero-shot).
        related: unmatched tasks -> the expert that should know them nevertheless, as by an alphabet that other signers
            showed it. There, language and signer come apart.
        shares: percent of the pretraining data that Fig. 5's experts see; 100 among them.
        asks: about the paper's own ablations, about what its authors' code does otherwise (docs/official.md), or both.
        views: noisy views of each training sample in the feature caches.
        model, data, card, mt5: as in the configurations of `signet-train`, for every run.
        note: for the head of the report: what the world is, and what it cannot tell.
    """

    seeds: Annotated[tuple[Seed, ...], Field(min_length=1)]
    experts: dict[Name, tuple[Tag, ...]]
    tasks: Annotated[dict[Name, tuple[Tag, ...]], Field(min_length=1)]
    mixed: tuple[Name, ...] = ()
    related: dict[Name, Name] = {}
    shares: tuple[Annotated[int, Whole(1, 100, "percent")], ...] = (25, 50, 75, 100)
    asks: tuple[Literal["paper", "authors"], ...] = ("paper", "authors")
    corpus: Data | Spelling
    tokenize: Literal["char", "zh", "13a", "intl"] = "char"
    views: Annotated[int, Whole(1, 10_000, "noisy views of a sample in a cache")] = 1
    model: dict[str, Any] = {}
    data: dict[str, Any] = {}
    card: dict[str, Any] = {}
    mt5: Annotated[str, Text(4096, "a path, or a name on the hub")] | None = None
    optimisation: Optimisation = Optimisation()
    note: Annotated[str, Text(10_000, "it stands at the head of a report", lines=True)] = ""

    @field_validator("model", "data", "card")
    @classmethod
    def _can_be(cls, value: dict[str, Any], info: Any) -> dict[str, Any]:
        kinds: dict[str, type[BaseModel]] = {"model": ModelConfig, "data": DataConfig, "card": ModelCard}
        kind = kinds[info.field_name]
        try:
            kind.model_validate({"manifests": (), **value} if kind is DataConfig else value)
        except ValidationError as error:
            raise ValueError(faults(error, kind)) from None
        return value

    @model_validator(mode="after")
    def _fits(self) -> World:
        if not 2 <= len(self.experts) <= 4:
            raise ValueError(f"{len(self.experts)} experts: a study of what they add to one another has 2 to 4")
        for name in (*self.experts, *self.tasks):
            if "/" in name or name in ("", ".", ".."):
                raise ValueError(f'experts, tasks: "{name}" has to be a name that a directory can have')
        if 100 not in self.shares:
            raise ValueError("shares: 100 must be among them, which all other rows use")
        if unknown := {*self.mixed, *self.related} - set(self.tasks):
            raise ValueError(f"mixed, related: {', '.join(sorted(unknown))} is no task")
        if unknown := set(self.related.values()) - set(self.experts):
            raise ValueError(f"related: {', '.join(sorted(unknown))} is no expert")
        if seen := [task for task in self.related if self.matched(task) is not None]:
            raise ValueError(f"related: an expert has seen {', '.join(seen)}")
        return self

    @property
    def spelled(self) -> bool:
        """Whether the texts are spelled, and little is said with body and face."""
        return isinstance(self.corpus, Spelling)

    def hurried(self) -> World:
        """Return the same with one epoch a stage: for a look at whether everything runs."""
        once = {"epochs": 1, "warmup_epochs": 0}
        stages = {name: getattr(self.optimisation, name).model_copy(update=once) for name in Optimisation.model_fields}
        return self.model_copy(update={"optimisation": Optimisation(**stages)})

    def matched(self, task: str) -> str | None:
        """Return the expert that has seen the task's sign languages."""
        wanted = set(self.tasks[task])
        return next((name for name, seen in self.experts.items() if wanted <= set(seen)), None)


def load_world(path: Path, changes: Mapping[str, Any] | None = None) -> World:
    """Read a world; ``changes`` replace settings of its first level.

    Raises:
        ConfigError: no such file, not TOML, or a setting that is unknown or does not fit.
    """
    return validated(World, {**read_settings(path), **(changes or {})}, path)


def manifests(world: World, directory: Path) -> Data:
    """Return the world's manifests; spelled ones are written into ``directory``, where they are not there yet."""
    if isinstance(world.corpus, Data):
        return world.corpus
    from signet_train.data.spelled.clips import WORD_LISTS
    from signet_train.data.spelled.corpus import spelling_rows

    # The vocabulary is made of the whole pretraining corpus, so all alphabets are in it.
    wanted = {
        "pretraining": (tuple(WORD_LISTS), world.corpus.pretraining),
        "downstream": (tuple(sorted({s for own in world.tasks.values() for s in own})), world.corpus.downstream),
    }
    for seed, (name, (sign_languages, count)) in enumerate(wanted.items()):
        file = directory / f"{name}.parquet"
        if not file.is_file():
            rows = spelling_rows(sign_languages, world.corpus.max_letters, count, None, seed, dev_words=50)
            write_manifest(file, rows)
    return Data(pretraining=(directory / "pretraining.parquet",), downstream=(directory / "downstream.parquet",))


def one_signer_each(paths: tuple[Path, ...]) -> bool:
    """Whether every sign language has one signer, by whom it might be told apart as well."""
    signers: dict[str, set[str | None]] = {}
    for manifest in read_manifests(paths):
        for row in manifest.rows:
            signers.setdefault(row.sign_language, set()).add(row.signer)
    return all(len(own) == 1 and None not in own for own in signers.values())


def subsample(paths: tuple[Path, ...], share: int, seed: int, out: Path) -> tuple[Path, ...]:
    """Manifests with ``share`` percent of each sign language's training rows, drawn at random, and the other splits."""
    if share == 100:
        return paths
    file = out / f"pretraining-{share}-{seed}.parquet"
    if not file.is_file():
        rng = np.random.default_rng([seed, share])
        rows = [_absolute(row, manifest.root) for manifest in read_manifests(paths) for row in manifest.rows]
        training: dict[str, list[int]] = {}
        for i, row in enumerate(rows):
            if row.split == "train":
                training.setdefault(row.sign_language, []).append(i)
        kept = {
            i for own in training.values() for i in rng.permutation(own)[: max(1, len(own) * share // 100)].tolist()
        }
        write_manifest(file, (row for i, row in enumerate(rows) if row.split != "train" or i in kept))
    return (file,)


def _absolute(row: Row, root: Path) -> Row:
    return row if "://" in row.poses else dataclasses.replace(row, poses=str(root / row.poses))
