"""BOBSL: BBC programmes interpreted into British Sign Language (BSL), with the broadcast's English subtitles.

Given out by https://www.robots.ox.ac.uk/~vgg/data/bobsl/ after an agreement with the BBC (research only). Its archives
of version 1.4 unpack into ``bobsl/v1.4``; the root is that, or a directory above it::

    original_data/metadata/subset2episode.json                                          {"train": [episode, …], …}
    original_data/videos/mp4/{episode}.mp4
    manual_annotations/signing_aligned_subtitles/{episode}.vtt
    automatic_annotations/signing_aligned_subtitles/auto_sat_aligned/{episode}.vtt

and version 1.2 is::

    subset2episode.json
    videos/{episode}.mp4
    subtitles/manually-aligned/{episode}.vtt                       or {episode}/signhd.vtt, here and below
    subtitles/audio-aligned-heuristic-correction/{episode}.vtt

Subtitles follow the speech, and signing lags behind. Some episodes' were aligned to the signing by hand: dev and test
(``val``; ``test`` or ``public_test``) consist of those alone, as in the literature, and episodes of ``train`` use
them where there are any. The other training episodes take what the release offers: in version 1.4 the subtitles that
a model aligned (``auto_sat_aligned``), in version 1.2 the corrected ones, 2.7 s later, the mean lag. Training rows
last 1 to 20 s; sentences that are marked as not signed (``[NOT-SIGNED]`` and the like) are left out. The challenge's
episodes have no subtitles, and no rows.

The layouts were read in the README of version 1.2 and in code that works on version 1.4
(https://github.com/J22Melody/SEA); lag, lengths and marks in https://github.com/hannahbull/subtitle_align and
https://github.com/art-jang/LiTFiC. The id is ``{episode}-{start}-{end}`` in milliseconds. Who signs is not read.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from signet_runtime.errors import InputError
from signet_train.data.datasets.annotations import clip_id, read_json
from signet_train.data.datasets.captions import Cue, read_captions
from signet_train.data.manifest import Row

_SITE = "https://www.robots.ox.ac.uk/~vgg/data/bobsl/"
_SUBSETS = {"test": "test", "public_test": "test", "val": "dev", "train": "train"}  # an episode is its first one's
_UNANNOTATED = {"challenge", "challenge_test"}
_NOT_SIGNED = re.compile(r"\[[A-Z -]+\]")
_TRAINING_SECONDS = (1.0, 20.0)


@dataclass(frozen=True)
class _Layout:
    """Where a version has what, and how many seconds its automatic subtitles are ahead of the signing."""

    subsets: str
    videos: str
    manual: str
    automatic: str
    lag: float


_LAYOUTS = (
    _Layout(
        subsets="original_data/metadata/subset2episode.json",
        videos="original_data/videos/mp4",
        manual="manual_annotations/signing_aligned_subtitles",
        automatic="automatic_annotations/signing_aligned_subtitles/auto_sat_aligned",
        lag=0.0,
    ),
    _Layout(
        subsets="subset2episode.json",
        videos="videos",
        manual="subtitles/manually-aligned",
        automatic="subtitles/audio-aligned-heuristic-correction",
        lag=2.7,
    ),
)


def read(root: Path) -> list[Row]:
    """Make a row for each sentence that is aligned to the signing.

    Raises:
        InputError: no subsets or a directory of subtitles missing, or a damaged file.
    """
    root, layout = _find(root)
    for directory in (layout.manual, layout.automatic):
        if not (root / directory).is_dir():
            raise InputError(f"{root}: no {directory} there; BOBSL's subtitles are at {_SITE}")
    rows = []
    for episode, split in _episodes(root / layout.subsets).items():
        path, lag = _subtitles(root / layout.manual, episode), 0.0
        if path is None and split == "train":
            path, lag = _subtitles(root / layout.automatic, episode), layout.lag
        for cue in read_captions(path) if path else []:
            if _NOT_SIGNED.search(cue.text):
                continue
            if split == "train" and not _TRAINING_SECONDS[0] <= cue.end - cue.start <= _TRAINING_SECONDS[1]:
                continue
            rows.append(_row(root / layout.videos, episode, split, Cue(cue.start + lag, cue.end + lag, cue.text)))
    return rows


def _find(root: Path) -> tuple[Path, _Layout]:
    for below in ("", "v1.4", "bobsl/v1.4"):
        for layout in _LAYOUTS:
            if (root / below / layout.subsets).is_file():
                return root / below, layout
    names = " or ".join(layout.subsets for layout in _LAYOUTS)
    raise InputError(f"{root}: no {names} there; BOBSL's metadata is at {_SITE}")


def _episodes(path: Path) -> dict[str, str]:
    subsets = read_json(path)
    if not isinstance(subsets, dict) or not all(isinstance(episodes, list) for episodes in subsets.values()):
        raise InputError(f"{path}: not lists of episodes by subset")
    unknown = subsets.keys() - _SUBSETS.keys() - _UNANNOTATED
    if unknown:
        raise InputError(f"{path}: unknown subset {min(unknown)!r}; there should be {', '.join(_SUBSETS)}")
    splits: dict[str, str] = {}
    for subset, split in _SUBSETS.items():
        for episode in subsets.get(subset, []):
            splits.setdefault(clip_id(str(episode).removesuffix(".mp4"), f"{path}: {subset}"), split)
    return splits


def _subtitles(directory: Path, episode: str) -> Path | None:
    candidates = (directory / f"{episode}.vtt", directory / episode / "signhd.vtt")
    return next((path for path in candidates if path.is_file()), None)


def _row(videos: Path, episode: str, split: str, cue: Cue) -> Row:
    clip = f"{episode}-{1000 * cue.start:.0f}-{1000 * cue.end:.0f}"
    return Row(
        id=clip,
        split=split,
        poses=f"poses/{clip}.npz",
        text=cue.text,
        language="en",
        sign_language="bfi",
        video=str(videos / f"{episode}.mp4"),
        start=cue.start,
        end=cue.end,
    )
