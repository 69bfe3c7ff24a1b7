"""How good a model's text is: every figure as the literature reports it, with what makes it comparable beside it."""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import jiwer
import langcodes
from rapidfuzz.distance import LCSseq

from signet_runtime.errors import InputError
from signet_train.evaluation.tokenizers import TOKENIZERS

# Scripts without spaces between words, and Korean, whose particles are written together with their words.
# sacrebleu's own Japanese and Korean tokenizers need MeCab's dictionaries: characters instead.
_TOKENIZER_OF_SCRIPT = {"Hans": "zh", "Hant": "zh", "Hani": "zh"} | dict.fromkeys(
    ("Jpan", "Kore", "Thai", "Laoo", "Khmr", "Mymr", "Tibt"), "char"
)
_BETA = 1.2
_PYPI = "rouge.rouge-l.f|version:"


def character_error_rate(references: Sequence[str], hypotheses: Sequence[str]) -> float:
    """Return the edits needed per reference character, over the whole set (not the mean of sentences)."""
    return float(jiwer.cer(list(references), list(hypotheses)))


def tokenizer_for(language: str) -> str:
    """Return what sacrebleu calls ``tokenize``, for a text language (BCP 47): ``zh``, ``char`` or ``13a``.

    Raises:
        InputError: not a language tag.
    """
    try:
        script = langcodes.Language.get(language).maximize().script
    except ValueError:
        raise InputError(f"{language!r}: not a BCP 47 language tag, as de, en or zh-Hant") from None
    return _TOKENIZER_OF_SCRIPT.get(script or "", "13a")


def ascii_punctuation(sentence: str) -> str:
    """Write full-width commas and question marks as ASCII ones, which is how mT5 writes them.

    For Chinese, references and hypotheses alike, before they are scored: as Uni-Sign and Geo-Sign do on CSL-Daily.
    """
    return sentence.translate({ord("，"): ",", ord("？"): "?"})


@dataclass(frozen=True, slots=True)
class Scores:
    """Corpus scores, all 0 to 100.

    Attributes:
        sentences: how many there were.
        tokenize: sacrebleu's tokenizer, for BLEU; ``zh`` and ``char`` also mean that ROUGE-L counts characters.
        bleu_1, bleu_2, bleu_3, bleu_4: sacrebleu's corpus BLEU up to that n-gram order.
        chrf: sacrebleu's chrF2.
        rouge_l_beta: LCS F-score with beta 1.2, the mean over sentences.
        rouge_l_pypi: F of the package `rouge`, the mean over sentences.
        bleu_signature, chrf_signature: sacrebleu's signatures.
        rouge_signature: what is to be said of both kinds of ROUGE-L beside how they count.
    """

    sentences: int
    tokenize: str
    bleu_1: float
    bleu_2: float
    bleu_3: float
    bleu_4: float
    chrf: float
    rouge_l_beta: float
    rouge_l_pypi: float
    bleu_signature: str
    chrf_signature: str
    rouge_signature: str = ""  # what is added to those of ROUGE-L

    def table(self) -> str:
        """Write a line a figure, with the tokens and signature that it was computed with."""
        tokens = "characters" if _by_character(self.tokenize) else "words"
        rows = [(f"BLEU-{n}", getattr(self, f"bleu_{n}"), self.bleu_signature) for n in range(1, 5)]
        rows += [
            ("chrF", self.chrf, self.chrf_signature),
            (
                "ROUGE-L beta",
                self.rouge_l_beta,
                f"tokens:{tokens}|lcs|beta:{_BETA}|mean of sentences{self.rouge_signature}",
            ),
            ("ROUGE-L PyPI", self.rouge_l_pypi, f"tokens:{tokens}|{_PYPI}{version('rouge')}{self.rouge_signature}"),
        ]
        lines = [f"{name:<12}  {score:6.2f}  {how}" for name, score, how in rows]
        return "\n".join([f"{'sentences':<12}  {self.sentences:6d}", *lines])


def translation_scores(references: Sequence[str], hypotheses: Sequence[str], tokenize: str) -> Scores:
    """Compute BLEU-1 to -4, chrF and both kinds of ROUGE-L; ``tokenize`` of `TOKENIZERS`, as `tokenizer_for` gives it.

    Raises:
        InputError: no sentences, unequal numbers of them, an empty reference, or another tokenizer.
    """
    from sacrebleu.metrics import CHRF

    check_pairs(references, hypotheses)
    metrics = [_bleu(n, tokenize) for n in range(1, 5)]
    bleu = [metric.corpus_score(hypotheses, [references]).score for metric in metrics]
    chrf = CHRF()
    return Scores(
        sentences=len(references),
        tokenize=tokenize,
        bleu_1=bleu[0],
        bleu_2=bleu[1],
        bleu_3=bleu[2],
        bleu_4=bleu[3],
        chrf=chrf.corpus_score(hypotheses, [references]).score,
        rouge_l_beta=_rouge_l_beta(references, hypotheses, tokenize),
        rouge_l_pypi=_rouge_l_pypi(references, hypotheses, tokenize),
        bleu_signature=str(metrics[3].get_signature()),
        chrf_signature=str(chrf.get_signature()),
    )


def corpus_bleu4(references: Sequence[str], hypotheses: Sequence[str], tokenize: str) -> float:
    """Compute BLEU-4 of `translation_scores` alone, for validation.

    Raises:
        InputError: as `translation_scores`.
    """
    check_pairs(references, hypotheses)
    return float(_bleu(4, tokenize).corpus_score(hypotheses, [references]).score)


def recognition_accuracy(references: Sequence[str], hypotheses: Sequence[str]) -> tuple[float, float]:
    """Compute top-1 accuracy, 0 to 100: per instance, and per class (the mean over the classes among the references).

    Case, and how much white space there is, make no difference.

    Raises:
        InputError: as `translation_scores`.
    """
    check_pairs(references, hypotheses)
    right: dict[str, list[bool]] = defaultdict(list)
    for reference, hypothesis in zip(map(_normal, references), map(_normal, hypotheses), strict=True):
        right[reference].append(reference == hypothesis)
    per_instance = sum(map(sum, right.values())) / len(references)
    per_class = sum(sum(hits) / len(hits) for hits in right.values()) / len(right)
    return 100 * per_instance, 100 * per_class


def top_accuracy(references: Sequence[str], candidates: Sequence[Sequence[str]], count: int) -> float:
    """Compute how often a reference is among the first ``count`` candidates, 0 to 100; as `recognition_accuracy`."""
    pairs = zip(references, candidates, strict=True)
    hits = [_normal(reference) in {_normal(text) for text in texts[:count]} for reference, texts in pairs]
    return 100 * sum(hits) / len(hits)


def _normal(label: str) -> str:
    return " ".join(label.split()).casefold()


def check_pairs(references: Sequence[str], hypotheses: Sequence[str]) -> None:
    """Check what every score asks for first.

    Raises:
        InputError: no sentences, unequal numbers of them, or a reference without a character.
    """
    if len(references) != len(hypotheses):
        raise InputError(f"{len(references)} references for {len(hypotheses)} hypotheses: nothing can be compared")
    if not references:
        raise InputError("no sentences to score: the split or the file is empty")
    empty = next((i for i, reference in enumerate(references, 1) if not reference.strip()), None)
    if empty is not None:
        raise InputError(f"the reference of sentence {empty} is empty: leave the sentence out")


def _bleu(order: int, tokenize: str) -> Any:
    from sacrebleu.metrics import BLEU

    if tokenize not in TOKENIZERS:
        raise InputError(f"{tokenize!r}: no tokenizer that can be used here; there are {', '.join(TOKENIZERS)}")
    # `force` only silences a warning about sentences that end in " .", as all of PHOENIX-2014T's do.
    return BLEU(max_ngram_order=order, tokenize=tokenize, force=True)


def _by_character(tokenize: str) -> bool:
    return tokenize in ("zh", "char")


def _tokens(sentence: str, tokenize: str) -> list[str]:
    """Return ROUGE-L's: what white space separates, or every character that is not white space."""
    words = sentence.split()
    return list("".join(words)) if _by_character(tokenize) else words


def _rouge_l_beta(references: Sequence[str], hypotheses: Sequence[str], tokenize: str) -> float:
    total = 0.0
    for reference, hypothesis in zip(references, hypotheses, strict=True):
        ours, theirs = _tokens(hypothesis, tokenize), _tokens(reference, tokenize)
        common = LCSseq.similarity(ours, theirs)
        if common:
            precision, recall = common / len(ours), common / len(theirs)
            total += (1 + _BETA**2) * precision * recall / (recall + _BETA**2 * precision)
    return 100 * total / len(references)


def _rouge_l_pypi(references: Sequence[str], hypotheses: Sequence[str], tokenize: str) -> float:
    from rouge import Rouge

    rouge, total = Rouge(metrics=["rouge-l"]), 0.0
    for reference, hypothesis in zip(references, hypotheses, strict=True):
        ours, theirs = (" ".join(_tokens(sentence, tokenize)) for sentence in (hypothesis, reference))
        # The package takes "." for the end of a sentence and raises where nothing else is left: such a pair counts 0.
        if ours.replace(".", "") and theirs.replace(".", ""):
            with _recursion(len(ours) + len(theirs)):
                total += rouge.get_scores(ours, theirs)[0]["rouge-l"]["f"]
    return 100 * total / len(references)


@contextmanager
def _recursion(depth: int) -> Iterator[None]:
    """Allow for how the package reads a common subsequence back by recursion, a level a token."""
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(limit + depth)
    try:
        yield
    finally:
        sys.setrecursionlimit(limit)
