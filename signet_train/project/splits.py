"""Which of one's own recordings are trained on, and which tell how good that is."""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from signet_runtime.errors import InputError
from signet_train.data.manifest import Row

SPLITS = ("train", "dev", "test")
_SHARE = 0.1  # of the signers or recordings, for dev and for test


def with_splits(rows: Sequence[Row], given: bool) -> tuple[list[Row], str]:
    """Give every row a split, and say how.

    Args:
        given: whether the data say their splits: they are kept where none of the three is missing.

    Returns:
        the rows, and how they were divided, in words. Whole signers where at least three are known, else whole
        recordings, so that no sentence of a recording is trained on while another tells how good that is.

    Raises:
        InputError: fewer than three recordings.
    """
    there = {row.split for row in rows}
    if given and there >= set(SPLITS):
        return list(rows), "as the data say"
    signers = {row.signer for row in rows}
    by_signer = None not in signers and len(signers) >= len(SPLITS)
    names = _signers(rows) if by_signer else _recordings(rows)
    groups = sorted(set(names), key=lambda name: (zlib.crc32(name.encode()), name))
    if len(groups) < len(SPLITS):
        raise InputError(f"{len(groups)} recordings: train, dev and test need one each at least, and training far more")
    count = max(1, round(_SHARE * len(groups)))
    split = {name: "dev" if i < count else "test" if i < 2 * count else "train" for i, name in enumerate(groups)}
    how = "by signer: who is in dev and test is in no other split"
    if not by_signer:
        how = "by recording: fewer than three signers are known, so dev and test may have signers of train"
    if given:
        how += f" (the data had {', '.join(sorted(there))} alone)"
    return [replace(row, split=split[name]) for row, name in zip(rows, names, strict=True)], how


def _signers(rows: Sequence[Row]) -> list[str]:
    return [str(row.signer) for row in rows]


def _recordings(rows: Sequence[Row]) -> list[str]:
    """Name each row's recording by where it is below the folder of them all, which may be moved."""
    folders = [Path(row.video).parent.parts for row in rows if row.video]
    above = sum(1 for _ in itertools.takewhile(lambda parts: len(set(parts)) == 1, zip(*folders, strict=False)))
    return ["/".join(Path(row.video).parts[above:]) if row.video else row.id for row in rows]
