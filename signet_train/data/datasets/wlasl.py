"""WLASL: single signs of American Sign Language (ASL) from teaching videos on the web.

From https://github.com/dxli94/WLASL (C-UDA: academic and computational use)::

    WLASL_v0.3.json                  or start_kit/WLASL_v0.3.json
    videos/{video_id}.mp4            beside the JSON; or rgb_format/{train,val,test}/, as Uni-Sign keeps them

The JSON is a list of glosses by falling number of videos, ``{"gloss", "instances": [{"video_id", "split",
"signer_id", …}]}``; WLASL100 and WLASL2000 are the first 100 and all 2000. For WLASL100 that gives exactly the
clips, classes and splits (1442, 338, 258) of the repository's ``nslt_100.json``, for WLASL2000 those on which results
are reported (14289, 3916, 2878; ``nslt_2000.json`` has twelve clips more, which version 0.3 dropped).

Without the JSON, Uni-Sign's labels make WLASL2000, of the same clips (see `unisign_labels`); who
signs they do not say. They cannot make WLASL100, whose signs are those with the most videos: of the 29 that have 18,
24 are among the hundred (``nslt_100.json``), and only the order in the JSON tells which.

``videos/`` is what the repository's ``preprocess.py`` makes, already cut at ``frame_start`` and ``frame_end``
(frames of the source video, from 1), so a row takes all of its clip.
"""

from __future__ import annotations

from pathlib import Path

from signet_runtime.errors import InputError
from signet_train.data.datasets.annotations import clip_id, find_file, read_json
from signet_train.data.datasets.unisign_labels import SPLITS, american_row, has_labels, read_labels, videos_directory
from signet_train.data.manifest import Row

_JSON = ("WLASL_v0.3.json", "start_kit/WLASL_v0.3.json")
_SPLITS = {"train": "train", "val": "dev", "test": "test"}
_LABELS, _LABELLED = "labels-2000", 2000


def read(root: Path, glosses: int) -> list[Row]:
    """Make the rows of the first ``glosses`` signs, the gloss as both text and gloss.

    Raises:
        InputError: no JSON, nor labels that make all of this; fewer glosses in it, or a record that is not a gloss
            with its instances.
    """
    root = root.absolute()
    published = "https://github.com/dxli94/WLASL publishes it"
    if has_labels(root, _LABELS) and not any((root / name).is_file() for name in _JSON):
        if glosses == _LABELLED:
            return [row for split in SPLITS for row in _labelled(root, split)]
        published += f"; {_LABELS}.* do not tell which {glosses} signs these are"
    path = find_file(root, _JSON, published)
    entries = read_json(path)
    if not isinstance(entries, list) or len(entries) < glosses:
        raise InputError(f"{path}: not a list of {glosses} or more glosses")
    rgb_format = root / "rgb_format"
    rows = []
    for number, entry in enumerate(entries[:glosses], 1):
        where = f"{path}: gloss {number}"
        try:
            gloss = entry["gloss"].strip()
            for instance in entry["instances"]:
                name = clip_id(instance["video_id"], where)
                split = instance["split"]
                video = rgb_format / split if rgb_format.is_dir() else path.parent / "videos"
                rows.append(
                    Row(
                        id=name,
                        split=_SPLITS[split],
                        poses=f"poses/{name}.npz",
                        text=gloss,
                        language="en",
                        sign_language="ase",
                        video=str(video / f"{name}.mp4"),
                        signer=str(instance["signer_id"]),
                        gloss=gloss,
                    )
                )
        except (LookupError, TypeError, AttributeError, ValueError) as error:
            raise InputError(f"{where}: not a gloss with instances (video_id, split, signer_id)") from error
    return rows


def _labelled(root: Path, split: str) -> list[Row]:
    videos = videos_directory(root, split)
    return [
        american_row(label, split, videos / f"{label.clip}.mp4", gloss=label.text)
        for label in read_labels(root, split, _LABELS)
    ]
