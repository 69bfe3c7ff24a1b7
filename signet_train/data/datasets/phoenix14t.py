"""RWTH-PHOENIX-Weather 2014 T: German weather forecasts in German Sign Language (DGS), with glosses.

The release (``phoenix-2014-T.v3.tar.gz``, https://www-i6.informatik.rwth-aachen.de/~koller/RWTH-PHOENIX-2014-T/),
unpacked, or the directory in it that has ``annotations``::

    PHOENIX-2014-T-release-v3/PHOENIX-2014-T/
        annotations/manual/PHOENIX-2014-T.{train,dev,test}.corpus.csv
        features/fullFrame-210x260px/{train,dev,test}/{name}/images0001.png …      25 frames a second

The CSV has ``|`` between the fields name, video, start, end, speaker, orth, translation and quotes nothing: as
read by sign-language-datasets (``rwth_phoenix2014_t``), whose test data is a line of the release.
Some repackaged copies keep a clip's frames in ``{name}/1/``, as the column ``video`` says.

Without the CSVs, the label files that GFSLT-VLP publishes (https://github.com/zhoubenjia/GFSLT-VLP) are read:
``labels.{train,dev,test}``, gzipped pickles ``{"dev/{name}": {"name", "gloss", "text", …}}``. They name no signer,
and their glosses are cleaned. The ``phoenix14t.pami0.*`` files hold tensors and are refused: they add features,
no annotation.

Text and glosses are taken as published.
"""

from __future__ import annotations

from pathlib import Path

from signet_runtime.errors import InputError
from signet_train.data.datasets.annotations import clip_id, find_file, read_pickle, read_table
from signet_train.data.manifest import Row

_SPLITS = ("train", "dev", "test")
_RELEASES = ("PHOENIX-2014-T-release-v3/PHOENIX-2014-T", "PHOENIX-2014-T", ".")
_FPS = 25.0


def read(root: Path) -> list[Row]:
    """Make the rows of the three published splits.

    Raises:
        InputError: no annotations where the release or the label files have them, or a broken line.
    """
    root = root.absolute()
    release = next((root / r for r in _RELEASES if (root / r / "annotations").is_dir()), root)
    if not (release / "annotations").is_dir() and (root / "labels.train").is_file():
        return [row for split in _SPLITS for row in _labels(root, split)]
    rows = []
    for split in _SPLITS:
        path = find_file(
            release,
            [f"annotations/manual/PHOENIX-2014-T.{split}.corpus.csv"],
            "it is part of the release, https://www-i6.informatik.rwth-aachen.de/~koller/RWTH-PHOENIX-2014-T/",
        )
        for where, line in read_table(path, ("name", "speaker", "orth", "translation"), "|"):
            name = clip_id(line["name"].strip(), where)
            rows.append(_row(release, split, name, line["translation"], line["orth"], line["speaker"]))
    return rows


def _labels(root: Path, split: str) -> list[Row]:
    path = find_file(root, [f"labels.{split}"], "https://github.com/zhoubenjia/GFSLT-VLP publishes it")
    labels = read_pickle(path)
    rows = []
    for key, label in labels.items() if isinstance(labels, dict) else [("labels", labels)]:
        try:
            name = clip_id(label["name"].removeprefix(f"{split}/"), f"{path}: {key!r}")
            rows.append(_row(root, split, name, label["text"], label["gloss"], None))
        except (LookupError, TypeError, AttributeError, ValueError) as error:
            raise InputError(f"{path}: {key!r}: not a label with name, gloss and text") from error
    return rows


def _row(release: Path, split: str, name: str, text: str, gloss: str, signer: str | None) -> Row:
    frames = release / "features" / "fullFrame-210x260px" / split / name
    return Row(
        id=name,
        split=split,
        poses=f"poses/{name}.npz",
        text=text.strip(),
        language="de",
        sign_language="gsg",
        video=str(frames / "1" if (frames / "1").is_dir() else frames),
        fps=_FPS,
        signer=signer,
        gloss=gloss.strip() or None,
    )
