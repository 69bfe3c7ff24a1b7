"""How good a model's text is."""

from __future__ import annotations

from collections.abc import Sequence

import jiwer


def character_error_rate(references: Sequence[str], hypotheses: Sequence[str]) -> float:
    """Edits needed per reference character, over the whole set (not the mean of sentences)."""
    return float(jiwer.cer(list(references), list(hypotheses)))
