from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from signet_train.data.datasets.splits import hash_split
from signet_train.data.manifest import Row
from signet_train.project.splits import with_splits


@pytest.mark.parametrize("percent", [1, 5, 10])
def test_shares(percent: int) -> None:
    counts = Counter(hash_split(f"video {i}", percent) for i in range(20_000))
    assert set(counts) == {"train", "dev", "test"}
    for split in ("dev", "test"):
        assert counts[split] / 20_000 == pytest.approx(percent / 100, rel=0.2)


def test_a_key_is_always_in_the_same_split() -> None:
    # a corpus that was split last year must not be split differently now
    stated = {"video0": "train", "video17": "test", "video175": "dev"}
    assert {key: hash_split(key) for key in stated} == stated


@pytest.mark.parametrize("folders", [[""], ["a", "b/c"]])
def test_recordings_that_are_moved_stay_in_their_splits(folders: list[str]) -> None:
    def divided(place: str) -> list[str]:
        paths = [Path(place, folders[i % len(folders)], f"{i}.mp4") for i in range(40)]
        fields = {"split": "train", "poses": "", "text": "a text", "language": "en", "sign_language": "ase"}
        rows = [Row(id=path.stem, video=str(path), **fields) for path in paths]
        return [row.split for row in with_splits(rows, given=False)[0]]

    assert divided("/home/one/videos") == divided("/srv/another/place/of/them")
    assert Counter(divided("videos")) == {"train": 32, "dev": 4, "test": 4}
