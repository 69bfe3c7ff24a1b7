"""The label files that Uni-Sign publishes for the data sets of which it publishes keypoints.

In https://github.com/ZechengLi19/Uni-Sign, gzipped pickles ``{key: {"name", "gloss", "text", "video_path"}}``::

    data/CSL_Daily/labels.{train,dev,test}
    data/How2Sign/labels.{train,test}
    data/OpenASL/labels.{train,dev,test}
    data/WLASL/labels-2000.{train,dev,test}

``video_path`` is ``{clip}.mp4``, without folders, and the clip's keypoints are ``{clip}.pkl`` (its ``datasets.py``).
``gloss`` is CSL-Daily's list of signs, and "" elsewhere; key and ``name`` are the clip, for How2Sign and OpenASL with
``.mp4``. That was read in the files themselves; of OpenASL's, ``labels.train`` could not be seen.

Videos are below ``dataset/``, in folders named as those of ``data/`` (its ``docs/DATASET.md`` and ``config.py``).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from signet_runtime.errors import InputError
from signet_train.data.datasets.annotations import clip_id, find_file, read_pickle
from signet_train.data.manifest import Row

SPLITS = ("train", "dev", "test")
_VIDEO = ".mp4"


@dataclass(frozen=True, slots=True)
class Label:
    """What a label file says of a clip.

    Attributes:
        clip: the name of its video and its keypoints, less the suffix; safe as a file name.
        text: one line, not empty.
        gloss: the signs, with spaces between them; None where there are none.
    """

    clip: str
    text: str
    gloss: str | None


def has_labels(root: Path, name: str = "labels") -> bool:
    """Tell whether a label file of any split is in ``root``: ``{name}.train`` and so on."""
    return any((root / f"{name}.{split}").is_file() for split in SPLITS)


def read_labels(root: Path, split: str, name: str = "labels") -> list[Label]:
    """Read the labels in ``{name}.{split}``, in its order. Those without text are left out.

    Raises:
        InputError: there is no such file, it is not a pickle of plain data, or a label (named by its key) has not the
            text and the video's name that it should have.
    """
    path = find_file(root, [f"{name}.{split}"], "https://github.com/ZechengLi19/Uni-Sign publishes it, in data/")
    content = read_pickle(path)
    if not isinstance(content, dict):
        raise InputError(f"{path}: not labels by clip")
    labels = []
    for key, record in content.items():
        where = f"{path}: {key!r}"
        try:
            video, text, gloss = record["video_path"], " ".join(record["text"].split()), record.get("gloss", "")
            gloss = (gloss if isinstance(gloss, str) else " ".join(gloss)).strip() or None
            clip, suffix = video.removesuffix(_VIDEO), video[-len(_VIDEO) :]
            f"{text}{gloss}".encode()  # a pickle can hold text that no file can
        except (LookupError, TypeError, AttributeError, ValueError) as error:
            raise InputError(f"{where}: not a label with video_path, text and, perhaps, gloss") from error
        if suffix != _VIDEO:
            raise InputError(f"{where}: its video_path {video!r} is not the name of an {_VIDEO} file")
        if text:
            labels.append(Label(clip_id(clip, where), text, gloss))
    return labels


def american_row(label: Label, split: str, video: Path, **more: Any) -> Row:
    """Make the row of a label of How2Sign, OpenASL or WLASL, with what else is known of it."""
    return Row(
        id=label.clip,
        split=split,
        poses=f"poses/{label.clip}.npz",
        text=label.text,
        language="en",
        sign_language="ase",
        video=str(video),
        **more,
    )


def dataset_directory(root: Path) -> Path:
    """Return where the videos of the labels in ``root`` are: ``dataset/X`` for ``data/X`` if there, or ``root``."""
    beside = root.parent.parent / "dataset" / root.name
    return beside if root.parent.name == "data" and beside.is_dir() else root


def videos_directory(root: Path, split: str) -> Path:
    """Return where videos of one split are, in data sets that keep splits apart.

    The development split's folder is called ``val`` in ``docs/DATASET.md`` and ``dev`` in the code.
    """
    videos = dataset_directory(root) / "rgb_format"
    return videos / ("val" if split == "dev" and not (videos / "dev").is_dir() else split)
