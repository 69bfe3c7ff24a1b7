"""CSL-Daily: everyday sentences in Chinese Sign Language, recorded in a studio, with glosses.

From https://ustc-slr.github.io/datasets/2021_csl_daily/ (on request, for research)::

    sentence_label/csl2020ct_v2.pkl      {"info": [{"name", "signer", "label_gloss": […], "label_char": […], …}], …}
    sentence_label/split_1.txt           name|split
    sentence_label/video_map.txt         index|name|length|gloss|char|word|postag
    sentence/frames_512x512/{name}/000000.jpg …      30 frames a second

The corpus' own README describes these. The reader takes the pickle, through `read_pickle`; without it
``video_map.txt``, which has the same but the signer. ``split_1.txt`` lists ``S000005_P0004_T00`` in training, of which
nothing was published, and not ``S000007_P0003_T00``, which has annotations and frames; here, as in other
readers of the corpus, the one stands for the other. (That the pickle holds plain data only is inferred from its
uses in public code; the file itself is not public.)

Without ``sentence_label``, Uni-Sign's labels are read (see `unisign_labels`); of the two clips they
list ``S000005_P0004_T00``, which is left as it is. Clips as ``sentence-crop/{name}.mp4``, Uni-Sign's layout, are taken
instead of the frames when that directory is there, or when there are labels and no frames.

The text is the joined characters, as the corpus' README says to read it and as the papers score it; the gloss
is the glosses joined by spaces.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from signet_runtime.errors import InputError
from signet_train.data.datasets.annotations import clip_id, find_file, read_pickle, read_table
from signet_train.data.datasets.unisign_labels import SPLITS, dataset_directory, has_labels, read_labels
from signet_train.data.manifest import Row

_PUBLISHED = "it is part of CSL-Daily, https://ustc-slr.github.io/datasets/2021_csl_daily/"
_LISTED, _RECORDED = "S000005_P0004_T00", "S000007_P0003_T00"
_FRAMES, _CLIPS = "sentence/frames_512x512", "sentence-crop"
_FPS = 30.0


def read(root: Path) -> list[Row]:
    """Make the rows of the three published splits.

    Raises:
        InputError: neither the corpus' annotations nor Uni-Sign's labels are there; a broken line or record;
            or a clip that has a split and no annotation, or the other way round.
    """
    root = root.absolute()
    if not (root / "sentence_label").is_dir() and has_labels(root):
        return _labelled(root)
    path = find_file(root, ["sentence_label/csl2020ct_v2.pkl", "sentence_label/video_map.txt"], _PUBLISHED)
    listing = find_file(root, ["sentence_label/split_1.txt"], _PUBLISHED)
    splits = {}
    for where, line in read_table(listing, ("name", "split"), "|"):
        if line["split"] not in SPLITS:
            raise InputError(f"{where}: {line['split']!r} is not one of {', '.join(SPLITS)}")
        splits[line["name"]] = line["split"]
    records = _pickled(path) if path.suffix == ".pkl" else _mapped(path)
    annotations = {record[0]: record[1:] for record in records}
    if _RECORDED in annotations and _RECORDED not in splits and _LISTED not in annotations:
        splits = {_RECORDED if name == _LISTED else name: split for name, split in splits.items()}
    unmatched = splits.keys() ^ annotations.keys()
    if unmatched:
        raise InputError(f"{listing}: {min(unmatched)} is only there or only in {path.name}; are they of one release?")
    cropped = (root / _CLIPS).is_dir()
    return [_row(root, cropped, splits[name], name, *annotation) for name, annotation in annotations.items()]


def _pickled(path: Path) -> Iterator[tuple[str, str, str, str | None]]:
    """Yield name, text, gloss and signer of each record."""
    content = read_pickle(path)
    if not isinstance(content, dict) or not isinstance(content.get("info"), list):
        raise InputError(f"{path}: has no list 'info'")
    for number, record in enumerate(content["info"], 1):
        where = f"{path}: record {number} of 'info'"
        try:
            name = clip_id(record["name"], where)
            yield name, "".join(record["label_char"]), " ".join(record["label_gloss"]), str(record["signer"])
        except (LookupError, TypeError, AttributeError, ValueError) as error:
            raise InputError(f"{where}: not a record with name, label_char, label_gloss and signer") from error


def _mapped(path: Path) -> Iterator[tuple[str, str, str, str | None]]:
    for where, line in read_table(path, ("name", "gloss", "char"), "|"):
        yield clip_id(line["name"], where), "".join(line["char"].split()), line["gloss"].strip(), None


def _labelled(root: Path) -> list[Row]:
    directory = dataset_directory(root)
    cropped = (directory / _CLIPS).is_dir() or not (directory / _FRAMES).is_dir()
    return [
        _row(directory, cropped, split, label.clip, label.text, label.gloss or "", None)
        for split in SPLITS
        for label in read_labels(root, split)
    ]


def _row(root: Path, cropped: bool, split: str, name: str, text: str, gloss: str, signer: str | None) -> Row:
    return Row(
        id=name,
        split=split,
        poses=f"poses/{name}.npz",
        text=text,
        language="zh",
        sign_language="csl",
        video=str(root / (f"{_CLIPS}/{name}.mp4" if cropped else f"{_FRAMES}/{name}")),
        fps=None if cropped else _FPS,
        signer=signer,
        gloss=gloss or None,
    )
