"""What the demo writes is what it wrote: the texts exactly, their probabilities and the routing within rounding."""

from __future__ import annotations

import json

import pytest

from benchmarks.goldens import EXAMPLES, GOLDEN, differences, outputs

# Ten times what other versions of the libraries were seen to change: benchmarks/results/goldens.md.
ALLOWED = {"texts": 0, "log_prob": 1e-3, "routing": 1e-4}


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_golden_outputs_of_the_demo(name: str) -> None:
    golden = json.loads((GOLDEN / "demo.json").read_text(encoding="utf-8"))[name]
    assert golden["text"] == name.partition("_")[2] and len(golden["others"]) >= 1
    found = differences(name, golden, outputs(name))
    assert all(found[what] <= most for what, most in ALLOWED.items()), found


def test_a_difference_is_seen() -> None:
    golden = json.loads((GOLDEN / "demo.json").read_text(encoding="utf-8"))[EXAMPLES[0]]
    other = {**golden, "text": "another", "log_prob": golden["log_prob"] + 0.5, "pieces": golden["pieces"]}
    assert differences(EXAMPLES[0], golden, other) == {"texts": 1, "log_prob": 0.5, "routing": 0}
