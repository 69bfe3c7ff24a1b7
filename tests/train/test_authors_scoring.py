"""Scores as the paper's authors print them: what is done to the texts of which corpus, and that it is said."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from rouge import Rouge
from sacrebleu.metrics import BLEU

from signet_runtime.errors import InputError
from signet_train.cli import main
from signet_train.evaluation.authors import authors_scores
from signet_train.evaluation.metrics import translation_scores

REFERENCES = ["morgen regnet es im norden", "am abend scheint die sonne", "im süden bleibt es trocken"]
HYPOTHESES = ["morgen schneit es im norden", "am abend kommt die sonne", "im westen bleibt es nass"]


def expected(references: list[str], hypotheses: list[str]) -> tuple[float, float]:
    """BLEU-4 and ROUGE-L as `translation_performance` there computes them, of what it is given."""
    bleu = BLEU(tokenize="13a", force=True).corpus_score(hypotheses, [references]).score
    return bleu, 100 * Rouge().get_scores(hypotheses, references, avg=True)["rouge-l"]["f"]


def test_phoenix_gets_a_full_stop_on_both_sides() -> None:
    scores = authors_scores(REFERENCES, HYPOTHESES, "phoenix14t")
    bleu, rouge = expected([f"{r} ." for r in REFERENCES], [f"{h} ." for h in HYPOTHESES])
    assert scores.bleu_4 == pytest.approx(bleu) and scores.rouge_l_pypi == pytest.approx(rouge)
    assert scores.bleu_4 > translation_scores(REFERENCES, HYPOTHESES, "13a").bleu_4
    assert all("scoring:authors(phoenix14t)" in line for line in scores.table().splitlines()[1:])


def test_csl_daily_is_characters_and_only_its_references_become_ascii() -> None:
    references, hypotheses = ["明天 北方，有雨？", "晚上好。"], ["明天 北方，有 雪?", "早上好。\n"]
    scores = authors_scores(references, hypotheses, "csl-daily")
    spaced = ["明 天 北 方 , 有 雨 ?", "晚 上 好 。"], ["明 天 北 方 ， 有 雪 ?", "早 上 好 。"]
    bleu, rouge = expected(*spaced)
    assert scores.bleu_4 == pytest.approx(bleu) and scores.rouge_l_pypi == pytest.approx(rouge)


@pytest.mark.parametrize("corpus", ["how2sign", "meinedgs", None])
def test_other_corpora_are_scored_as_written(corpus: str | None) -> None:
    scores = authors_scores(REFERENCES, HYPOTHESES, corpus)
    assert scores.bleu_4 == translation_scores(REFERENCES, HYPOTHESES, "13a").bleu_4
    assert f"scoring:authors({corpus or 'as written'})" in scores.table()


def test_a_full_stop_makes_no_reference_of_nothing() -> None:
    with pytest.raises(InputError, match="reference of sentence 2 is empty"):
        authors_scores(["a", ""], ["a", "b"], "phoenix14t")


def test_the_command_names_the_scoring(tmp_path: Path) -> None:
    file = tmp_path / "p.jsonl"
    pairs = zip(REFERENCES, HYPOTHESES, strict=True)
    file.write_text("".join(json.dumps({"id": r, "reference": r, "hypothesis": h}) + "\n" for r, h in pairs))

    def run(*options: str):  # type: ignore[no-untyped-def]
        return CliRunner().invoke(main, ["evaluate", "--predictions", str(file), *options])

    made = run("--scoring", "authors", "--corpus", "phoenix14t")
    assert made.exit_code == 0, made.output
    assert made.stdout.strip() == authors_scores(REFERENCES, HYPOTHESES, "phoenix14t").table()
    assert "scoring" not in run("--language", "de").stdout
    for options, message in (
        (("--corpus", "phoenix14t", "--language", "de"), "--corpus is for --predictions with --scoring authors"),
        (("--scoring", "authors", "--tokenize", "zh"), "tokenises by 13a"),
    ):
        refused = run(*options)
        assert refused.exit_code == 2 and message in refused.stderr
