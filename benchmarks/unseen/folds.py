"""Signers are left out a few at a time, and a demo is trained on the others: the demo's recipe, step after step.

The signers of a fold have nothing of theirs in its training. Designs are chosen by the folds in `CHOOSING` alone; what
those in `REPORTED` get is reported.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from signet_export.bundle import export_bundle
from signet_train.checkpoint import load_checkpoint
from signet_train.config import TrainConfig, load_config
from signet_train.data.manifest import write_manifest
from signet_train.data.spelled.clips import SIGN_LANGUAGES
from signet_train.data.spelled.corpus import spelling_rows
from signet_train.stages.caching import cache_features
from signet_train.stages.run import run_stage

CHOOSING: Mapping[str, tuple[str, ...]] = MappingProxyType({"a": ("asq", "eso", "mfs"), "b": ("bzs", "svk")})
REPORTED: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"c": ("ase", "gsg", "lls"), "d": ("ise", "sgg", "swl"), "e": ("psr", "ssp")}
)
FOLDS: Mapping[str, tuple[str, ...]] = MappingProxyType({**CHOOSING, **REPORTED})

_EXPERTS = ("baltic", "germanic", "romance")


def known_to(fold: str) -> tuple[str, ...]:
    """Return the alphabets that a fold's demo is trained on."""
    return tuple(language for language in SIGN_LANGUAGES if language not in FOLDS[fold])


@dataclass(frozen=True)
class Recipe:
    """How a demo is trained.

    Attributes:
        configs: directory of baltic.toml, germanic.toml, romance.toml, align.toml and finetune.toml.
        words, max_letters, foreign, people, redrawn: of the corpus, as `spelling_rows` has them.
        views: of every word in the feature cache.
        single: one expert that learns all alphabets, and nothing after Stage I: enough to compare how words are made,
            in a fraction of the time.
        changes: settings in all stages in place of the configurations', as in `load_config`.
        seed: of the words and of all runs.
    """

    configs: Path
    words: int
    max_letters: int = 6
    foreign: float = 0.0
    people: bool = False
    redrawn: Path | None = None
    views: int = 2
    single: bool = False
    changes: Sequence[str] = ()
    seed: int = 1


def train_fold(fold: str, out: Path, recipe: Recipe) -> Path:
    """Train a recipe without a fold's signers, and return the bundle's directory.

    Whatever of it is finished in ``out`` (the manifest, the runs, the bundle) is not done again.
    """
    known = known_to(fold)
    manifest = out / "spelled.parquet"
    if not manifest.is_file():
        redrawn = str(recipe.redrawn.resolve()) if recipe.redrawn else None
        rows = spelling_rows(
            known,
            recipe.max_letters,
            recipe.words,
            redrawn,
            recipe.seed,
            foreign=recipe.foreign,
            people=recipe.people,
        )
        write_manifest(manifest, list(rows))

    def config(stage: str, languages: Sequence[str] = (), cache: Path | None = None, **more: object) -> TrainConfig:
        loaded = load_config(recipe.configs / f"{stage}.toml", recipe.changes)
        chosen = [name for name in known if name in (languages or loaded.data.sign_languages or known)]
        data = {"manifests": (manifest,), "sign_languages": tuple(chosen), "cache": cache}
        return loaded.model_copy(update={"data": loaded.data.model_copy(update=data), "seed": recipe.seed, **more})

    if recipe.single:
        _run(config(_EXPERTS[0], languages=known), out / "single")
        return _export(out / "single", out / "bundle")
    for name in _EXPERTS:
        _run(config(name), out / name)
    experts = tuple(out / name / "best" for name in _EXPERTS)
    features = out / "features"
    align = config("align", experts=experts, cache=features)
    if not (features / "cache.json").is_file() and not (out / "finetune" / "finished").is_file():
        cache_features(align, recipe.views, half=True, device=None)
    _run(align, out / "align")
    _run(config("finetune", experts=experts, cache=features, start_from=out / "align" / "best"), out / "finetune")
    shutil.rmtree(features, ignore_errors=True)  # a gigabyte that nothing reads any more
    return _export(out / "finetune", out / "bundle")


def _export(run: Path, bundle: Path) -> Path:
    if not bundle.is_dir():
        export_bundle(load_checkpoint(run / "best"), bundle)
    return bundle


def _run(config: TrainConfig, out: Path) -> None:
    """Train, or go on where it was stopped."""
    if not (out / "finished").is_file():
        run_stage(config, out, resume=(out / "last" / "config.json").is_file())
        (out / "finished").touch()
