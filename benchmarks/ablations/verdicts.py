"""What a claim is, and how a difference and its doubt become a verdict on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from benchmarks.ablations.scores import Difference

Verdict = Literal[
    "supported", "not supported", "too close to call", "not identifiable here", "true by construction", "not run"
]

# Two variants within so many points of characters count as the same, where the paper says that they are.
SAME = 2.0


@dataclass(frozen=True)
class Claim:
    """A sentence of the paper's, what was compared, and what came out.

    Attributes:
        evidence: figures; differences are in points of the character error rate, with the middle 95% of a bootstrap.
        caveat: what the study cannot tell apart here.
    """

    text: str
    where: str
    evidence: str
    verdict: Verdict
    caveat: str = ""


def greater(found: Difference | None) -> Verdict:
    """Whether the first of the two makes more errors, as the paper expects."""
    if found is None:
        return "not run"
    return "supported" if found.low > 0 else "not supported" if found.high < 0 else "too close to call"


def same(found: Difference | None) -> Verdict:
    """Whether the two are as good as each other: within `SAME` points."""
    if found is None:
        return "not run"
    if found.low > -SAME and found.high < SAME:
        return "supported"
    return "not supported" if found.low > SAME or found.high < -SAME else "too close to call"


def weakest(verdicts: Sequence[Verdict]) -> Verdict:
    """Of a claim with several parts: supported if all are, not supported if one is not."""
    for verdict in ("not run", "not supported", "too close to call"):
        if verdict in verdicts:
            return verdict
    return "supported"
