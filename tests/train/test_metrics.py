"""Figures are those of the packages and formulas that the literature uses, on any text."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import pytest
import rouge
import sacrebleu
from hypothesis import given, settings
from hypothesis import strategies as st

from signet_runtime.errors import InputError
from signet_train.evaluation.metrics import (
    TOKENIZERS,
    Scores,
    ascii_punctuation,
    character_error_rate,
    corpus_bleu4,
    recognition_accuracy,
    tokenizer_for,
    translation_scores,
)

GERMAN = (
    [
        "am samstag scheint im süden noch die sonne und es bleibt trocken",
        "in der nacht sinken die temperaturen auf acht bis drei grad .",
        "Und nun die Wettervorhersage für morgen, Freitag, den 12. Juni.",
    ],
    [
        "am samstag ist es im süden freundlich und es bleibt trocken",
        "in der nacht kühlt es ab auf acht bis zwei grad .",
        "Und nun die Wettervorhersage für morgen Mittwoch, den 12. Juni.",
    ],
)
ENGLISH = (
    ["I'm going to show you how to do a front lunge.", "So, what do you need? Water, flour and 3.5 eggs.", "Thanks!"],
    ["I'm going to show you how to do the lunge.", "So what do we need? Flour, water and two eggs.", "Thank you!"],
)
CHINESE = (
    ["今天天气很好，我们去公园散步吧。", "他的工作是老师。", "请问去 3 号车站怎么走？"],
    ["今天的天气好，我们一起去公园。", "他工作是一名老师。", "请问 5 号车站在哪里？"],
)
SAMPLES = [(*GERMAN, "13a"), (*ENGLISH, "13a"), (*CHINESE, "zh"), (*CHINESE, "char")]

words = st.lists(
    st.sampled_from(["der", "die", "das", "regen", "schnee", "nord", "süd", "12", ",", "."]), min_size=1, max_size=9
)
characters = st.lists(st.sampled_from("天气很好我们去公园，。3a"), min_size=1, max_size=9)


def corpora(tokens: st.SearchStrategy[list[str]], separator: str) -> st.SearchStrategy[list[tuple[str, str]]]:
    sentence = tokens.map(separator.join)
    return st.lists(st.tuples(sentence, st.one_of(sentence, st.just(""))), min_size=1, max_size=5)


def expected_bleu(references: list[str], hypotheses: list[str], tokenize: str) -> list[float]:
    """BLEU-1 to BLEU-4 from sacrebleu's n-gram precisions and brevity penalty."""
    whole = sacrebleu.corpus_bleu(hypotheses, [references], tokenize=tokenize, force=True)
    assert math.isclose(whole.score, _mean_precision(whole, 4), abs_tol=1e-9)
    return [_mean_precision(whole, n) for n in range(1, 5)]


def _mean_precision(bleu: sacrebleu.BLEUScore, order: int) -> float:
    precisions = bleu.precisions[:order]
    return bleu.bp * float(np.prod(precisions)) ** (1 / order) if all(precisions) else 0.0


def tokens_of(sentence: str, tokenize: str) -> tuple[str, ...]:
    return tuple(sentence.split()) if tokenize == "13a" else tuple(c for c in sentence if not c.isspace())


def lcs(a: tuple[str, ...], b: tuple[str, ...]) -> int:
    """Longest common subsequence by its recursive definition."""

    @cache
    def longest(i: int, j: int) -> int:
        if i == len(a) or j == len(b):
            return 0
        if a[i] == b[j]:
            return 1 + longest(i + 1, j + 1)
        return max(longest(i + 1, j), longest(i, j + 1))

    return longest(0, 0)


def lcs_by_table(a: tuple[str, ...], b: tuple[str, ...]) -> int:
    """The same by rows of a table, each a running maximum."""
    row = np.zeros(len(b) + 1, int)
    for token in a:
        step = np.array([other == token for other in b], int)
        row = np.maximum.accumulate(np.concatenate([[0], np.maximum(row[1:], row[:-1] + step)]))
    return int(row[-1])


def expected_rouge_beta(references: list[str], hypotheses: list[str], tokenize: str) -> float:
    """(1 + b²) L / (|hypothesis| + b² |reference|): the F-score with precision and recall written out."""
    total = 0.0
    for reference, hypothesis in zip(references, hypotheses, strict=True):
        theirs, ours = tokens_of(reference, tokenize), tokens_of(hypothesis, tokenize)
        assert lcs(ours, theirs) == lcs_by_table(ours, theirs)
        total += 2.44 * lcs(ours, theirs) / (len(ours) + 1.44 * len(theirs))
    return 100 * total / len(references)


def expected_rouge_pypi(references: list[str], hypotheses: list[str], tokenize: str) -> float:
    """The package's own average; sentences that it refuses count 0."""
    pairs = [
        (" ".join(tokens_of(h, tokenize)), " ".join(tokens_of(r, tokenize)))
        for r, h in zip(references, hypotheses, strict=True)
    ]
    kept = [pair for pair in pairs if all(set(text) - {"."} for text in pair)]
    if not kept:
        return 0.0
    ours, theirs = (list(side) for side in zip(*kept, strict=True))
    return 100 * rouge.Rouge().get_scores(ours, theirs, avg=True)["rouge-l"]["f"] * len(kept) / len(pairs)


def check(references: list[str], hypotheses: list[str], tokenize: str) -> None:
    scores = translation_scores(references, hypotheses, tokenize)
    ours = [scores.bleu_1, scores.bleu_2, scores.bleu_3, scores.bleu_4]
    assert ours == pytest.approx(expected_bleu(references, hypotheses, tokenize), abs=1e-9)
    assert scores.chrf == pytest.approx(sacrebleu.corpus_chrf(hypotheses, [references]).score, abs=1e-9)
    assert scores.rouge_l_beta == pytest.approx(expected_rouge_beta(references, hypotheses, tokenize), abs=1e-9)
    assert scores.rouge_l_pypi == pytest.approx(expected_rouge_pypi(references, hypotheses, tokenize), abs=1e-9)
    assert corpus_bleu4(references, hypotheses, tokenize) == scores.bleu_4
    assert scores.sentences == len(references)


@pytest.mark.parametrize(("references", "hypotheses", "tokenize"), SAMPLES)
def test_real_looking_sentences(references: list[str], hypotheses: list[str], tokenize: str) -> None:
    check(references, hypotheses, tokenize)
    scores = translation_scores(references, hypotheses, tokenize)
    assert 100 > scores.bleu_1 > scores.bleu_2 > scores.bleu_3 > scores.bleu_4 > 0


@settings(max_examples=40, deadline=None)
@given(corpora(words, " "))
def test_any_words(pairs: list[tuple[str, str]]) -> None:
    check([reference for reference, _ in pairs], [hypothesis for _, hypothesis in pairs], "13a")


@settings(max_examples=40, deadline=None)
@given(corpora(characters, ""), st.sampled_from(["zh", "char"]))
def test_any_characters(pairs: list[tuple[str, str]], tokenize: str) -> None:
    check([reference for reference, _ in pairs], [hypothesis for _, hypothesis in pairs], tokenize)


def test_spaces_between_chinese_characters_change_neither_bleu_nor_rouge() -> None:
    references, hypotheses = CHINESE
    spaced = [" ".join(sentence) for sentence in hypotheses]
    one, two = (translation_scores(references, h, "zh") for h in (hypotheses, spaced))
    assert (one.bleu_4, one.rouge_l_beta, one.rouge_l_pypi) == (two.bleu_4, two.rouge_l_beta, two.rouge_l_pypi)


def test_ascii_punctuation_finds_what_only_differs_in_width() -> None:
    assert ascii_punctuation("请问，3 号？对。") == "请问,3 号?对。"
    wide = "今天天气很好，去吗？"
    narrow = wide.replace("，", ",").replace("？", "?")
    assert corpus_bleu4([wide], [narrow], "zh") < 80
    assert corpus_bleu4([ascii_punctuation(wide)], [ascii_punctuation(narrow)], "zh") == pytest.approx(100.0)


@pytest.mark.parametrize(("references", "tokenize"), [(GERMAN[0], "13a"), (ENGLISH[0], "13a"), (CHINESE[0], "zh")])
def test_identical_sentences_score_100(references: list[str], tokenize: str) -> None:
    scores = translation_scores(references, references, tokenize)
    figures = [scores.bleu_1, scores.bleu_2, scores.bleu_3, scores.bleu_4, scores.chrf, scores.rouge_l_beta]
    assert figures == pytest.approx([100.0] * 6)
    assert scores.rouge_l_pypi == pytest.approx(100.0, abs=1e-5)  # the package adds 1e-8 to a denominator


@pytest.mark.parametrize("hypotheses", [["", ""], ["xxx qqq vvv zzz", "xxx qqq vvv zzz"]])
def test_nothing_in_common_scores_0(hypotheses: list[str]) -> None:
    scores = translation_scores(["am tag regnet es", "im norden schneit es"], hypotheses, "13a")
    figures = [scores.bleu_1, scores.bleu_2, scores.bleu_3, scores.bleu_4, scores.chrf, scores.rouge_l_beta]
    assert [*figures, scores.rouge_l_pypi] == [0.0] * 7


def test_an_empty_hypothesis_stays_in_the_mean() -> None:
    references, hypotheses = ["es regnet", "es schneit"], ["es regnet", "."]
    scores = translation_scores(references, hypotheses, "13a")
    assert scores.rouge_l_beta == pytest.approx(50.0)
    assert scores.rouge_l_pypi == pytest.approx(50.0, abs=1e-5)


def test_a_hypothesis_that_never_ends_is_scored() -> None:
    import sys

    limit = sys.getrecursionlimit()
    endless = " ".join(["regen", "und"] * 400)
    scores = translation_scores(["es regnet und schneit"], [endless], "13a")
    assert 0 < scores.rouge_l_pypi < 50
    assert scores.rouge_l_beta == pytest.approx(100 * 2.44 / (800 + 1.44 * 4))
    assert sys.getrecursionlimit() == limit


@pytest.mark.parametrize(
    ("language", "tokenize"),
    [
        *[(language, "13a") for language in ("de", "en-US", "ar", "uk", "zh-Latn", "und")],
        *[(language, "zh") for language in ("zh", "zh-CN", "zh-Hant-TW", "yue", "ZH")],
        *[(language, "char") for language in ("ja", "ko", "th", "km")],
    ],
)
def test_tokenizer_of_a_language(language: str, tokenize: str) -> None:
    assert tokenizer_for(language) == tokenize


def test_what_is_no_language_is_refused() -> None:
    with pytest.raises(InputError, match="BCP 47"):
        tokenizer_for("german, mostly")


@pytest.mark.parametrize("tokenize", TOKENIZERS)
def test_every_tokenizer_is_there_offline(tokenize: str) -> None:
    assert corpus_bleu4(*GERMAN, tokenize) == sacrebleu.corpus_bleu(GERMAN[1], [GERMAN[0]], tokenize=tokenize).score


@pytest.mark.parametrize("tokenize", ["flores200", "ja-mecab", "words"])
def test_a_tokenizer_that_would_have_to_be_fetched_is_refused(tokenize: str) -> None:
    with pytest.raises(InputError, match="there are 13a"):
        translation_scores(*GERMAN, tokenize)


def test_the_table_states_tokenizer_and_signature() -> None:
    scores = translation_scores(*CHINESE, "zh")
    bleu = sacrebleu.BLEU(tokenize="zh")
    bleu.corpus_score(CHINESE[1], [CHINESE[0]])
    assert scores.bleu_signature == str(bleu.get_signature())
    assert "tok:zh" in scores.bleu_signature
    lines = scores.table().splitlines()
    assert len(lines) == 8
    assert lines[0].split() == ["sentences", "3"]
    for n in range(1, 5):
        assert lines[n].split() == [f"BLEU-{n}", f"{getattr(scores, f'bleu_{n}'):.2f}", scores.bleu_signature]
    assert lines[5].endswith(scores.chrf_signature)
    assert "characters" in lines[6]
    assert "beta:1.2" in lines[6]
    assert "characters" in lines[7]
    assert "1.0.1" in lines[7]
    assert "words" in translation_scores(*GERMAN, "13a").table()
    assert isinstance(scores, Scores)


@pytest.mark.parametrize(
    ("references", "hypotheses", "message"),
    [([], [], "empty"), (["a"], ["a", "b"], "1 references for 2"), (["a", " "], ["a", "b"], "sentence 2")],
)
def test_what_cannot_be_compared_is_refused(references: list[str], hypotheses: list[str], message: str) -> None:
    for score in (
        lambda: translation_scores(references, hypotheses, "13a"),
        lambda: corpus_bleu4(references, hypotheses, "13a"),
        lambda: recognition_accuracy(references, hypotheses),
    ):
        with pytest.raises(InputError, match=message):
            score()


def test_character_error_rate_is_over_the_whole_set() -> None:
    assert character_error_rate(["abcd", "ef"], ["abcx", "ef"]) == pytest.approx(1 / 6)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 6)), min_size=1, max_size=40))
def test_recognition_accuracy_equals_numpy(pairs: list[tuple[int, int]]) -> None:
    names = ["book", "drink", "computer", "before", "chair", "go", "never signed"]
    references, hypotheses = (np.array([pair[k] for pair in pairs]) for k in (0, 1))
    per_instance = 100 * (references == hypotheses).mean()
    per_class = 100 * np.mean([(hypotheses[references == c] == c).mean() for c in np.unique(references)])
    spelled = [f"  {names[i].upper()} " for i in hypotheses]
    result = recognition_accuracy([names[i] for i in references], spelled)
    assert result == pytest.approx((per_instance, per_class), abs=1e-9)
