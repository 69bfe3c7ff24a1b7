"""CSL-Daily: everyday sentences in Chinese Sign Language, recorded in a studio, with glosses.

From https://ustc-slr.github.io/datasets/2021_csl_daily/ (on request, for research)::

    sentence_label/csl2020ct_v2.pkl      {"info": [{"name", "signer", "label_gloss": […], "label_char": […], …}], …}
    sentence_label/split_1.txt           name|split
    sentence_label/video_map.txt         index|name|length|gloss|char|word|postag
    sentence/frames_512x512/{name}/000000.jpg …      30 frames a second

The corpus' own README describes these. The reader takes the pickle, through `load_plain_pickle`; without it
``video_map.txt``, which has the same but the signer. ``split_1.txt`` lists ``S000005_P0004_T00`` in training, of which
nothing was published, and not ``S000007_P0003_T00``, which has annotations and frames; here, as in other
readers of the corpus, the one stands for the other. (That the pickle holds plain data only is inferred from its
uses in public code; the file itself is not public.)

Without ``sentence_label``, Uni-Sign's label files are read (https://github.com/ZechengLi19/Uni-Sign,
``data/CSL_Daily``): ``labels.{train,dev,test}``, gzipped pickles ``{name: {"name", "gloss": […], "text", …}}``.
Clips as ``sentence-crop/{name}.mp4``, its layout, are taken instead of the frames when that directory is there.

The text is the joined characters, as the corpus' README says to read it and as the papers score it; the gloss
is the glosses joined by spaces.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from signet_runtime.errors import InputError
from signet_train.data.annotations import clip_id, find_file, read_table
from signet_train.data.manifest import Row
from signet_train.data.safe_pickle import load_plain_pickle

_SPLITS = ("train", "dev", "test")
_PUBLISHED = "it is part of CSL-Daily, https://ustc-slr.github.io/datasets/2021_csl_daily/"
_LISTED, _RECORDED = "S000005_P0004_T00", "S000007_P0003_T00"
_FPS = 30.0


def read(root: Path) -> list[Row]:
    """Rows of the three published splits.

    Raises:
        InputError: neither the corpus' annotations nor Uni-Sign's labels are there; a broken line or record;
            or a clip that has a split and no annotation, or the other way round.
    """
    root = root.absolute()
    if not (root / "sentence_label").is_dir() and (root / "labels.train").is_file():
        return [row for split in _SPLITS for row in _labels(root, split)]
    path = find_file(root, ["sentence_label/csl2020ct_v2.pkl", "sentence_label/video_map.txt"], _PUBLISHED)
    listing = find_file(root, ["sentence_label/split_1.txt"], _PUBLISHED)
    splits = {}
    for where, line in read_table(listing, ("name", "split"), "|"):
        if line["split"] not in _SPLITS:
            raise InputError(f"{where}: {line['split']!r} is not one of {', '.join(_SPLITS)}")
        splits[line["name"]] = line["split"]
    records = _pickled(path) if path.suffix == ".pkl" else _mapped(path)
    annotations = {record[0]: record[1:] for record in records}
    if _RECORDED in annotations and _RECORDED not in splits and _LISTED not in annotations:
        splits = {_RECORDED if name == _LISTED else name: split for name, split in splits.items()}
    unmatched = splits.keys() ^ annotations.keys()
    if unmatched:
        raise InputError(f"{listing}: {min(unmatched)} is only there or only in {path.name}; are they of one release?")
    return [_row(root, splits[name], name, *annotation) for name, annotation in annotations.items()]


def _pickled(path: Path) -> Iterator[tuple[str, str, str, str | None]]:
    """Name, text, gloss and signer of each record."""
    content = load_plain_pickle(path)
    if not isinstance(content, dict) or not isinstance(content.get("info"), list):
        raise InputError(f"{path}: has no list 'info'")
    for number, record in enumerate(content["info"], 1):
        where = f"{path}: record {number} of 'info'"
        try:
            name = clip_id(record["name"], where)
            yield name, "".join(record["label_char"]), " ".join(record["label_gloss"]), str(record["signer"])
        except (KeyError, TypeError, AttributeError) as error:
            raise InputError(f"{where}: not a record with name, label_char, label_gloss and signer") from error


def _mapped(path: Path) -> Iterator[tuple[str, str, str, str | None]]:
    for where, line in read_table(path, ("name", "gloss", "char"), "|"):
        yield clip_id(line["name"], where), "".join(line["char"].split()), line["gloss"].strip(), None


def _labels(root: Path, split: str) -> Iterator[Row]:
    path = find_file(root, [f"labels.{split}"], "https://github.com/ZechengLi19/Uni-Sign publishes it")
    labels: Any = load_plain_pickle(path)
    if not isinstance(labels, dict):
        raise InputError(f"{path}: not labels by name")
    for key, label in labels.items():
        try:
            name = clip_id(label["name"], f"{path}: {key!r}")
            yield _row(root, split, name, label["text"].strip(), " ".join(label["gloss"]), None)
        except (KeyError, TypeError, AttributeError) as error:
            raise InputError(f"{path}: {key!r}: not a label with name, gloss and text") from error


def _row(root: Path, split: str, name: str, text: str, gloss: str, signer: str | None) -> Row:
    cropped = (root / "sentence-crop").is_dir()
    return Row(
        id=name,
        split=split,
        poses=f"poses/{name}.npz",
        text=text,
        language="zh",
        sign_language="csl",
        video=str(root / (f"sentence-crop/{name}.mp4" if cropped else f"sentence/frames_512x512/{name}")),
        fps=None if cropped else _FPS,
        signer=signer,
        gloss=gloss or None,
    )
