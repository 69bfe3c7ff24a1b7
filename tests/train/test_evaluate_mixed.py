"""Texts of several languages are scored apart, and recognition tells what else it might have been."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from keypoint_corpus import corpus
from tiny_runs import config

from signet_train.cli import main
from signet_train.data.manifest import read_manifest, write_manifest
from signet_train.evaluation.metrics import top_accuracy
from signet_train.stages.run import run_stage


def test_chinese_and_german_are_no_one_figure(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    manifest = corpus(tmp_path / "data", splits=("train",) * 8 + ("dev",) * 4)
    rows = read_manifest(manifest).rows
    chinese = [replace(r, text="今天下雨", language="zh") if i % 2 else r for i, r in enumerate(rows)]
    write_manifest(manifest, chinese)
    settings = config("pretrain", manifest, tokenize=None, optimisation={"epochs": 1})
    run_stage(settings, tmp_path / "run", "cpu")
    assert "validation has texts in de, zh: BLEU counts characters" in caplog.text
    best = str(tmp_path / "run" / "best")
    apart = CliRunner().invoke(main, ["evaluate", best, "--split", "dev", "--device", "cpu"])
    assert apart.exit_code == 0, apart.output
    headings = [line for line in apart.stdout.splitlines() if line.startswith("--")]
    assert headings == [
        "-- texts in de, by the tokenizer 13a; --tokenize scores all by one",
        "-- texts in zh, by the tokenizer zh; --tokenize scores all by one",
    ]
    assert apart.stdout.count("tok:13a") == 4 and apart.stdout.count("tok:zh") == 4
    together = CliRunner().invoke(main, ["evaluate", best, "--split", "dev", "--device", "cpu", "--tokenize", "char"])
    assert "--" not in together.stdout and together.stdout.count("tok:char") == 4


def test_recognition_tells_its_candidates_and_their_scores(tmp_path: Path) -> None:
    manifest = corpus(tmp_path / "data", text="")
    rows = [replace(r, gloss=("HOUSE", "CAT", "TREE")[i % 3]) for i, r in enumerate(read_manifest(manifest).rows)]
    write_manifest(manifest, rows)
    run_stage(config("pretrain", manifest, task="recognise", optimisation={"epochs": 1}), tmp_path / "run", "cpu")
    out = tmp_path / "found.jsonl"
    arguments = ["evaluate", str(tmp_path / "run" / "best"), "--device", "cpu", "--beams", "4", "--out", str(out)]
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 0, done.output
    assert "top-4, of the 4 best that the search finds" in done.stdout
    for line in out.read_text().splitlines():
        found = json.loads(line)
        texts, scores = zip(*found["candidates"], strict=True)
        assert len(texts) == 4 and texts[0] == found["hypothesis"]
        assert list(scores) == sorted(scores, reverse=True) and all(score < 0 for score in scores)
    # What was written is read again.
    again = CliRunner().invoke(main, ["evaluate", "--predictions", str(out), "--task", "recognise"])
    assert again.exit_code == 0 and again.stdout == done.stdout


def test_top_accuracy_by_hand() -> None:
    references, candidates = ["A", "b ", "C", "D"], [["a", "x"], ["x", "B"], ["x", "y"], []]
    assert [top_accuracy(references, candidates, count) for count in (1, 2)] == [25.0, 50.0]
