"""WLASL: single signs of American Sign Language (ASL) from teaching videos on the web.

From https://github.com/dxli94/WLASL (C-UDA: academic and computational use)::

    WLASL_v0.3.json                  or start_kit/WLASL_v0.3.json
    videos/{video_id}.mp4            beside the JSON; or rgb_format/{train,val,test}/, as Uni-Sign keeps them

The JSON is a list of glosses by falling number of videos, ``{"gloss", "instances": [{"video_id", "split",
"signer_id", …}]}``; WLASL100 and WLASL2000 are the first 100 and all 2000. For WLASL100 that gives exactly the
clips, classes and splits (1442, 338, 258) of the repository's ``nslt_100.json``, for WLASL2000 those on which results
are reported (14289, 3916, 2878; ``nslt_2000.json`` has twelve clips more, which version 0.3 dropped).

``videos/`` is what the repository's ``preprocess.py`` makes, already cut at ``frame_start`` and ``frame_end``
(frames of the source video, from 1), so a row takes all of its clip.
"""

from __future__ import annotations

from pathlib import Path

from signet_runtime.errors import InputError
from signet_train.data.annotations import clip_id, find_file, read_json
from signet_train.data.manifest import Row

_SPLITS = {"train": "train", "val": "dev", "test": "test"}


def read(root: Path, glosses: int) -> list[Row]:
    """Rows of the first ``glosses`` signs, the gloss as both text and gloss.

    Raises:
        InputError: no JSON, fewer glosses in it, or a record that is not a gloss with its instances.
    """
    root = root.absolute()
    path = find_file(
        root, ["WLASL_v0.3.json", "start_kit/WLASL_v0.3.json"], "https://github.com/dxli94/WLASL publishes it"
    )
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
        except (KeyError, TypeError, AttributeError) as error:
            raise InputError(f"{where}: not a gloss with instances (video_id, split, signer_id)") from error
    return rows
