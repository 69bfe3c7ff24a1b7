"""Readers of the corpora people have: each module's ``read(root)`` makes manifest rows of one published layout."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from signet_train.data.manifest import Row


@dataclass(frozen=True, slots=True)
class Dataset:
    """A data set that can be read.

    Attributes:
        module: of this package, whose ``read`` reads it.
        corpus: that it is, or is part of: `Row.corpus` of its rows. None where it is nobody's: then ``read`` is also
            given ``language`` and ``sign_language``, as no publication says them.
        arguments: what ``read`` is given beside the root.
        unisign_labels: whether the root may also be Uni-Sign's folder of labels (see `unisign_labels`).
    """

    module: str
    corpus: str | None
    arguments: Mapping[str, object] = field(default_factory=dict)
    unisign_labels: bool = False


# By the name on the command line, in the order in which its help tells them.
DATASETS = {
    "phoenix14t": Dataset("phoenix14t", "phoenix14t"),
    "csl-daily": Dataset("csl_daily", "csl-daily", unisign_labels=True),
    "how2sign": Dataset("how2sign", "how2sign", unisign_labels=True),
    "openasl": Dataset("openasl", "openasl", unisign_labels=True),
    "meinedgs": Dataset("meinedgs", "meinedgs"),
    "wlasl100": Dataset("wlasl", "wlasl", {"glosses": 100}),
    "wlasl2000": Dataset("wlasl", "wlasl", {"glosses": 2000}, unisign_labels=True),
    "csl-news": Dataset("csl_news", "csl-news"),
    "youtube-asl": Dataset("youtube_asl", "youtube-asl"),
    "youtube-sl-25": Dataset("youtube_sl25", "youtube-sl-25"),
    "signverse": Dataset("signverse", "signverse-2m"),
    "bsl-corpus": Dataset("bsl_corpus", "bsl-corpus"),
    "bobsl": Dataset("bobsl", "bobsl"),
    "videos": Dataset("videos", None),
}


def reader(name: str) -> Callable[..., list[Row]]:
    """Return the reader of a data set by its name in `DATASETS`: data set's directory -> rows.

    A reader raises `InputError` when the layout is not the published one: what is missing, where, what to do.
    """
    dataset = DATASETS[name]
    read = import_module(f"signet_train.data.datasets.{dataset.module}").read
    what = f"{name} as it is published" if dataset.corpus else "a table or folder of recordings"

    def checked(root: Path, **more: object) -> list[Row]:
        from signet_runtime.boundary import reading
        from signet_runtime.errors import InputError
        from signet_train.data.manifest import check_rows

        with reading(root, InputError, what):
            rows: list[Row] = read(root, **dataset.arguments, **more)
            check_rows(rows, root)
            return rows

    return checked
