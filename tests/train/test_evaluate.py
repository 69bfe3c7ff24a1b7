"""`signet-train evaluate`: a checkpoint's text and its scores, or those of a file that exists."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import sacrebleu
from click.testing import CliRunner
from tiny_runs import words

from signet_train.checkpoint import demo_checkpoint_path
from signet_train.cli import main
from signet_train.evaluation.predictions import Prediction, read_predictions, write_predictions


def figures(output: str) -> dict[str, float]:
    """Name -> figure; a line is a name, a figure and how it was computed."""
    found = {}
    for line in output.splitlines():
        name, rest = line[:12].strip(), line[12:].split()
        found[name] = float(rest[0])
    return found


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return words(tmp_path_factory.mktemp("data") / "words.jsonl", train=2, dev=8)


def test_a_checkpoint_writes_predictions_and_the_file_scores_the_same(manifest: Path, tmp_path: Path) -> None:
    out = tmp_path / "p.jsonl"
    arguments = ["evaluate", str(demo_checkpoint_path()), "--manifest", str(manifest), "--split", "dev"]
    arguments += ["--out", str(out), "--tokenize", "char", "--device", "cpu"]
    first = CliRunner().invoke(main, arguments)
    assert first.exit_code == 0, first.stderr
    predictions = read_predictions(out)
    assert [p.id for p in predictions] == [f"{s}-{i:05}" for s in ("ase", "gsg") for i in range(2, 10)]
    assert figures(first.stdout)["CER"] < 15  # the demo reads words it has not seen
    again = CliRunner().invoke(main, ["evaluate", "--predictions", str(out), "--tokenize", "char"])
    assert again.stdout == first.stdout


def test_figures_are_sacrebleus_and_its_signature_stands_beside_them(tmp_path: Path) -> None:
    references = ["am tag wechseln sonne und wolken einander ab .", "morgen regnet es im norden ."]
    hypotheses = ["am tag sonne und wolken im wechsel .", "morgen regnet es im norden ."]
    pairs = zip(references, hypotheses, strict=True)
    write_predictions(tmp_path / "p.jsonl", [Prediction(str(i), r, h) for i, (r, h) in enumerate(pairs)])
    result = CliRunner().invoke(main, ["evaluate", "--predictions", str(tmp_path / "p.jsonl"), "--language", "de"])
    assert result.exit_code == 0, result.stderr
    bleu = sacrebleu.corpus_bleu(hypotheses, [references]).score
    assert figures(result.stdout)["BLEU-4"] == pytest.approx(bleu, abs=0.005)
    assert "tok:13a" in result.stdout and "version:" in result.stdout


def test_plain_text_is_scored_against_references(tmp_path: Path) -> None:
    (tmp_path / "h.txt").write_text("你好 吗\n再见\n", encoding="utf-8")
    (tmp_path / "r.txt").write_text("你好吗\n再见了\n", encoding="utf-8")
    arguments = ["evaluate", "--predictions", str(tmp_path / "h.txt"), "--references", str(tmp_path / "r.txt")]
    result = CliRunner().invoke(main, [*arguments, "--language", "zh"])
    assert result.exit_code == 0, result.stderr
    assert "tok:zh" in result.stdout


def test_recognition_is_scored_by_instance_and_class(tmp_path: Path) -> None:
    rows = [("a", "book", "book"), ("b", "book", "drink"), ("c", "drink", "Drink")]
    write_predictions(tmp_path / "p.jsonl", [Prediction(*row) for row in rows])
    result = CliRunner().invoke(main, ["evaluate", "--predictions", str(tmp_path / "p.jsonl"), "--task", "recognise"])
    assert [line.split()[1] for line in result.stdout.splitlines()] == ["66.67", "75.00"]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ([], 2, "give a CHECKPOINT, or a file by --predictions"),
        (["{tmp}", "--predictions", "{tmp}/p.jsonl"], 2, "give a CHECKPOINT"),
        (["--predictions", "{tmp}/p.jsonl"], 2, "needs --language"),
        (["--predictions", "{tmp}/p.jsonl", "--language", "de"], 3, "p.jsonl"),
        (["{tmp}"], 4, "not a checkpoint"),
    ],
)
def test_bad_input_is_one_line(tmp_path: Path, arguments: list[str], code: int, message: str) -> None:
    (tmp_path / "p.jsonl").write_text('{"id": "a"}\n')
    result = CliRunner().invoke(main, ["evaluate", *(a.format(tmp=tmp_path) for a in arguments)])
    assert result.exit_code == code
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def test_a_checkpoint_that_was_trained_in_bf16_is_evaluated_on_a_cpu(manifest: Path, tmp_path: Path) -> None:
    checkpoint = tmp_path / "trained"
    shutil.copytree(demo_checkpoint_path(), checkpoint)
    settings = json.loads((checkpoint / "config.json").read_text())
    settings["optimisation"]["precision"] = "bf16"
    (checkpoint / "config.json").write_text(json.dumps(settings))
    arguments = ["evaluate", str(checkpoint), "--manifest", str(manifest), "--split", "dev", "--tokenize", "char"]
    result = CliRunner().invoke(main, [*arguments, "--device", "cpu", "--beams", "1"])
    assert result.exit_code == 0, result.stderr
    assert figures(result.stdout)["CER"] < 15
