"""What a run shows of itself: its log, TensorBoard's curves, and a page that needs nothing but itself."""

from __future__ import annotations

import json
import math
import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from keypoint_corpus import corpus
from tiny_runs import config

from signet_runtime.errors import InputError
from signet_train.cli import main
from signet_train.evaluation.predictions import Prediction, write_predictions
from signet_train.report.curves import curves
from signet_train.report.page import write_page
from signet_train.stages.run import run_stage


class _Page(HTMLParser):
    """All tags with their attributes, and all text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stage III on two experts, a few epochs."""
    root = tmp_path_factory.mktemp("report")
    manifest = corpus(root / "data", splits=("train",) * 8 + ("dev",) * 4)
    experts = []
    for name in ("one", "two"):
        run_stage(config("pretrain", manifest, optimisation={"epochs": 1}), root / name, "cpu")
        experts.append(root / name / "best")
    settings = config(
        "finetune", manifest, experts=experts, start_from=experts[0], optimisation={"epochs": 4, "batch_size": 4}
    )
    run_stage(settings, root / "tuned", "cpu")
    return root / "tuned"


def test_a_validation_tells_loss_scores_samples_and_routing(run: Path) -> None:
    rows = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    validations = [row for row in rows if "bleu4" in row]
    assert [row["step"] for row in validations] == [2, 4, 6, 8]
    for row in validations:
        assert math.isfinite(row["validation_loss"]) and row["cer"] >= 0
        assert [sample.keys() for sample in row["samples"]] == [{"id", "reference", "hypothesis"}] * 4
        for k, shares in row["routing"]["gsg"].items():
            assert len(shares) == 2 and sum(shares) == pytest.approx(1, abs=2e-4)
            assert k != "1" or {round(4 * share, 6) % 1 for share in shares} == {0.0}  # one expert a clip, of four


def test_tensorboard_itself_reads_what_was_written(run: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run / "tensorboard")).Reload()
    assert {"validation_loss", "bleu4", "cer", "loss", "lr", "routing/gsg/k=2/expert 0"} <= set(
        events.Tags()["scalars"]
    )
    assert [event.step for event in events.Scalars("validation_loss")] == [2, 4, 6, 8]
    assert "samples/text_summary" in events.Tags()["tensors"]


def test_the_page_is_whole_in_itself(run: Path) -> None:
    text = (run / "report.html").read_text(encoding="utf-8")
    page = _Page(text)
    assert not {"script", "link", "img", "iframe", "object"} & {tag for tag, _ in page.tags}
    assert not [attributes for _, attributes in page.tags if {"src", "href", "data"} & attributes.keys()]
    assert "http" not in re.sub(r"http-equiv", "", text) and "@import" not in text and "url(" not in text
    assert ("meta", {"http-equiv": "refresh", "content": "10"}) not in page.tags  # it is finished
    for word in ("Stage III", "What it writes", "Where the router sends them", "clip08", "rain", "What it cost"):
        assert word in page.text, word
    assert "optimisation.epochs 4" in page.text
    drawings = re.findall(r"<svg.*?</svg>", text, re.DOTALL)
    assert {ET.fromstring(d).attrib["aria-label"] for d in drawings} >= {"loss", "BLEU-4", "learning rate"}


def test_the_page_of_a_run_that_goes_on_loads_itself_again(run: Path, tmp_path: Path) -> None:
    rows = (run / "log.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "run.json").write_bytes((run / "run.json").read_bytes())
    (tmp_path / "log.jsonl").write_text("".join(rows[:2]) + rows[2][:20])  # and its last line is half written
    done = CliRunner().invoke(main, ["report", str(tmp_path)])
    assert done.exit_code == 0 and done.stdout.strip() == str(tmp_path / "report.html")
    page = _Page((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert ("meta", {"http-equiv": "refresh", "content": "10"}) in page.tags
    assert "4 of 8 steps, going on" in page.text


def test_texts_are_texts_and_no_markup(run: Path, tmp_path: Path) -> None:
    for name in ("run.json", "log.jsonl"):
        (tmp_path / name).write_bytes((run / name).read_bytes())
    hostile = {"id": "x", "reference": "<script>alert(1)</script>", "hypothesis": "a & b"}
    with (tmp_path / "log.jsonl").open("a") as log:
        log.write(json.dumps({"step": 8, "seconds": 1, "bleu4": 1.0, "samples": [hostile]}) + "\n")
    page = _Page(write_page(tmp_path).read_text(encoding="utf-8"))
    assert "script" not in {tag for tag, _ in page.tags}
    assert "<script>alert(1)</script>" in page.text and "a & b" in page.text


@pytest.mark.parametrize("classes", [4, 40])
def test_glosses_that_are_mixed_up_are_shown(run: Path, tmp_path: Path, classes: int) -> None:
    description = json.loads((run / "run.json").read_text())
    description["config"]["task"] = "recognise"
    (tmp_path / "run.json").write_text(json.dumps({**description, "metric": "per_instance"}))
    rng = np.random.default_rng(classes)
    found = [Prediction(str(i), f"G{i % classes}", f"G{rng.integers(classes)}") for i in range(5 * classes)]
    write_predictions(tmp_path / "validation.jsonl", found)
    (tmp_path / "log.jsonl").write_text(json.dumps({"step": 8, "seconds": 1, "per_instance": 1.0}) + "\n")
    page = _Page(write_page(tmp_path).read_text(encoding="utf-8"))
    assert "Which glosses are mixed up" in page.text
    # A square where it can be read, with a column for each gloss; else the pairs.
    assert ("is ↓, read as →" in page.text) == (classes == 4)
    assert ("times" in page.text) == (classes == 40)


def test_no_run_is_said_in_a_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no run\.json in it: give the directory of a run"):
        write_page(tmp_path)
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(InputError, match="not JSON, or a damaged one"):
        write_page(tmp_path)


def _points(drawing: str) -> list[list[float]]:
    lines = [e for e in ET.fromstring(drawing).iter() if e.tag.endswith("polyline")]
    return [[float(x) for pair in line.attrib["points"].split() for x in pair.split(",")] for line in lines]


@pytest.mark.parametrize("seed", range(8))
def test_curves_stay_in_their_picture_whatever_the_values(seed: int) -> None:
    rng = np.random.default_rng(seed)
    scale = 10.0 ** rng.integers(-9, 9)
    values = rng.normal(rng.normal(0, 10), 1, rng.integers(1, 2000)) * scale
    drawing = curves("a < b", {"x": [(i, float(v)) for i, v in enumerate(values)], "flat": [(0, 0.0), (9, 0.0)]})
    for points in _points(drawing):
        assert all(0 <= x <= 460 for x in points[::2]) and all(0 <= y <= 240 for y in points[1::2])
        assert len(points) <= 2 * 402


def test_curves_of_nothing() -> None:
    nothing: list[dict[str, Any]] = [{}, {"a": []}, {"a": [(1, math.nan), (2, math.inf)]}]
    assert [curves("t", lines) for lines in nothing] == [""] * 3
    assert len(_points(curves("t", {"a": [(1, math.nan), (2, 3.0)]}))[0]) == 2


@pytest.mark.parametrize(
    ("metric", "values", "step"), [("bleu4", [1.0, 3.0, 3.0, 2.0], 6), ("info_nce", [2.0, 1.0], 4)]
)
def test_the_best_is_the_checkpoint_that_was_kept(
    run: Path, tmp_path: Path, metric: str, values: list[float], step: int
) -> None:
    description = json.loads((run / "run.json").read_text())
    (tmp_path / "run.json").write_text(json.dumps({**description, "metric": metric}))
    rows = [{"step": 2 * i, "seconds": i, metric: value} for i, value in enumerate(values, 1)]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    page = _Page(write_page(tmp_path).read_text(encoding="utf-8"))
    best = min(values) if metric == "info_nce" else max(values)
    assert f"best {metric} {best:.4g} at step {step}" in page.text
