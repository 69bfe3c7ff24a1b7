from __future__ import annotations

from collections import Counter

import pytest

from signet_train.data.datasets.splits import hash_split


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
