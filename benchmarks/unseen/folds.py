"""Signers are left out a few at a time, and a demo is trained on the others: the demo's recipe, step after step.

The signers of a fold have nothing of theirs in its training. Designs are chosen by the folds in `CHOOSING` alone; what
those in `REPORTED` get is reported.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
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


def train_fold(
    fold: str, out: Path, configs: Path, words: int, seed: int, views: int, redrawn: Path | None, changes: Sequence[str]
) -> Path:
    """Train the demo's recipe without a fold's signers; whatever of it is finished in ``out`` is not done again.

    Args:
        fold: of `FOLDS`.
        out: directory of the manifest, the runs and the bundle.
        configs: directory of baltic.toml, germanic.toml, romance.toml, align.toml and finetune.toml.
        words: that every alphabet trains on.
        seed: of the words and of all runs.
        views: of every word in the feature cache.
        redrawn: the second view of the clips, which `signet-train redraw` made.
        changes: settings in all stages in place of the configurations', as in `load_config`.

    Returns:
        The bundle's directory.
    """
    known = known_to(fold)
    manifest = out / "spelled.parquet"
    if not manifest.is_file():
        where = str(redrawn.resolve()) if redrawn else None
        write_manifest(manifest, list(spelling_rows(known, 6, words, where, seed)))

    def config(stage: str, **more: object) -> TrainConfig:
        loaded = load_config(configs / f"{stage}.toml", changes)
        chosen = [language for language in known if language in (loaded.data.sign_languages or known)]
        data = {"manifests": (manifest,), "sign_languages": tuple(chosen), "cache": more.pop("cache", None)}
        return loaded.model_copy(update={"data": loaded.data.model_copy(update=data), "seed": seed, **more})

    for name in _EXPERTS:
        _run(config(name), out / name)
    experts = tuple(out / name / "best" for name in _EXPERTS)
    features = out / "features"
    align = config("align", experts=experts, cache=features)
    if not (features / "cache.json").is_file() and not (out / "finetune" / "finished").is_file():
        cache_features(align, views, half=True, device=None)
    _run(align, out / "align")
    _run(config("finetune", experts=experts, cache=features, start_from=out / "align" / "best"), out / "finetune")
    shutil.rmtree(features, ignore_errors=True)  # a gigabyte that nothing reads any more
    bundle = out / "bundle"
    if not bundle.is_dir():
        export_bundle(load_checkpoint(out / "finetune" / "best"), bundle)
    return bundle


def _run(config: TrainConfig, out: Path) -> None:
    """Train, or go on where it was stopped."""
    if not (out / "finished").is_file():
        run_stage(config, out, resume=(out / "last" / "config.json").is_file())
        (out / "finished").touch()
