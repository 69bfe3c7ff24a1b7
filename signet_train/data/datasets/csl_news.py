"""CSL-News: Chinese Sign Language in the corner of television news, with the speakers' words (Uni-Sign).

From https://huggingface.co/datasets/ZechengLi19/CSL-News (CC BY-NC 4.0)::

    CSL_News_Labels.json             or data/train/CSL_News_Labels.json, as in the repository
    rgb_format/{video}               the archives unpacked flat, as download_CSL_News.py does

The JSON is a list of ``{"video": "….mp4", "pose": "….pkl", "text": "…"}`` (read in the loader of
https://github.com/ZechengLi19/Uni-Sign, ``S2T_Dataset_news``).

No split is published: Uni-Sign tests on the list's last hundredth, whose broadcasts are also in training. Here
a day's broadcasts (the eight digits in a name), which share their news, stay together: by the day's CRC-32, one
hundredth of the days is dev, one test. Names without a date are split by name. Records without text are left out.
"""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

from signet_runtime.errors import InputError
from signet_train.data.datasets.annotations import clip_id, find_file, read_json
from signet_train.data.datasets.splits import hash_split
from signet_train.data.manifest import Row

_DAY = re.compile(r"(?<!\d)\d{8}(?!\d)")


def read(root: Path) -> list[Row]:
    """Make all rows, in the list's order.

    Raises:
        InputError: no JSON, or a record without video, pose and text.
    """
    root = root.absolute()
    path = find_file(
        root,
        ["CSL_News_Labels.json", "data/train/CSL_News_Labels.json"],
        "https://huggingface.co/datasets/ZechengLi19/CSL-News publishes it",
    )
    records = read_json(path)
    if not isinstance(records, list):
        raise InputError(f"{path}: not a list of records")
    rows = []
    for number, record in enumerate(records, 1):
        where = f"{path}: record {number}"
        try:
            name = clip_id(PurePosixPath(record["pose"]).stem, where)
            video = clip_id(record["video"], where)
            text = record["text"].strip()
        except (LookupError, TypeError, AttributeError, ValueError) as error:
            raise InputError(f"{where}: not a record with video, pose and text") from error
        if text:
            rows.append(
                Row(
                    id=name,
                    split=hash_split(_day(name)),
                    poses=f"poses/{name}.npz",
                    text=text,
                    language="zh",
                    sign_language="csl",
                    video=str(root / "rgb_format" / video),
                )
            )
    return rows


def _day(name: str) -> str:
    day = _DAY.search(name)
    return day[0] if day else name
