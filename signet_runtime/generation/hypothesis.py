"""What a search found: a text, how likely it is, and what its tokens looked at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

# An output of a bundle's decoders, where they have it: how much each token looked at each position of the encoder's,
# the mean over the heads of the later half of the layers, float32 (R, tokens, S).
CROSS_ATTENTION = "cross_attention"


@dataclass(frozen=True)
class Hypothesis:
    """A text that the search found, and how likely the model finds it.

    Attributes:
        tokens: ids, without the start, end and padding tokens.
        log_probs: natural logarithm of each token's probability, given those before it.
        log_prob: the average over all that was written, with the end token.
        attention: float32 (tokens, P+T), what each token looked at, where that was asked for.
    """

    tokens: list[int]
    log_probs: list[float]
    log_prob: float
    attention: np.ndarray | None = None

    @classmethod
    def of(
        cls, tokens: list[int], log_probs: np.ndarray, attention: np.ndarray | None, marks: frozenset[int]
    ) -> Hypothesis:
        """Make one of all L tokens that were written; log_probs is float32 (L,), attention (L, P+T)."""
        kept = [i for i, token in enumerate(tokens) if token not in marks]
        return cls(
            [tokens[i] for i in kept],
            [float(log_probs[i]) for i in kept],
            float(log_probs.mean()),
            None if attention is None else attention[kept],
        )
