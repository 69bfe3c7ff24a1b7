"""The transfer study trains what it says, compares pairs by their doubt, and goes on where it was stopped."""

from __future__ import annotations

import csv
import gzip
import json
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from benchmarks.ablations.scores import Difference, Results, Trial, difference
from benchmarks.ablations.variants import DIFFERENCES, AuthorsWay, full, single, variants
from benchmarks.ablations.verdicts import greater, same, weakest
from benchmarks.ablations.world import WORLDS, load_world, manifests, subsample
from benchmarks.transfer import main
from signet_runtime.errors import ConfigError
from signet_train.data.manifest import Row, read_manifest, write_manifest
from signet_train.data.spelled.corpus import spelling_rows
from signet_train.evaluation.metrics import character_error_rate

TINY = """
seeds = [1]
mixed = ["gsg"]
related = { swl = "a" }
shares = [50, 100]
note = "Two experts, four words."
[experts]
a = ["ase"]
b = ["gsg"]
[tasks]
gsg = ["gsg"]
swl = ["swl"]
[corpus]
pretraining = ["words.jsonl"]
downstream = ["words.jsonl"]
[model.backbone]
input_channels = 4
spatial_channels = [4, 8]
temporal_channels = [8]
embedding = 16
[model.language_model]
vocab_size = 192
d_model = 16
d_kv = 8
d_ff = 32
num_layers = 1
num_heads = 2
dropout = 0.0
[model.fusion]
query_hidden = 8
router_hidden = 8
[data]
frame_rate = 6.25
workers = 0
[card]
num_beams = 1
max_new_tokens = 4
[optimisation.pretrain]
epochs = 1
batch_size = 8
accumulation = 1
[optimisation.align]
epochs = 1
batch_size = 8
accumulation = 1
[optimisation.finetune]
epochs = 1
batch_size = 8
accumulation = 1
"""


TEST_WORDS = 12


def some_words(path: Path) -> None:
    """A manifest of three alphabets with few words in every split."""
    few = {"train": 16, "dev": 6, "test": TEST_WORDS}
    kept: list[Row] = []
    for sign_language in ("ase", "gsg", "swl"):
        rows = list(spelling_rows((sign_language,), max_letters=3, words_each=16, redrawn=None, seed=0))
        for split, count in few.items():
            kept += [row for row in rows if row.split == split][:count]
    write_manifest(path, kept)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("study")
    some_words(out / "words.jsonl")
    (out / "tiny.toml").write_text(TINY.replace("words.jsonl", str(out / "words.jsonl")))
    result = CliRunner().invoke(main, ["--world", str(out / "tiny.toml"), "--out", str(out / "runs")])
    assert result.exit_code == 0, result.output + repr(result.exception)
    return out


def test_a_whole_study_ends_in_a_report(study: Path) -> None:
    report = (study / "runs" / "report.md").read_text()
    assert "Two experts, four words." in report
    for number in (6, 7, 8, 9, 10, 15):
        assert f"### Table {number}" in report
    assert all(f"### {title}" in report for title in ("Figure 4", "Figure 5", "Zero-shot"))
    assert "not run" not in report
    assert f"seen by none | 16 | 6 | {TEST_WORDS} |" in re.sub(" +", " ", report)  # swl's clips
    assert report.count("**not identifiable here**") == 2  # each language has one signer
    assert "another alone less the related one alone, frozen: " in report
    assert "tasks that gained nothing in the last step: " in report
    for picture in ("pairs.png", "pretraining.png"):
        assert (study / "runs" / picture).stat().st_size > 5000


def test_every_figure_comes_from_a_run_whose_configuration_seed_and_log_are_kept(study: Path) -> None:
    with gzip.open(study / "runs" / "runs.jsonl.gz", "rt") as file:
        runs = {record["run"]: record for record in map(json.loads, file)}
    world = load_world(study / "tiny.toml")
    for task in world.tasks:
        for variant in variants(world, task):
            run = runs[f"seed-1/{task}/{variant.name}"]
            assert run["seed"] == run["finetune"]["config"]["seed"] == 1
            assert ("align" in run) == variant.aligned
            assert [line for line in run["finetune"]["log"] if "bleu4" in line]
            trials = run["tests"][task]["trials"]
            assert all(len(t["hypotheses"]) == TEST_WORDS for t in trials)
            if variant.routed:
                weights = np.array(trials[0]["weights"])
                assert (
                    weights.shape == (TEST_WORDS, 2)
                    and np.allclose(weights.sum(1), 1)
                    and ((weights > 0).sum(1) == 1).all()
                )
    assert {run for run in runs if "/experts-100/" in run} == {"seed-1/experts-100/a", "seed-1/experts-100/b"}


def test_what_the_authors_do_otherwise_is_trained_so(study: Path) -> None:
    with gzip.open(study / "runs" / "runs.jsonl.gz", "rt") as file:
        runs = {record["run"]: record for record in map(json.loads, file)}
    whole = full(load_world(study / "tiny.toml"), "gsg")

    def settings(what: AuthorsWay | None, stage: str) -> dict[str, Any]:
        return runs[f"seed-1/gsg/{replace(whole, as_authors=what).name}"][stage]["config"]

    for what in (*DIFFERENCES, None):
        align, finetune = settings(what, "align"), settings(what, "finetune")
        for stage in (align, finetune):
            fusion = stage["model"]["fusion"]
            assert fusion["router_hidden"] == (4 if what in ("router", "all") else 8)
            assert fusion.get("adapter_start") == ("redrawn" if what in ("adapters", "all") else None)
            assert fusion.get("attention_dropout") == (0.1 if what in ("dropout", "all") else None)
            assert fusion.get("adapter_rank") == (0 if what == "unadapted" and stage is finetune else None)
        assert align["optimisation"].get("learn_temperature") == (False if what in ("temperature", "all") else None)
        assert "prompt" not in align["model"]["language_model"]
        assert ("prompt" in finetune["model"]["language_model"]) is (what in ("prompt", "all"))
    report = (study / "runs" / "report.md").read_text()
    assert report.count("As in the authors' code, ") == len(DIFFERENCES)
    assert "which differences matter" in report


def test_of_the_authors_alone_nothing_else_is_trained(study: Path) -> None:
    """And what is there already is taken: the whole study goes on from it, and it from the whole study."""
    out = study / "runs"
    before = set(out.rglob("test.json"))
    written = {name: (out / name).read_bytes() for name in ("report.md", "scores.csv", "runs.jsonl.gz")}
    try:
        result = CliRunner().invoke(main, ["--world", str(study / "tiny.toml"), "--out", str(out), "--authors"])
        assert result.exit_code == 0 and " min left " not in result.stderr
        report = (out / "report.md").read_text()
    finally:
        for name, content in written.items():
            (out / name).write_bytes(content)
    assert set(out.rglob("test.json")) == before
    expected = 2 + 2 * (1 + len(DIFFERENCES))  # experts, and each task as the paper has it and otherwise
    assert f"{expected} of {expected} trainings" in report
    assert report.count("As in the authors' code, ") == len(DIFFERENCES)
    assert "Table 6" not in report and ".png" not in report


def test_the_scores_are_those_of_what_was_written(study: Path) -> None:
    with gzip.open(study / "runs" / "runs.jsonl.gz", "rt") as file:
        runs = {record["run"]: record for record in map(json.loads, file)}
    with open(study / "runs" / "scores.csv", newline="") as file:
        rows = {(r["task"], r["variant"], r["k"], r["masked"]): r for r in csv.DictReader(file)}
    variant = full(load_world(study / "tiny.toml"), "swl").name
    found = runs[f"seed-1/swl/{variant}"]["tests"]["swl"]
    for trial in found["trials"]:
        masked = "" if trial["masked"] is None else "ab"[trial["masked"]]
        row = rows["swl", variant, str(trial["k"]), masked]
        rate = character_error_rate(found["references"], trial["hypotheses"])
        assert float(row["characters wrong, %"]) == pytest.approx(100 * rate, abs=0.006)
        assert row["BLEU-1"] and row["seeds"] == "1" and row["characters wrong, % ±"] == ""


def test_a_masked_expert_is_never_chosen(study: Path) -> None:
    world = load_world(study / "tiny.toml")
    results = Results(study / "runs", world.seeds)
    for masked in (0, 1):
        trial = results.get("swl", full(world, "swl"), 1, masked)[1]
        assert trial.weights is not None
        assert (trial.weights[:, masked] == 0).all() and (trial.weights[:, 1 - masked] == 1).all()


def test_what_is_finished_is_not_done_again(study: Path) -> None:
    out = study / "runs"
    one = out / "seed-1" / "swl" / single("a").name / "test.json"
    before = {path: path.stat().st_mtime_ns for path in out.rglob("test.json")}
    text = one.read_text()
    one.unlink()
    result = CliRunner().invoke(main, ["--world", str(study / "tiny.toml"), "--out", str(out)])
    assert result.exit_code == 0 and result.stderr.count(" min left ") == 1
    assert one.read_text() == text
    after = {path: path.stat().st_mtime_ns for path in out.rglob("test.json")}
    assert {path for path in before if before[path] != after[path]} == {one}


# --- The comparison -----------------------------------------------------------------------------------------


def trial(wrong: np.ndarray) -> Trial:
    """Words of three letters, so many of each wrong."""
    return Trial(("abc",) * len(wrong), tuple("x" * n + "abc"[n:] for n in wrong), None, np.nan, np.nan)


def test_a_difference_is_of_error_rates_and_its_doubt_covers_the_truth() -> None:
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(60):  # two variants of which one truly makes 10 points more errors
        seeds = {s: (rng.binomial(3, 0.3, 80), rng.binomial(3, 0.2, 80)) for s in range(4)}
        worse, better = ({s: trial(pair[i]) for s, pair in seeds.items()} for i in (0, 1))
        found = difference([(worse, better)])
        assert found is not None
        rates = [np.mean([t.error_rate for t in one.values()]) for one in (worse, better)]
        assert found.points == pytest.approx(100 * (rates[0] - rates[1]))
        covered += found.low <= 10 <= found.high
    assert covered >= 50  # 95% of 60 are 57


def test_seeds_that_only_one_of_a_pair_has_are_left_out() -> None:
    one = {1: trial(np.ones(5, int)), 2: trial(np.zeros(5, int))}
    assert difference([(one, {1: trial(np.zeros(5, int))})]).points == pytest.approx(100 / 3)  # type: ignore[union-attr]
    assert difference([(one, {3: trial(np.zeros(5, int))})]) is None
    assert difference([]) is None


def test_verdicts() -> None:
    assert greater(Difference(3, 1, 5)) == "supported"
    assert greater(Difference(-3, -5, -1)) == "not supported"
    assert greater(Difference(1, -1, 3)) == "too close to call"
    assert same(Difference(0, -1, 1)) == "supported"
    assert same(Difference(5, 3, 7)) == "not supported"
    assert same(Difference(1, -1, 3)) == "too close to call"
    assert greater(None) == same(None) == "not run"
    assert weakest(["supported", "too close to call"]) == "too close to call"
    assert weakest(["supported", "too close to call", "not supported"]) == "not supported"


# --- The world ----------------------------------------------------------------------------------------------


def test_the_worlds_that_come_with_it_can_be_read() -> None:
    for path in WORLDS.glob("*.toml"):
        world = load_world(path)
        seen = [language for expert in world.experts.values() for language in expert]
        assert len(seen) == len(set(seen))  # disjoint
        for task in world.tasks:
            names = [variant.name for variant in variants(world, task)]
            assert len(names) == len(set(names))


def test_the_world_in_the_documentation_can_be_read(tmp_path: Path) -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "transfer.md").read_text()
    (tmp_path / "world.toml").write_text(page.split("```toml\n")[1].split("```")[0])
    world = load_world(tmp_path / "world.toml")
    assert world.matched("news") == "csl" and world.matched("dgs") is None
    assert manifests(world, tmp_path).downstream[0] == Path("data/phoenix14t.parquet")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"experts": {"a": ["ase"]}}, "1 experts"),
        ({"shares": [25, 50]}, "100 must be among them"),
        ({"mixed": ["zzz"]}, "zzz is no task"),
        ({"related": {"swl": "c"}}, "c is no expert"),
        ({"related": {"gsg": "b"}}, "has seen gsg"),
        ({"epochs": 3}, "epochs: there is no such setting"),
        ({"seeds": "all"}, "seeds"),
    ],
)
def test_a_world_that_does_not_fit_is_one_line(tmp_path: Path, change: dict, message: str) -> None:
    path = tmp_path / "world.toml"
    path.write_text(TINY)
    with pytest.raises(ConfigError, match=message):
        load_world(path, change)
    path.write_text("[experts\n")
    with pytest.raises(ConfigError, match="not TOML"):
        load_world(path)
    result = CliRunner().invoke(main, ["--world", str(path), "--out", str(tmp_path)])
    assert result.exit_code == 4 and result.stderr.startswith("transfer: error: ") and result.stderr.count("\n") == 1


def test_spelled_words_are_split_as_the_world_says(tmp_path: Path) -> None:
    spelled = {"pretraining": 5, "downstream": 3, "max_letters": 3}
    (tmp_path / "tiny.toml").write_text(TINY)
    world = load_world(tmp_path / "tiny.toml", {"corpus": spelled})
    made = manifests(world, tmp_path)
    counts = Counter((row.sign_language, row.split) for row in read_manifest(made.downstream[0]).rows)
    assert counts == {(s, split): n for s in ("gsg", "swl") for split, n in (("train", 3), ("dev", 50), ("test", 100))}
    texts = {split: set() for split in ("train", "test")}  # type: ignore[var-annotated]
    for row in [row for path in (*made.pretraining, *made.downstream) for row in read_manifest(path).rows]:
        if row.split in texts and row.sign_language in ("gsg", "swl"):
            texts[row.split].add((row.sign_language, row.text))
    assert not texts["train"] & texts["test"]
    before = made.downstream[0].stat().st_mtime_ns
    assert manifests(world, tmp_path) == made and made.downstream[0].stat().st_mtime_ns == before
    assert world.spelled and not load_world(tmp_path / "tiny.toml").spelled


def test_a_share_keeps_so_many_of_each_languages_training_rows(tmp_path: Path) -> None:
    rows = [
        Row(id=f"{s}{i}", split="dev" if i < 4 else "train", poses=f"{i}.npz", text="a", language="en", sign_language=s)
        for s in ("ase", "gsg")
        for i in range(44)
    ]
    source = tmp_path / "data" / "all.jsonl"
    write_manifest(source, rows)
    (file,) = subsample((source,), 25, 1, tmp_path)
    kept = read_manifest(file).rows
    for language in ("ase", "gsg"):
        own = [row for row in kept if row.sign_language == language]
        assert sum(row.split == "train" for row in own) == 10 and sum(row.split == "dev" for row in own) == 4
    assert {row.id for row in kept} <= {row.id for row in rows}
    assert all(Path(row.poses) == tmp_path / "data" / Path(row.poses).name for row in kept)  # found from anywhere
    assert subsample((source,), 100, 1, tmp_path) == (source,)
