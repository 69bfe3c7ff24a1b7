"""Scores as the code of the paper's authors prints them (github.com/elsobhano/SIGNET, ``source/gating.py``).

Texts are changed before they are scored, by corpus: Phoenix14T's get " ." at the end, which gives every sentence one
more token that is right; CSL-Daily's become characters with spaces between, and of the references alone commas and
question marks become ASCII. BLEU is sacrebleu's with the tokenizer 13a, for Chinese, too, and ROUGE-L is PyPI's over
what spaces separate.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from signet_train.evaluation.metrics import Scores, ascii_punctuation, check_pairs, translation_scores


def authors_scores(references: Sequence[str], hypotheses: Sequence[str], corpus: str | None) -> Scores:
    """Score as the authors do on a corpus; signatures say that, and of which corpus.

    Args:
        corpus: by `Row.corpus`; one that their code does nothing with, or None, leaves texts as they are.

    Raises:
        InputError: as `translation_scores`.
    """
    check_pairs(references, hypotheses)
    pairs = [_as_authors(r, h, corpus) for r, h in zip(references, hypotheses, strict=True)]
    scores = translation_scores([r for r, _ in pairs], [h for _, h in pairs], "13a")
    how = f"|scoring:authors({corpus or 'as written'})"
    return replace(
        scores,
        bleu_signature=scores.bleu_signature + how,
        chrf_signature=scores.chrf_signature + how,
        rouge_signature=how,
    )


def _as_authors(reference: str, hypothesis: str, corpus: str | None) -> tuple[str, str]:
    if corpus in ("csl-daily", "csl-news"):
        reference = ascii_punctuation(reference).replace(" ", "")
        hypothesis = hypothesis.replace(" ", "").replace("\n", "")
        return " ".join(reference), " ".join(hypothesis)
    reference, hypothesis = reference.replace("\n", ""), hypothesis.replace("\n", "")
    if corpus == "phoenix14t":
        return f"{reference} .", f"{hypothesis} ."
    return reference, hypothesis
