"""Readers of the corpora people have: each module's ``read(root)`` makes manifest rows of one published layout."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib import import_module
from pathlib import Path

from signet_train.data.manifest import Row

# Name on the command line -> module, and what its `read` is given beside the root.
DATASETS: dict[str, tuple[str, dict[str, object]]] = {
    "phoenix14t": ("phoenix14t", {}),
    "csl-daily": ("csl_daily", {}),
    "how2sign": ("how2sign", {}),
    "meinedgs": ("meinedgs", {}),
    "wlasl100": ("wlasl", {"glosses": 100}),
    "wlasl2000": ("wlasl", {"glosses": 2000}),
    "csl-news": ("csl_news", {}),
    "youtube-asl": ("youtube_asl", {}),
    "youtube-sl-25": ("youtube_sl25", {}),
    "bsl-corpus": ("bsl_corpus", {}),
    "bobsl": ("bobsl", {}),
    "openasl": ("openasl", {}),
    "videos": ("videos", {}),
}

# Where the data set's name is not its corpus': parts of one, or nobody's.
_CORPORA: dict[str, str | None] = {"wlasl100": "wlasl", "wlasl2000": "wlasl", "videos": None}


def corpus_of(dataset: str) -> str | None:
    """The corpus that a data set in `DATASETS` is, or is part of: what `Row.corpus` of its rows is."""
    return _CORPORA.get(dataset, dataset)


def reader(name: str) -> Callable[[Path], list[Row]]:
    """The reader of a data set by its name in `DATASETS`: data set's directory -> rows.

    A reader raises `InputError` when the layout is not the published one: what is missing, where, what to do.
    """
    module, arguments = DATASETS[name]
    return partial(import_module(f"signet_train.data.datasets.{module}").read, **arguments)
